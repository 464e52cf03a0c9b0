"""Replays of lookups that were not the truth, or are not any more: each verdict, told by what really happened to a row."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import duckdb
import grpc
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from engine_repo import END, EngineRepo, engine_repo, hours_ago
from hindcast.catalog import KeyType
from hindcast.cli.main import cli
from hindcast.clock import system_clock, to_micros
from hindcast.errors import InvalidArgument, UnknownName
from hindcast.lookups.erase import erase
from hindcast.offline.plugin.duckdb_source import DuckDBSource
from hindcast.online.keys import entity_key_bytes, key_value_bytes, row_key, view_prefix
from hindcast.replay import Reason, Replay, prove, replay
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client, NotFound
from integration.request_rows import FEAST, HINDCAST, feast, hindcast, integer
from logged import log_directory, record_id, records
from services import HINDCAST as PROGRAM
from services import HindcastServer, held_port, run_hindcast, wait_for

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
CITY = Entity(name="city", join_keys=["city_id"], value_type=ValueType.STRING)
TTL = timedelta(hours=1)
SHORT = timedelta(seconds=2)
RIDE = RequestSource(name="ride", schema=[Field(name="distance", dtype=Float64)])


def source(name, **options):
    return FileSource(
        name=name,
        path=f"{name}.parquet",
        timestamp_field="event_ts",
        **{"created_timestamp_column": "created_ts"} | options,
    )


def view(name, fields, *, ttl=timedelta(0), entities=(DRIVER,), of=None):
    return FeatureView(
        name=name,
        entities=list(entities),
        ttl=ttl,
        schema=[
            *(Field(name=e.join_key, dtype=Int64 if e is DRIVER else String) for e in entities),
            *(Field(name=n, dtype=t) for n, t in fields.items()),
        ],
        source=of or source(name),
    )


def stats(*, more=(), ttl=timedelta(0)):
    return view("stats", {"trips": Int64, "rating": Float64, **dict.fromkeys(more, Int64)}, ttl=ttl)


FRESH = view("fresh", {"trips": Int64}, ttl=TTL, of=source("fresh", field_mapping={"raw_trips": "trips"}))
FLEETING = view("fleeting", {"trips": Int64}, ttl=SHORT)
PAIR = view("pair", {"fares": Int64}, entities=(DRIVER, CITY))
PLATFORM = view("platform", {"surge": Float64}, entities=(), of=source("platform", created_timestamp_column=""))


@on_demand_feature_view(sources=[stats(), RIDE], schema=[Field(name="fare", dtype=Float64)], mode="python")
def priced(inputs):
    return {
        "fare": [
            None if t is None or d is None else t * d for t, d in zip(inputs["trips"], inputs["distance"], strict=True)
        ]
    }


@on_demand_feature_view(sources=[stats()], schema=[Field(name="luck", dtype=Float64)], mode="pandas")
def lucky(inputs):
    import random  # noqa: PLC0415 - Feast runs the function elsewhere, by itself

    return pd.DataFrame({"luck": [random.random() for _ in inputs["trips"]]})


def views(**changed):
    """All definitions."""
    return [DRIVER, CITY, stats(**changed), FRESH, FLEETING, PAIR, PLATFORM, priced, lucky, *services()]


def services():
    alias = stats()[["trips"]].with_name("mine").with_join_key_map({"driver_id": "my_id"})
    return [
        FeatureService(name="all", features=[stats(), FRESH, PAIR, PLATFORM, priced]),
        FeatureService(name="gamble", features=[lucky]),
        FeatureService(name="aliased", features=[alias, stats()[["rating"]]]),
    ]


@dataclass
class Rows:
    """Rows of the source `stats`: driver -> rows of (event, created, trips, rating)."""

    of: dict[int, list[tuple]] = field(default_factory=dict)

    def add(self, driver, hours, trips, rating=1.5, *, created=None, event=None):
        """A row of so many hours ago, which was known a minute later."""
        event = event or hours_ago(hours)
        self.of.setdefault(driver, []).append((event, created or event + timedelta(minutes=1), trips, rating))

    def write(self, repo):
        """Make the file."""
        rows = [(driver, *row) for driver, rows in self.of.items() for row in rows]
        names = ("driver_id", "event_ts", "created_ts", "trips", "rating")
        repo.write("stats.parquet", dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


EQUAL, MISSING, NEW, LATE, CORRECTED, REMOVED, CHANGED, BITS, PUSHED, ERASED, AHEAD, NULL, LATE_FILE = range(1, 14)
NOBODY = 404


@dataclass
class Kept:
    """A repo to which all sorts of things have happened, and its server."""

    repo: EngineRepo
    server: HindcastServer

    def ask(self, features, columns, data=None, *, method=HINDCAST, metadata=()):
        """The id of a lookup, under full names."""
        request = (hindcast if method == HINDCAST else feast)(features, columns, data or {}, full=True)
        with grpc.insecure_channel(self.server.address) as channel:
            _, ended = channel.unary_unary(method).with_call(request, timeout=60, metadata=metadata)
        return dict(ended.trailing_metadata())["hindcast-lookup-id"]

    def push(self, view, to="online", **row):
        """Push a row."""
        with Client(self.server.address) as client:
            keys = [name for name in ("driver_id", "city_id") if name in row]
            client.push(feature_view=view, rows=[row], join_keys=keys, event_timestamp="at", to=to)

    def erase(self, view, driver):
        """Delete a row from Redis."""
        key = entity_key_bytes(("driver_id",), (key_value_bytes(integer(driver), KeyType.INT64),))
        assert self.repo.redis.delete(row_key(view_prefix(self.repo.project, view), key)) == 1

    def command(self, *arguments, exit_code=0):
        """What `hindcast replay …` prints, run in this process, which has loaded Feast already."""
        done = CliRunner().invoke(cli, ["replay", *map(str, arguments), "--repo", str(self.repo.root)])
        assert exit_code == done.exit_code, done.output
        return done.stderr if exit_code == 2 else done.stdout


def drivers(*ids):
    return {"driver_id": [integer(driver) for driver in ids]}


def reasons(found: Replay, name):
    """The verdicts of a column, row by row."""
    return [cell.verdict.reason for cell in found.cells if cell.name == name]


def now_reasons(found, name):
    return [cell.now_verdict.reason for cell in found.cells if cell.name == name]


@pytest.fixture(scope="module")
def kept(tmp_path_factory, redis) -> Iterator[Kept]:
    """Rows are materialized, then their source changes in all the ways that sources do."""
    root = tmp_path_factory.mktemp("kept") / "repo"
    with redis.client() as client, engine_repo(root, redis.connection_string, client) as repo:
        rows = Rows()
        for driver in range(1, 14):
            if driver != PUSHED:
                rows.add(driver, 5, driver)
        rows.of[NULL][0] = (*rows.of[NULL][0][:2], None, None)
        rows.of[BITS][0] = (*rows.of[BITS][0][:3], -0.0)
        rows.write(repo)
        repo.write(
            "fresh.parquet",
            {
                "driver_id": [1, 2],
                "event_ts": [hours_ago(0.1), hours_ago(2)],
                "created_ts": [hours_ago(0.1), hours_ago(2)],
                "raw_trips": [1, 2],
            },
        )
        repo.write(
            "fleeting.parquet",
            {"driver_id": [1], "event_ts": [hours_ago(9)], "created_ts": [hours_ago(9)], "trips": [1]},
        )
        repo.write(
            "pair.parquet",
            {
                "driver_id": [1, 12],
                "city_id": ["23", "3"],
                "event_ts": [hours_ago(5)] * 2,
                "created_ts": [hours_ago(5)] * 2,
                "fares": [7, 8],
            },
        )
        repo.write("platform.parquet", {"event_ts": [hours_ago(6), hours_ago(5)], "surge": [1.0, 2.0]})
        repo.apply(*views())
        repo.materialize()
        rows.add(NEW, 0, 100, event=END + timedelta(microseconds=1), created=END + timedelta(microseconds=1))
        rows.add(LATE, 1, 100, created=datetime.now(UTC))
        rows.add(LATE_FILE, 1, 100)
        rows.add(CORRECTED, 5, 100, created=datetime.now(UTC))
        del rows.of[REMOVED], rows.of[MISSING]
        rows.of[CHANGED][0] = (*rows.of[CHANGED][0][:2], 100, 1.5)
        rows.of[BITS][0] = (*rows.of[BITS][0][:3], 0.0)
        rows.write(repo)
        with run_hindcast(repo.root, "--workers", "1") as server:
            kept = Kept(repo, server)
            for driver in (ERASED, MISSING):
                kept.erase("stats", driver)
            kept.push("stats", driver_id=PUSHED, trips=5, rating=0.5, at=hours_ago(1))
            kept.push("stats", driver_id=AHEAD, trips=5, rating=0.5, at=datetime.now(UTC) + timedelta(minutes=2))
            yield kept


@pytest.fixture(scope="module")
def asked(kept) -> str:
    """One lookup of all drivers."""
    return kept.ask(
        ["stats:trips", "stats:rating"], drivers(*range(1, 14), NOBODY), metadata=(("x-request-id", "everyone"),)
    )


WHY = {
    EQUAL: Reason.EQUAL,
    MISSING: Reason.EQUAL,
    NEW: Reason.NOT_YET_MATERIALIZED,
    LATE: Reason.LATE_ROW,
    CORRECTED: Reason.CORRECTION,
    REMOVED: Reason.NOT_IN_SOURCE,
    CHANGED: Reason.SOURCE_CHANGED,
    BITS: Reason.EQUAL,
    PUSHED: Reason.PUSHED,
    ERASED: Reason.ROW_ERASED,
    AHEAD: Reason.DATED_AHEAD,
    NULL: Reason.EQUAL,
    LATE_FILE: Reason.LATE_ROW,
    NOBODY: Reason.EQUAL,
}


def test_each_difference_has_its_reason(kept, asked):
    """What happened to a driver's rows after they were materialized is the verdict on its value."""
    found = replay(kept.repo.root, asked)

    assert WHY == dict(zip([*range(1, 14), NOBODY], reasons(found, "stats__trips"), strict=True))
    assert Reason.FLOAT_BITS == reasons(found, "stats__rating")[BITS - 1]
    assert (False, True, ()) == (found.is_equal, found.definitions_in_force, tuple(found.notes))
    told = {cell.row: cell.verdict.detail for cell in found.cells if cell.name == "stats__trips"}
    (run,) = kept.repo.runs("stats")
    assert run.run_id[:13] in told[LATE - 1]
    assert run.run_id[:13] in told[REMOVED - 1]
    assert "had read up to" in told[NEW - 1]
    assert "later than it says" in told[LATE_FILE - 1]


def test_what_has_come_since_is_told(kept):
    """As of now a value is a newer row's, a correction's, past its TTL, or gone; the verdict on then does not change by it."""
    at = datetime.now(UTC) - timedelta(minutes=5)
    for driver, trips in ((21, 1), (22, 1), (23, 1), (24, None)):
        kept.push("stats", "online_and_offline", driver_id=driver, trips=trips, rating=1.0, at=at)
    fleeting = datetime.now(UTC)
    kept.push("fleeting", "online_and_offline", driver_id=25, trips=1, at=fleeting)
    lookup = kept.ask(["stats:trips", "fleeting:trips"], drivers(21, 22, 23, 24, 25))
    kept.push("stats", driver_id=21, trips=2, rating=1.0, at=datetime.now(UTC))
    kept.push("stats", driver_id=22, trips=2, rating=1.0, at=at)
    kept.erase("stats", 23)
    kept.push("stats", driver_id=25, trips=1, rating=1.0, at=at)
    wait_for(lambda: system_clock() > to_micros(fleeting + SHORT), what="the end of the TTL")
    in_process = replay(kept.repo.root, lookup)
    by_server = replay(kept.repo.root, lookup, server=kept.server.address)

    for found in (in_process, by_server):
        assert [Reason.EQUAL] * 5 == reasons(found, "stats__trips")
        # The row that was wanted is fleeting, and was read before the answer said when it was given.
        assert reasons(found, "fleeting__trips")[4] is Reason.EQUAL
        assert [
            *(Reason.NEWER_ROW, Reason.CORRECTION, Reason.ROW_ERASED, Reason.EQUAL, Reason.NEWER_ROW)
        ] == now_reasons(found, "stats__trips")
        assert Reason.EXPIRED is now_reasons(found, "fleeting__trips")[4]
        assert found.now_asked
    assert not replay(kept.repo.root, lookup, asks_now=False).now_asked


@pytest.mark.parametrize(("method", "reason"), [(HINDCAST, Reason.EQUAL), (FEAST, Reason.EXPIRED)])
def test_a_value_past_its_ttl_is_no_truth(kept, method, reason):
    """hindcast.v1 answers null as a training set would have it; Feast's dialect answers the old value, and the replay says so."""
    found = replay(kept.repo.root, kept.ask(["fresh:trips"], drivers(1, 2, NOBODY), method=method))

    assert [Reason.EQUAL, reason, Reason.EQUAL] == reasons(found, "fresh__trips")
    # PRESENT, OUTSIDE_MAX_AGE, NOT_FOUND
    assert [1, 4, 3] == [cell.then.status for cell in found.cells]
    assert [to_micros(hours_ago(0.1)), to_micros(hours_ago(2)), None] == [c.then.event_micros for c in found.cells]


@pytest.mark.parametrize("method", [HINDCAST, FEAST])
def test_a_service_with_everything_is_replayed(kept, method):
    """Composite keys, a view without entities, a TTL, a mapped field and an on-demand view with request data, in one service."""
    columns = {"driver_id": [integer(1), integer(12)], "city_id": [Value(string_val="23"), Value(string_val="3")]}
    lookup = kept.ask("all", columns, {"distance": [Value(double_val=2.5), Value()]}, method=method)
    found = replay(kept.repo.root, lookup)

    assert [] == [cell for cell in found.cells if not cell.verdict.is_equal or not cell.now_verdict.is_equal]
    names = {"stats__trips", "stats__rating", "fresh__trips", "pair__fares", "platform__surge", "priced__fare"}
    assert names == {cell.name for cell in found.cells}
    assert 2 * len(names) == len(found.cells)


def test_an_alias_is_asked_by_its_own_key(kept):
    """A view under another name and join key is read by the column that the caller sent for it."""
    columns = {"my_id": [integer(EQUAL)], "driver_id": [integer(REMOVED)]}
    found = replay(kept.repo.root, kept.ask("aliased", columns))

    assert {"mine__trips": [Reason.EQUAL], "stats__rating": [Reason.NOT_IN_SOURCE]} == {
        name: reasons(found, name) for name in ("mine__trips", "stats__rating")
    }


def test_an_on_demand_value_is_computed_again(kept):
    """From the logged request data and the inputs of then: an input that was another is named, and a function that rolls dice is told."""
    data = {"distance": [Value(double_val=2.0)] * 2}
    found = replay(kept.repo.root, kept.ask(["priced:fare"], drivers(EQUAL, CHANGED), data))
    gamble = replay(kept.repo.root, kept.ask("gamble", drivers(EQUAL)))

    assert [Reason.EQUAL, Reason.INPUT_DIFFERS] == reasons(found, "priced__fare")
    assert "trips" == found.cells[1].verdict.detail
    assert ([Reason.NOT_REPEATABLE], [Reason.NOT_REPEATABLE]) == (
        reasons(gamble, "lucky__luck"),
        now_reasons(gamble, "lucky__luck"),
    )


def test_the_command_says_it_to_people_and_to_ci(kept, asked):
    """Exit code 1 where something differs and 0 where nothing does; the page shows what differs, JSON has every value three times."""
    page = kept.command(asked, "--rows", "0", exit_code=1)
    equal = kept.ask(["stats:trips"], drivers(EQUAL, NULL, NOBODY))
    same = kept.command(equal)
    made = json.loads(kept.command("everyone", "--output", "json", exit_code=1))

    told = "1 correction, 2 dated ahead, 1 float bits, 2 late row, 2 not in the source, 1 not yet materialized, 2 pushed, not offline, 2 row erased, 1 source changed"
    assert f"verdict     differs: 14 of 28 values are equal; {told}\n" in page
    row = page.split(f"row {CORRECTED}: driver_id {CORRECTED}\n")[1].split("\n\nrow")[0].splitlines()
    assert ["stats:trips", str(CORRECTED), "PRESENT", "100", "=", "correction"] == [
        word for word in row[1].split() if word[:2] != "20" and ":" not in word[2:4]
    ]
    assert "  correction: a row of the same event time was known by then, and not online yet (stats: trips)" == row[4]
    assert "equal: all 3 values are those of the offline store, bit for bit" in same
    assert ["feature", "served", "status", "true", "at", "then", "now", "verdict"] == same.split("row 1")[
        1
    ].splitlines()[1].split()
    assert asked == made["lookup_id"]
    cell = next(cell for cell in made["cells"] if cell["name"] == "stats__trips" and cell["row"] == CORRECTED - 1)
    assert (CORRECTED, 100, CORRECTED) == tuple(cell[side]["value"] for side in ("served", "then", "now"))
    assert ("correction", "equal") == (cell["verdict"]["reason"], cell["now_verdict"]["reason"])
    assert made["definitions"]["served"] == made["definitions"]["then"] == made["definitions"]["now"]


def test_of_lookups_with_one_request_id_the_newest_is_replayed(kept):
    """A caller that tried again is told of its last lookup; so is the command."""
    metadata = (("x-request-id", "again"),)
    ids = [kept.ask(["stats:trips"], drivers(EQUAL), metadata=metadata) for _ in range(2)]

    assert ids[1] == replay(kept.repo.root, "again").receipt.lookup_id
    assert ids[1] in kept.command("again")


def test_what_cannot_be_replayed_is_an_error(kept):
    """An id that nobody knows, a lookup that failed and a wrong usage exit with 2, and say what to do."""
    with pytest.raises(UnknownName, match="give the lookup id of an answer"):
        replay(kept.repo.root, "nobody's")
    with Client(kept.server.address) as client, pytest.raises(NotFound):
        client.get_online_features(features=["stats:gone"], entities={"driver_id": [1]}, request_id="failed")
    with pytest.raises(InvalidArgument, match="no values"):
        replay(kept.repo.root, "failed")
    assert "no values" in kept.command("failed", exit_code=2)
    assert "does not exist" in kept.command("nobody's", exit_code=2)
    assert "give the ID of a lookup" in kept.command(exit_code=2)
    assert "give one of the two" in kept.command("x", "--service", "y", exit_code=2)
    assert "there are aliased, all, gamble" in kept.command("--service", "nobody's", exit_code=2)


def test_a_replay_by_a_server_does_not_take_the_request_id(kept):
    """The lookup that asks as of now is kept like any other, under a tag that names the first one, and the request id stays its."""
    with Client(kept.server.address) as client:
        result = client.get_online_features(features=["stats:trips"], entities={"driver_id": [1]}, request_id="mine")
        replay(kept.repo.root, result.lookup_id, server=kept.server.address)
        (of_replay,) = client.list_receipts(tags={"replay-of": result.lookup_id}).receipts

        assert "" == of_replay.request_id
        assert result.lookup_id == client.get_receipt(request_id="mine").summary.lookup_id


def test_many_lookups_are_proven_by_one_read(kept, asked):
    """Counts per view and reason are those of the lookups one by one, and a sample is the same each time."""
    other = kept.ask(["fresh:trips", "stats:trips"], drivers(1, 2))
    ids = {asked, other}
    first, last = (
        replay(kept.repo.root, one, asks_now=False).receipt.record.served_at_micros for one in (asked, other)
    )
    span = {"since_micros": min(first, last), "until_micros": max(first, last) + 1}
    proof = prove(kept.repo.root, **span, service="")
    found = {}
    for lookup in lookups_of(kept, **span):
        for cell in replay(kept.repo.root, lookup, asks_now=False).cells:
            found[cell.view, cell.verdict.reason] = found.get((cell.view, cell.verdict.reason), 0) + 1
            ids.add(lookup)

    assert found == counts_of(proof)
    assert (len(ids), False) == (proof.lookups, proof.is_equal)
    assert asked in proof.differing
    (late,) = [count for count in proof.counts if count.reason is Reason.LATE_ROW]
    assert "run" in late.detail
    assert late.example in proof.differing
    samples = [prove(kept.repo.root, **span, service="", sample=1) for _ in range(2)]
    assert samples[0] == samples[1]
    assert (1, len(ids)) == (samples[0].lookups, samples[0].of_all)


def test_failures_take_no_place_in_a_sample(kept):
    """A sample of two is of two answered lookups, however many failed beside them."""
    before = system_clock()
    for _ in range(8):
        with pytest.raises(grpc.RpcError):
            kept.ask(["stats:nothing"], drivers(EQUAL))
    for _ in range(2):
        kept.ask(["stats:trips"], drivers(EQUAL))
    proof = prove(kept.repo.root, since_micros=before, sample=2)

    assert (2, 2, 8) == (proof.lookups, proof.of_all, proof.passed_over)


def counts_of(proof):
    """The counts by view and reason."""
    counts = [(count.view, count.reason, asdict(count)["values"]) for count in proof.counts]
    assert sum(values for _, _, values in counts) == asdict(proof)["values"]
    return {(view, reason): values for view, reason, values in counts}


def lookups_of(kept, *, since_micros, until_micros):
    """Ids of the answered lookups of lists of references of some time."""
    return [
        record_id(record)
        for record in records(log_directory(kept.repo.root))
        if since_micros <= record.served_at_micros < until_micros and not record.code and not record.service
    ]


def test_the_proof_exits_as_one_replay_does(kept):
    """Of a service whose values are all equal it is 0, with the counts in the text and in JSON."""
    columns = {"driver_id": [integer(1)], "city_id": [Value(string_val="23")]}
    before = datetime.now(UTC).isoformat()
    for _ in range(3):
        kept.ask("all", columns, {"distance": [Value(double_val=2.5)]})
    page = kept.command("--service", "all", "--since", before)
    made = json.loads(kept.command("--service", "all", "--since", before, "--sample", "2", "--output", "json"))

    for wrong in ("99999999999999d", f"{'9' * 5000}s"):
        assert "is no time" in kept.command("--since", wrong, exit_code=2)
    assert "is no UTF-8" in kept.command("order-\udcff", exit_code=2)
    assert "3 lookups, 3 rows, 18 values" in page
    assert "equal: what was served is the offline truth, bit for bit" in page
    assert (True, 2, 3, 12) == (made["equal"], made["lookups"], made["of"], made["values"])
    assert {("fresh", "equal", 2), ("stats", "equal", 4), ("priced", "equal", 2)} < {
        (count["view"], count["reason"], count["values"]) for count in made["counts"]
    }


@pytest.fixture
def small(tmp_path, redis) -> Iterator[EngineRepo]:
    """A repo with two rows of `stats`, applied and materialized; its registry keeps versions."""
    registry = {"path": "registry.db", "enable_online_feature_view_versioning": True}
    with (
        redis.client() as client,
        engine_repo(tmp_path / "repo", redis.connection_string, client, registry=registry) as repo,
    ):
        rows = Rows()
        rows.add(1, 5, 1)
        rows.add(2, 5, 2)
        rows.write(repo)
        repo.apply(DRIVER, stats(), FeatureService(name="current", features=[stats()[["trips"]]]))
        repo.materialize()
        yield repo


def test_a_function_is_not_given_rows_that_were_erased(small):
    """Of a lookup that lost a person's row the values of an on-demand view are computed for the others, by a function that takes no nulls."""

    @on_demand_feature_view(sources=[stats()], schema=[Field(name="twice", dtype=Int64)], mode="python")
    def doubled(inputs):
        return {"twice": [2 * trips for trips in inputs["trips"]]}

    small.apply(DRIVER, stats(), doubled)
    with run_hindcast(small.root) as server:
        lookup = Kept(small, server).ask(["doubled:twice"], drivers(1, 2, 1))
        erase(log_directory(small.root), key="driver_id", value="2")
    found = replay(small.root, lookup, asks_now=False)

    assert [0, 2] == [cell.row for cell in found.cells]
    assert [Reason.EQUAL] * 2 == reasons(found, "doubled__twice")
    assert prove(small.root, service="").is_equal


def test_then_is_asked_by_the_definitions_in_force(small):
    """When a feature is gone and its service with it, then is still asked as it was, and now says that definitions have changed."""
    with run_hindcast(small.root) as server:
        lookup = Kept(small, server).ask("current", drivers(1, 2))
        small.store.delete_feature_service("current")
        small.apply(DRIVER, view("stats", {"rating": Float64}))
        found = replay(small.root, lookup)

    assert (True, True) == (found.is_equal, found.definitions_in_force)
    assert [Reason.DEFINITION_CHANGED] * 2 == now_reasons(found, "stats__trips")
    assert any("as of now the same question is refused" in note for note in found.notes)


def test_definitions_that_are_not_kept_are_those_of_now(small):
    """Where the log has lost its catalogs, then is asked by the definitions of now, and the replay says so."""
    with run_hindcast(small.root) as server:
        lookup = Kept(small, server).ask("current", drivers(1, 2))
        shutil.rmtree(small.root / ".hindcast" / "lookups" / "catalogs")
        found = replay(small.root, lookup)

    assert found.is_equal
    assert any("asked under the definitions of now instead" in note for note in found.notes)


def test_a_feature_that_came_after_its_row_is_a_changed_definition(small):
    """A row that was written before its view had a feature has a null in it; its source has a value, and the reason is the definition."""
    kept = Kept(small, None)
    # Definitions are kept when a server has them in force.
    with run_hindcast(small.root):
        pass
    path = small.root / "stats.parquet"
    small.write("stats.parquet", pq.read_table(path).append_column("more", pa.array([10, 20], pa.int64())))
    small.store.registry.enable_online_versioning = False
    config = small.root / "feature_store.yaml"
    config.write_text(
        config.read_text().replace(
            "enable_online_feature_view_versioning: true", "enable_online_feature_view_versioning: false"
        )
    )
    small.apply(DRIVER, stats(more=["more"]))
    with run_hindcast(small.root) as kept.server:
        found = replay(small.root, kept.ask(["stats:trips", "stats:more"], drivers(1, 2)))

    assert {"stats__trips": [Reason.EQUAL] * 2, "stats__more": [Reason.DEFINITION_CHANGED] * 2} == {
        name: reasons(found, name) for name in ("stats__trips", "stats__more")
    }


def test_a_pinned_version_is_read_as_it_was(small):
    """`view@v0` has the features and rows of its version, beside those of the current one."""
    small.apply(DRIVER, view("stats", {"trips": Int64}))
    small.materialize()
    with run_hindcast(small.root) as server:
        found = replay(small.root, Kept(small, server).ask(["stats@v0:rating", "stats:trips"], drivers(1, 2)))

    assert {("stats@v0", "rating"), ("stats", "trips")} == {(cell.view, cell.feature) for cell in found.cells}
    assert ({Reason.EQUAL}, {Reason.EQUAL}) == (
        {cell.verdict.reason for cell in found.cells},
        {cell.now_verdict.reason for cell in found.cells},
    )


def test_a_source_that_moved_is_found_and_one_that_is_gone_is_told(small):
    """The source of now stands in for one that cannot be read any more, with a note; without any, there is no answer, and exit code 1."""
    with run_hindcast(small.root) as server:
        kept = Kept(small, server)
        lookup = kept.ask("current", drivers(1, 2))
        (small.root / "stats.parquet").rename(small.root / "elsewhere.parquet")
        gone = replay(small.root, lookup)
        page = kept.command(lookup, exit_code=1)
        small.apply(DRIVER, view("stats", {"trips": Int64, "rating": Float64}, of=source("elsewhere")))
        moved = replay(small.root, lookup)

    assert [Reason.NO_ANSWER] * 2 == reasons(gone, "stats__trips")
    assert "does not exist; check the path of the FileSource" in page
    assert moved.is_equal
    assert any("read from 'elsewhere'" in note for note in moved.notes)


def test_sealed_lookups_are_replayed(small):
    """Lookups are found in tables as in segments, one by one and many at once, each once."""
    with run_hindcast(small.root) as server:
        kept = Kept(small, server)
        ids = [kept.ask("current", drivers(1, 2)) for _ in range(4)]
        server.stop()
    done = subprocess.run(
        [PROGRAM, "lookups", "seal", "--repo", small.root], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert [] == list((small.root / ".hindcast" / "lookups" / "segments").iterdir())
    with run_hindcast(small.root) as server:
        ids.append(Kept(small, server).ask("current", drivers(1)))
        proof = prove(small.root, service="current")

    assert (5, 9, True) == (proof.lookups, proof.rows, proof.is_equal)
    assert replay(small.root, ids[0]).is_equal


def test_a_source_that_says_no_created_times_can_hide_late_rows_only(small):
    """Without a created column a row that came after a run had read its time is late, and that nobody knows when it came is said."""
    rows = {"driver_id": [1], "event_ts": [hours_ago(5)], "n": [1]}
    small.write("plain.parquet", rows)
    small.apply(DRIVER, stats(), view("plain", {"n": Int64}, of=source("plain", created_timestamp_column="")))
    small.materialize("plain")
    small.write("plain.parquet", {"driver_id": [1, 1], "event_ts": [hours_ago(5), hours_ago(4)], "n": [1, 2]})
    with run_hindcast(small.root) as server:
        (cell,) = replay(small.root, Kept(small, server).ask(["plain:n"], drivers(1))).cells

    assert Reason.LATE_ROW is cell.verdict.reason
    assert "does not say when it came" in cell.verdict.detail


def test_a_table_of_a_database_is_read_through_feast(small):
    """A source that is no file is pinned by the definitions of now; when these have it no more, that is the answer."""
    with duckdb.connect(small.root / "rides.duckdb") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE rides (driver_id BIGINT, event_ts TIMESTAMPTZ, created_ts TIMESTAMPTZ, n BIGINT)"
        )
        connection.execute("INSERT INTO rides VALUES (1, ?, ?, 7)", [hours_ago(5), hours_ago(5)])
    table = DuckDBSource(
        name="rides",
        path="rides.duckdb",
        table="rides",
        timestamp_field="event_ts",
        created_timestamp_column="created_ts",
    )
    small.apply(DRIVER, stats(), view("rides", {"n": Int64}, of=table))
    small.materialize("rides")
    with run_hindcast(small.root) as server:
        lookup = Kept(small, server).ask(["rides:n"], drivers(1, 2))
        found = replay(small.root, lookup)
        small.write(
            "rides.parquet", {"driver_id": [1], "event_ts": [hours_ago(5)], "created_ts": [hours_ago(5)], "n": [7]}
        )
        small.apply(DRIVER, stats(), view("rides", {"n": Int64}))
        moved = replay(small.root, lookup)

    assert [Reason.EQUAL] * 2 == reasons(found, "rides__n")
    assert moved.is_equal
    assert any("read from 'rides', its source of now" in note for note in moved.notes)


def test_then_is_told_without_a_now(small):
    """A store that does not answer is a note, since then can be judged all the same; a server that was named and does not is an error."""
    with run_hindcast(small.root) as server:
        kept = Kept(small, server)
        lookup = kept.ask("current", drivers(1))
    config = small.root / "feature_store.yaml"
    before = config.read_text()
    with held_port() as port:
        nobody = f"127.0.0.1:{port}"
        config.write_text(before.replace(small.store.config.online_store.connection_string, nobody))
        found = replay(small.root, lookup)
        config.write_text(before)
        said = kept.command(lookup, "--server", nobody, exit_code=2)

    assert (True, False) == (found.is_equal, found.now_asked)
    assert any(note.startswith("not asked as of now: ") for note in found.notes)
    assert "answered UNAVAILABLE" in said
