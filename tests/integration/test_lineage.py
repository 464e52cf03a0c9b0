"""OpenLineage events of builds and materializations, as a server that receives them sees them."""

import contextlib
import json
import logging
import os
import socket
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from feast import FeatureView, Field
from feast.types import Int64
from openlineage.client.transport import Transport, get_default_factory

from dataset_repo import frame, make_repo
from engine_repo import engine_repo, hours_ago, table
from hindcast import lineage
from hindcast.datasets import TrainingSets
from hindcast.errors import SourceError, UnknownName
from hindcast.lineage import LineageRun, LineageSettings, Sender, lineage_settings
from hindcast.materialize.plugin import replace_view
from offline_repo import DRIVER, hours, source, trips, write
from services import Stopwatch, wait_for

LATER = hours(24 * 365)


class Receiver:
    """A server that keeps the events that are posted to it."""

    def __init__(self):
        self.events = []
        kept = self.events

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append((self.path, json.loads(body)))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments):
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self):
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of_job(self, name):
        """The events of a job."""
        return [event for _, event in self.events if event["job"]["name"] == name]


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """No setting of OpenLineage but a test's own, from any place; the client puts more of them there."""
    before = {name: value for name, value in os.environ.items() if name.startswith("OPENLINEAGE")}
    for name in before:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield monkeypatch
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        del os.environ[name]


@pytest.fixture
def receiver(environment):
    """A receiver that the environment names, for which a build waits as long as that takes."""
    environment.setattr(lineage, "FLUSH_SECONDS", 60.0)
    running = Receiver()
    environment.setenv("OPENLINEAGE_URL", running.url)
    yield running
    running.close()


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo; tests give their sets names of their own."""
    root = tmp_path_factory.mktemp("lineage") / "repo"
    make_repo(root)
    return root


def build(root, name, **options):
    given = {"features": "rides", "entity_frame": frame(), "known_at": LATER, "register": False, **options}
    return TrainingSets(root).build(name, **given)


def test_a_build_tells_its_start_and_its_end(repo, receiver):
    """A build sends START and COMPLETE of one run with its sources and their versions, and the set with its schema, digest, place and rows."""
    write(
        repo / "data/labels.parquet",
        trips((1, 1, 0), (2, 3, 0)).rename_columns(["driver_id", "event_timestamp", "amount"]),
    )
    made = build(repo, "told", entity_frame=repo / "data/labels.parquet")
    began, ended = receiver.of_job("build_training_set_told")
    assert [("START", "COMPLETE"), True] == [
        (began["eventType"], ended["eventType"]),
        began["run"]["runId"] == ended["run"]["runId"],
    ]
    assert {"/api/v1/lineage"} == {path for path, _ in receiver.events}
    assert ["trips", "ratings"] == [one["name"] for one in began["inputs"]]
    first, second, labels = ended["inputs"]
    assert ("rides", "trips", "data/trips.parquet") == (
        first["namespace"],
        first["name"],
        first["facets"]["dataSource"]["uri"],
    )
    assert [("driver_id", "Int64"), ("rating", "Float64")] == [
        (field["name"], field["type"]) for field in second["facets"]["schema"]["fields"]
    ]
    assert ("file", str(repo / "data/labels.parquet"), made.manifest.frame.digest) == (
        labels["namespace"],
        labels["name"],
        labels["facets"]["version"]["datasetVersion"],
    )
    (output,) = ended["outputs"]
    facets = output["facets"]
    assert ("training_set_told", made.digest, made.path.as_uri()) == (
        output["name"],
        facets["version"]["datasetVersion"],
        facets["dataSource"]["uri"],
    )
    assert [(column.name, column.type) for column in made.manifest.columns] == [
        (field["name"], field["type"]) for field in facets["schema"]["fields"]
    ]
    assert {"hindcast.id": made.id, "hindcast.ref": "told@v1"} == {
        tag["key"]: tag["value"] for tag in facets["tags"]["tags"]
    }
    assert (2, 1) == tuple(output["outputFacets"]["outputStatistics"][key] for key in ("rowCount", "fileCount"))


def test_versions_of_sources_follow_their_files(repo, receiver, tmp_path):
    """The version of a source in the events is another one after its file changed, and that of the set with it."""
    root = tmp_path / "repo"
    make_repo(root)
    build(root, "one")
    write(root / "data/trips.parquet", trips((1, 0, 11)))
    build(root, "one")
    ended = [event for event in receiver.of_job("build_training_set_one") if event["eventType"] == "COMPLETE"]
    versions = [
        [one["facets"]["version"]["datasetVersion"] for one in [*event["inputs"], *event["outputs"]]] for event in ended
    ]
    assert [False, True, False] == [one == other for one, other in zip(*versions, strict=True)]


def test_a_build_that_fails_says_why(repo, receiver, tmp_path):
    """A build that fails sends FAIL with our own words, one that was stopped by hand ABORT, and one of features that are not there nothing."""
    root = tmp_path / "repo"
    make_repo(root)
    (root / "data/trips.parquet").unlink()
    with pytest.raises(SourceError) as caught:
        build(root, "failed")

    def stop(_progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(repo, "stopped", on_progress=stop)
    with pytest.raises(UnknownName):
        build(repo, "unknown", features="nothing")
    failed, stopped = (receiver.of_job(f"build_training_set_{name}") for name in ("failed", "stopped"))
    facet = failed[1]["run"]["facets"]["errorMessage"]
    assert (["START", "FAIL"], str(caught.value)) == ([event["eventType"] for event in failed], facet["message"])
    assert ["START", "ABORT"] == [event["eventType"] for event in stopped]
    assert [] == receiver.of_job("build_training_set_unknown")


def test_the_repos_own_block_says_where(repo, environment, tmp_path):
    """Where feature_store.yaml has Feast's `openlineage` block with a namespace, builds use it as Feast does; `enabled: false` is off, whatever the environment says."""
    root = tmp_path / "repo"
    make_repo(root)
    settings = yaml.safe_load((root / "feature_store.yaml").read_text())
    with contextlib.closing(Receiver()) as mine, contextlib.closing(Receiver()) as other:
        environment.setenv("OPENLINEAGE_URL", other.url)
        block = {"enabled": True, "transport_type": "http", "transport_url": mine.url, "namespace": "ml"}
        (root / "feature_store.yaml").write_text(yaml.safe_dump({**settings, "openlineage": block}))
        build(root, "block")
        block["enabled"] = False
        (root / "feature_store.yaml").write_text(yaml.safe_dump({**settings, "openlineage": block}))
        build(root, "off")
        found = [(event["job"]["namespace"], event["eventType"]) for event in mine.of_job("build_training_set_block")]
    assert ([("ml/rides", "START"), ("ml/rides", "COMPLETE")], 2, []) == (found, len(mine.events), other.events)


def test_events_can_go_into_a_file(repo, environment, tmp_path):
    """An openlineage.yml with the file transport gets an event a line."""
    events = tmp_path / "events.json"
    config = {"transport": {"type": "file", "log_file_path": str(events), "append": True}}
    (tmp_path / "openlineage.yml").write_text(yaml.safe_dump(config))
    environment.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    made = build(repo, "filed")
    began, ended = (json.loads(line) for line in events.read_text().splitlines())
    assert ("START", made.digest) == (began["eventType"], ended["outputs"][0]["facets"]["version"]["datasetVersion"])


def test_nothing_is_sent_unless_somebody_asked(repo, environment):
    """Without a setting there is no sender, and the client is not imported; with OPENLINEAGE_DISABLED neither."""
    environment.setitem(sys.modules, "openlineage", None)
    assert None is lineage_settings("rides", None, environment={})
    assert None is lineage_settings(
        "rides", {"enabled": True}, environment={"OPENLINEAGE_DISABLED": "true", "OPENLINEAGE_URL": "http://x"}
    )
    assert None is lineage_settings("rides", {"enabled": False}, environment={"OPENLINEAGE_URL": "http://x"})
    build(repo, "quiet")


def test_a_missing_client_is_said_and_costs_nothing(repo, environment, caplog):
    """Where events are configured and the client is not installed, the set is built, and the log says what to install."""
    environment.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    environment.setitem(sys.modules, "openlineage.client", None)
    with caplog.at_level(logging.WARNING, logger="hindcast.lineage"):
        made = build(repo, "without")
    assert (5, True) == (made.rows, "hindcast[openlineage]" in caplog.text)


def test_a_server_that_does_not_answer_delays_no_build_for_long(repo, environment, caplog):
    """A server that takes connections and never answers costs a build the bounded wait, once for a sender, and the log says so."""
    environment.setattr(lineage, "FLUSH_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with caplog.at_level(logging.WARNING, logger="hindcast.lineage"):
            made = build(repo, "late")
        assert (5, True) == (made.rows, "not taken in 0.2 s" in caplog.text)
        sender = Sender(lineage_settings("rides", None))
        watch = Stopwatch()
        for number in range(20):
            with sender.told(LineageRun(job=f"view {number}", kind="MATERIALIZATION")):
                pass
        assert 2 > watch.seconds


def test_a_transport_that_fails_to_close_ends_no_sending(environment, caplog):
    """Whatever a transport raises at its end is told in the log, and what comes later is sent."""
    kept = []

    class Stubborn(Transport):
        def __init__(self, _config):
            """Nothing to set."""

        def emit(self, event):
            kept.append(event.eventType.value)

        def close(self, _timeout=-1):
            raise RuntimeError

    environment.setitem(get_default_factory().transports, "stubborn", Stubborn)
    sender = Sender(LineageSettings(namespace="rides", transport={"type": "stubborn"}))
    with caplog.at_level(logging.WARNING, logger="hindcast.lineage"):
        for number in range(2):
            with sender.told(LineageRun(job=f"view {number}", kind="MATERIALIZATION")):
                pass
        wait_for(lambda: len(kept) == 4 and "may not have been sent: RuntimeError" in caplog.text)
    assert ["START", "COMPLETE"] * 2 == kept


def applied(repo):
    repo.write("trips.parquet", table(driver_id=[1, 2], event_timestamp=[hours_ago(1)] * 2, trips=[10, 20]))
    view = FeatureView(
        name="rides",
        entities=[DRIVER],
        ttl=timedelta(days=90),
        schema=[Field(name="trips", dtype=Int64)],
        source=source("trips.parquet"),
    )
    repo.apply(DRIVER, view)


def test_a_materialization_tells_its_start_and_its_end(redis, receiver, tmp_path):
    """A run sends START and COMPLETE with its source and its version, and the online rows with the run's id and number; a failed one FAIL; a replace too."""
    with (
        contextlib.closing(redis.client()) as client,
        engine_repo(tmp_path / "repo", redis.connection_string, client) as repo,
    ):
        applied(repo)
        repo.materialize()
        replaced = replace_view(repo.root, "rides", start=None, end=None, keep_seconds=60)
        (repo.root / "trips.parquet").write_bytes(b"")
        with pytest.raises(SourceError):
            repo.materialize()
        runs = {run.run_id: run for run in repo.runs()}
        events = receiver.of_job(f"materialize_{repo.project}.rides")
    assert ["START", "COMPLETE", "START", "COMPLETE", "START", "FAIL"] == [event["eventType"] for event in events]
    ended = events[1]
    (read,), (made,) = ended["inputs"], ended["outputs"]
    assert (repo.project, "trips", "trips.parquet") == (
        read["namespace"],
        read["name"],
        read["facets"]["dataSource"]["uri"],
    )
    assert True is read["facets"]["version"]["datasetVersion"].startswith("sha256:")
    assert ("online_store_rides", 2) == (made["name"], made["outputFacets"]["outputStatistics"]["rowCount"])
    assert made["facets"]["version"]["datasetVersion"] in runs
    assert replaced.run_id == events[3]["outputs"][0]["facets"]["version"]["datasetVersion"]


def test_what_feast_tells_is_not_told_twice(redis, environment, tmp_path):
    """Where Feast's own block turns its events on, a materialization is told by Feast alone, and a replace, which Feast knows nothing of, by us."""
    environment.setattr(lineage, "FLUSH_SECONDS", 60.0)
    with contextlib.closing(Receiver()) as receiver, contextlib.closing(redis.client()) as client:
        block = {"enabled": True, "transport_type": "http", "transport_url": receiver.url}
        with engine_repo(tmp_path / "repo", redis.connection_string, client, openlineage=block) as repo:
            applied(repo)
            receiver.events.clear()
            repo.materialize()
            told = [(event["job"]["name"], event["eventType"]) for _, event in receiver.events]
            replace_view(repo.root, "rides", start=None, end=None, keep_seconds=60)
            ours = receiver.of_job(f"materialize_{repo.project}.rides")
    assert [(f"materialize_{repo.project}", "START"), (f"materialize_{repo.project}", "COMPLETE")] == told
    assert ["START", "COMPLETE"] == [event["eventType"] for event in ours]
