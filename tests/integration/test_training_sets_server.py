"""The server of training sets: what callers may read, how calls end, health, and its life beside the workers of `hindcast serve`."""

import asyncio
import contextlib
import io
import shutil
import signal
import subprocess
import threading

import grpc
import numpy as np
import psutil
import pyarrow as pa
import pytest
import yaml
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from dataset_repo import frame, make_repo
from faults.deployments import make_certificates
from hindcast.online.embedded import EmbeddedRedis
from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client import (
    TLS,
    AsyncTrainingSets,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    RetryPolicy,
    ServerError,
    TrainingSets,
    Unavailable,
)
from hindcast_client._training_sets import TrainingSet
from offline_repo import hours, write
from services import HINDCAST, run_hindcast, run_training_sets, wait_for

FEATURES = ["trips:trips", "ratings:rating"]
ROWS = 400_000
ONCE = RetryPolicy(attempts_max=1)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo, with labels where callers may read and others where they may not."""
    root = tmp_path_factory.mktemp("sets") / "repo"
    make_repo(root)
    labels = pa.Table.from_pandas(frame(), preserve_index=False)
    write(root / "labels/labels.parquet", labels)
    write(root / "secret/labels.parquet", labels)
    write(root.parent / "outside.parquet", labels)
    (root / "labels/link.parquet").symlink_to(root / "secret/labels.parquet")
    return root


@pytest.fixture(scope="module")
def server(repo):
    """A server on which one build waits for the one that runs, and no other."""
    options = ("--entities-dir", str(repo / "labels"), "--waiting-max", "1", "--frame-max-mb", "64")
    with run_training_sets(repo, *options) as server:
        yield server


@pytest.fixture(scope="module")
def sets(server):
    """Its sets, by the client."""
    with TrainingSets(server.address) as sets:
        yield sets


@pytest.fixture
def stub(server):
    """Its RPCs, as any client has them."""
    with grpc.insecure_channel(server.address) as channel:
        yield lambda method, kind: getattr(channel, kind)(f"/hindcast.v1.TrainingSets/{method}")


def large_frame(rows: int = ROWS) -> pa.Table:
    """Rows that take some row groups to write."""
    return pa.table(
        {
            "driver_id": pa.array(np.arange(rows) % 5, pa.int64()),
            "event_timestamp": pa.repeat(pa.scalar(hours(3), pa.timestamp("us", "UTC")), rows),
        }
    )


def ipc(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def uploaded(name: str) -> bytes:
    """The first message of a build whose frame is sent."""
    spec = pb.TrainingSetSpec(name=name, feature_list={"refs": FEATURES}, uploaded={})
    return pb.TrainingSetsBuildRequest(spec=spec).SerializeToString()


def piece(content: bytes) -> bytes:
    return pb.TrainingSetsBuildRequest(entity_frame_bytes=content).SerializeToString()


@pytest.mark.parametrize(
    "text", ["labels/labels.parquet", "labels", "data/trips.parquet", "{repo}/labels/labels.parquet"]
)
def test_declared_paths_are_read(sets, repo, text):
    """The repo's own sources and files of a directory that the server was told of may be named, in the repo or as a whole path."""
    made = sets.build("declared", features=FEATURES, entity_frame=text.format(repo=repo), full_feature_names=True)
    assert ("path", made.manifest.frame.rows) == (made.manifest.frame.form, made.rows)


@pytest.mark.parametrize(
    "text",
    [
        "secret/labels.parquet",
        "secret",
        "labels/link.parquet",
        "labels/../secret/labels.parquet",
        "labels/*/../../secret/labels.parquet",
        "{repo}/secret/labels.parquet",
        "file://{repo}/secret/labels.parquet",
        "../outside.parquet",
        "../nowhere.parquet",
        "/etc",
        "/nowhere",
    ],
)
def test_other_paths_are_refused(sets, repo, text):
    """Every other path is refused in the same words, whether anything is there or not."""
    with pytest.raises(InvalidRequest) as caught:
        sets.build("refused", features=FEATURES, entity_frame=text.format(repo=repo))
    (violation,) = caught.value.violations
    assert "spec.text" == violation.field
    assert "which callers may not read here" in violation.description


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM 'secret/labels.parquet'",
        "SELECT * FROM '{repo}/secret/labels.parquet'",
        "SELECT * FROM 'labels/../secret/labels.parquet'",
        "SELECT * FROM read_text('{repo}/feature_store.yaml')",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_sql_reads_nothing_else(sets, repo, text):
    """SQL of callers reads what they may name as a path, and no other file."""
    with pytest.raises(InvalidRequest, match="reads something else than callers may"):
        sets.build("refused", features=FEATURES, entity_frame=text.format(repo=repo))


@pytest.mark.parametrize("text", ["COPY (SELECT 1) TO 'labels/made.parquet'", "SET allowed_paths = []; SELECT 1"])
def test_sql_is_one_select(sets, repo, text):
    """SQL of callers that writes a file or lifts its own bounds is refused, and writes none."""
    with pytest.raises(InvalidRequest, match="not one SELECT"):
        sets.build("refused", features=FEATURES, entity_frame=text)
    assert not (repo / "labels/made.parquet").exists()


def test_sql_reads_what_callers_may(sets, repo):
    """SQL joins files that callers may read, named from the repo, as a whole path or by a pattern."""
    text = "SELECT * FROM 'labels/lab*.parquet' SEMI JOIN 'REPO/data/trips.parquet' USING (driver_id)".replace(
        "REPO", str(repo)
    )
    made = sets.build("joined", features=FEATURES, entity_frame=text)
    assert ("sql", text, 4) == (made.manifest.frame.form, made.manifest.frame.text, made.rows)


@pytest.mark.parametrize("content", [b"", b"no stream", ipc(large_frame())[:5_000], b"PAR1" * 1_000])
def test_a_frame_that_is_none_is_refused(stub, content):
    """Bytes that are no Arrow stream, or one that breaks off, are refused by their field, and the server goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stub("Build", "stream_stream")(iter([uploaded("broken"), piece(content)]), timeout=20))
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


def test_a_frame_with_wrong_offsets_is_refused(stub):
    """A column of text whose offsets point behind its bytes is refused, and crashes nothing."""
    offset = (7_654_321).to_bytes(4, "little")
    table = pa.table({"text": ["a" * 7_654_321, "b"], "driver_id": [1, 2], "event_timestamp": [hours(1)] * 2})
    content = ipc(table).replace(offset, (1_900_000_000).to_bytes(4, "little"))
    pieces = [piece(content[at : at + 2**20]) for at in range(0, len(content), 2**20)]
    with pytest.raises(grpc.RpcError) as caught:
        list(stub("Build", "stream_stream")(iter([uploaded("broken"), *pieces]), timeout=20))
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


def test_a_frame_beyond_the_limit_is_refused(sets):
    """A frame of more bytes than the server takes is refused before it was sent whole."""
    wide = large_frame().append_column("text", pa.array(["x" * 200] * ROWS))
    with pytest.raises(Overloaded, match="more than the 67,108,864 bytes"):
        sets.build("wide", features=FEATURES, entity_frame=wide)


@pytest.mark.parametrize(
    ("name", "pieces", "expected"),
    [
        ("no/name", 256, grpc.StatusCode.INVALID_ARGUMENT),
        ("too-large", 1100, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_callers_in_asyncio_who_are_refused_while_they_send_have_the_status(server, name, pieces, expected):
    """The server hears them out, since grpc.aio loses a status that comes while a request goes out; with `write` as with an iterator."""
    sent = piece(bytes(65_536))

    async def requests():
        yield uploaded(name)
        for _ in range(pieces):
            yield sent

    async def code(method, *, writes):
        call = method(timeout=30) if writes else method(requests(), timeout=30)
        try:
            if writes:
                async for request in requests():
                    await call.write(request)
                await call.done_writing()
            await call.read()
        except grpc.RpcError as error:
            return error.code()

    async def story():
        async with grpc.aio.insecure_channel(server.address) as channel:
            method = channel.stream_stream("/hindcast.v1.TrainingSets/Build")
            return [await code(method, writes=bool(at % 2)) for at in range(12)]

    assert [expected] * 12 == asyncio.run(story())


@contextlib.contextmanager
def unfinished(stub, name: str, **options):
    """A build whose caller never sends all of its frame, once it has its place."""
    ends = threading.Event()

    def requests():
        yield uploaded(name)
        ends.wait(30)

    call = stub("Build", "stream_stream")(requests(), **options)
    try:
        yield call
    finally:
        ends.set()
        call.cancel()


def refused(sets) -> bool:
    """Whether a build is refused for those before it."""
    try:
        sets.build("crowded", features=FEATURES, entity_frame=frame())
    except Overloaded:
        return True
    return False


def test_builds_beyond_the_queue_are_refused_and_places_come_back(stub, sets, repo):
    """With one build at work and one waiting the next is refused with the time to wait, and when they are gone it is built."""
    uploads = repo / ".hindcast/uploads"

    def places() -> int:
        """How many builds have one, by what is set aside for their frames."""
        return len(list(uploads.glob("frame-*")))

    # One that another test has left may have its place still, and would be taken for one of these two.
    wait_for(lambda: 0 == places(), what="the end of earlier builds")
    with unfinished(stub, "first"), unfinished(stub, "second"):
        # A build that asks before would have the place of one of them.
        wait_for(lambda: 2 == places(), what="two builds with a place")
        assert refused(sets)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub("Build", "stream_stream")(iter([uploaded("third")]), timeout=10))
        status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        details = {detail.type_url.rpartition(".")[2]: detail for detail in status.details}
        info = error_details_pb2.ErrorInfo.FromString(details["ErrorInfo"].value)
        assert ("OVERLOADED", True) == (info.reason, "RetryInfo" in details)
    wait_for(lambda: not refused(sets), what="a free place")


def test_a_deadline_ends_a_build(stub, sets):
    """A build past its deadline ends with DEADLINE_EXCEEDED and leaves no set."""
    with unfinished(stub, "late", timeout=0.3) as call, pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert [] == [one for one in sets.list() if one.name == "late"]


def test_a_build_is_ended_while_it_writes(sets, repo):
    """A build whose caller leaves while rows are written leaves nothing, and the next build has its turn."""

    def leave(progress):
        if progress.phase == "write":
            raise KeyboardInterrupt

    # So many that they are written for seconds: of fewer the last may be, before a busy server hears that the caller has left.
    with pytest.raises(KeyboardInterrupt):
        sets.build("left", features=FEATURES, entity_frame=large_frame(2_500_000), on_progress=leave)
    place = repo / ".hindcast/datasets/left"
    wait_for(lambda: not list(place.iterdir()), what="an empty directory")
    assert "left@v1" == sets.build("left", features=FEATURES, entity_frame=frame()).ref


ASKS = "SELECT 1 AS driver_id, TIMESTAMPTZ '2026-01-01' AS event_timestamp FROM range"


@pytest.mark.parametrize(
    "query", [f"{ASKS}(1000000000000) WHERE random() > 2", f"{ASKS}(1000000000000) ORDER BY random()"]
)
def test_sql_ends_when_its_caller_leaves(stub, sets, query):
    """SQL that runs long before its first row is ended when its caller's time is up, and the next build has its turn."""
    spec = pb.TrainingSetSpec(name="long", feature_list={"refs": FEATURES}, text=query)
    with pytest.raises(grpc.RpcError) as caught:
        list(
            stub("Build", "stream_stream")(
                iter([pb.TrainingSetsBuildRequest(spec=spec).SerializeToString()]), timeout=2
            )
        )
    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert 5 == sets.build("after", features=FEATURES, entity_frame=frame()).rows


def test_sql_beyond_the_limit_is_refused(sets):
    """SQL that answers more bytes than a frame may have is refused, before the disk is full of them."""
    with pytest.raises(Overloaded, match="more than the 67,108,864 bytes"):
        sets.build("endless", features=FEATURES, entity_frame=f"{ASKS}(1000000000000)")


def test_what_feast_tells_of_its_registry_is_not_in_the_log(server, sets):
    """Builds leave no line of Feast's for each reading of the registry."""
    for _ in range(2):
        sets.build("quiet", features=FEATURES[:1], entity_frame=frame(), register=False)
    assert [] == [line for line in server.output if "egistry cache" in line]


def test_a_client_that_waits_too_little(server):
    """A client with too little time for a build says so by its own error."""
    with TrainingSets(server.address, timeout_seconds=0.05) as hasty, pytest.raises(DeadlineExceeded):
        hasty.build("hasty", features=FEATURES, entity_frame=large_frame())


def test_lists_come_in_pages(stub, sets):
    """Pages of one set each have all sets in their order, and a token that none ended with is refused."""
    for name in ("page-a", "page-b"):
        sets.build(name, features=FEATURES, entity_frame=frame())
    found, token = [], ""
    while True:
        request = pb.TrainingSetsListRequest(page_size=1, page_token=token)
        answer = stub("List", "unary_unary")(request.SerializeToString(), timeout=10)
        page = pb.TrainingSetsListResponse.FromString(answer)
        found += [f"{one.name}@v{one.version}" for one in page.training_sets]
        token = page.next_page_token
        if not token:
            break
    assert [one.ref for one in sets.list()] == found
    with pytest.raises(grpc.RpcError) as caught:
        stub("List", "unary_unary")(b"\x12\x01?", timeout=10)
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


def test_no_error_says_where_the_server_keeps_things(sets, repo):
    """Files of a set that are gone or damaged are DATA_LOSS, and the words have no path of the server's machine."""
    made = sets.build("damaged", features=FEATURES, entity_frame=frame())
    place = repo / f".hindcast/datasets/damaged/v{made.version}"
    said = []
    for path, ask in (
        (place / "data/part-00000.parquet", made.to_arrow),
        (place / "manifest.json", lambda: sets.get(made.ref)),
    ):
        path.write_bytes(b"other bytes")
        with pytest.raises(ServerError) as caught:
            ask()
        said.append((caught.value.code, str(repo) in str(caught.value)))
    shutil.rmtree(place.parent)
    assert [(grpc.StatusCode.DATA_LOSS, False)] * 2 == said


def test_a_manifest_that_is_not_its_ids_is_refused():
    """A client takes no set whose manifest is another one than its id names."""
    with pytest.raises(ServerError, match="not the one that its id names"):
        TrainingSet(None, pb.TrainingSet(name="rides", version=1, id="sha256:" + "0" * 64, manifest_json=b"{}"))


WRONG_LOOKUPS = {
    "no service": ([{"spec": {"name": "wrong", "uploaded": {}}}], "spec.feature_service"),
    "no labels": ([{"spec": {"name": "wrong", "feature_service": "rides"}}], "spec.labels"),
    "rows first": ([{"labels_bytes": b"x"}], "the first message has it"),
    "rows that no spec announced": (
        [{"spec": {"name": "wrong", "feature_service": "rides", "text": "SELECT 1"}}, {"labels_bytes": b"x"}],
        "rows if it says `uploaded`",
    ),
    "a path that callers may not read": (
        [{"spec": {"name": "wrong", "feature_service": "rides", "text": "secret/labels.parquet"}}],
        "callers may not read",
    ),
    "a window of too many years": (
        [{"spec": {"name": "wrong", "feature_service": "rides", "uploaded": {}, "window": {"seconds": 2**62}}}],
        "spec.window",
    ),
}


@pytest.mark.parametrize("what", WRONG_LOOKUPS)
def test_a_wrong_request_for_lookups_is_refused(stub, sets, what):
    """What is no request for a set of lookups, or names a file that callers may not read, is INVALID_ARGUMENT with its field, and leaves no set."""
    messages, said = WRONG_LOOKUPS[what]
    requests = [pb.TrainingSetsFromLookupsRequest(**message).SerializeToString() for message in messages]
    with pytest.raises(grpc.RpcError) as caught:
        list(stub("FromLookups", "stream_stream")(iter(requests), timeout=60))
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (caught.value.code(), said in caught.value.details())
    assert [] == [one for one in sets.list() if one.name == "wrong"]


def test_health_and_reflection(server):
    """The server is SERVING as a whole and by name, and describes its service."""
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hindcast.v1.TrainingSets"):
            assert 1 == health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
        described = ProtoReflectionDescriptorDatabase(channel)
        assert "hindcast.v1.TrainingSets" in described.get_services()
        file = described.FindFileContainingSymbol("hindcast.v1.TrainingSets")
        assert ["Build", "FromLookups", "Get", "List", "Rebuild", "Verify", "Diff", "Read", "Remove"] == [
            method.name for method in file.service[0].method
        ]


def test_the_asyncio_client_does_the_same(server):
    """Build, list, read, rebuild, verify, diff and remove work with `await`, and a task that is cancelled ends its build."""
    told = []

    async def story():
        async with AsyncTrainingSets(server.address) as sets:
            one = await sets.build(
                "aio", features=FEATURES, entity_frame=frame(), known_at=hours(9), on_progress=told.append
            )
            two = await sets.build("aio", features=FEATURES, entity_frame=frame(), known_at=hours(9))
            with pytest.raises(NotFound):
                await sets.get("nothing")
            building = asyncio.create_task(sets.build("aio-left", features=FEATURES, entity_frame=large_frame()))
            await asyncio.wait([building], timeout=0.05)
            building.cancel()
            await asyncio.wait([building])
            table = await one.to_arrow()
            batches = [batch async for batch in one.batches(2)]
            outcome = (
                building.cancelled(),
                one.id == two.id == (await sets.get("aio")).id,
                table.schema == await one.schema(),
                table.equals(pa.Table.from_batches(batches)),
                (await one.to_pandas(columns=["rating"]))["rating"].tolist()[:2],
                (await one.to_polars(columns=["rating"]))["rating"].to_list()[:2],
                (await sets.rebuild(one.ref)).identical,
                (await sets.verify(one.ref)).intact,
                (await sets.diff(one.ref, two.ref)).identical,
                [found.ref for found in await sets.list() if found.name == "aio"],
            )
            await sets.remove(two.ref)
            return outcome, [found.ref for found in await sets.list() if found.name.startswith("aio")]

    outcome, left = asyncio.run(story())
    assert (True, True, True, True, [4.5, 3.0], [4.5, 3.0], True, True, True, ["aio@v1", "aio@v2"]) == outcome
    assert (["aio@v1"], "evidence") == (left, told[-1].phase)


def test_mutual_tls(repo, tmp_path):
    """With a client CA a caller without a certificate is let in no more than one in plain text."""
    made = make_certificates(tmp_path)
    options = ("--tls-cert", str(made.server), "--tls-key", str(made.server_key), "--tls-client-ca", str(made.ca))
    with run_training_sets(repo, *options) as server:
        known = TLS.from_files(ca=made.ca, certificate=made.client, key=made.client_key)
        with TrainingSets(server.address, tls=known) as sets:
            assert isinstance(sets.list(), list)
        for tls in (None, TLS.from_files(ca=made.ca)):
            with TrainingSets(server.address, tls=tls, retry=ONCE) as sets, pytest.raises(Unavailable):
                sets.list()


def test_a_repo_of_another_offline_store_is_not_served(repo, tmp_path):
    """A server does not start over a repo whose training sets it could not build, and says what to change."""
    other = tmp_path / "repo"
    shutil.copytree(repo, other, ignore=shutil.ignore_patterns(".hindcast"))
    config = yaml.safe_load((other / "feature_store.yaml").read_text())
    (other / "feature_store.yaml").write_text(yaml.safe_dump(config | {"offline_store": {"type": "file"}}))
    done = subprocess.run([HINDCAST, "dataset", "serve", "--repo", other], capture_output=True, text=True, check=False)
    assert (2, True) == (done.returncode, "change it in feature_store.yaml" in done.stderr)


def test_beside_the_workers(repo, sets, tmp_path):
    """`hindcast serve` keeps a server of training sets, with a lower priority, starts another one when it dies, with which its builder ends, and ends it at its stop."""
    served = tmp_path / "repo"
    made = sets.build("beside", features=FEATURES, entity_frame=frame())
    shutil.copytree(repo, served)
    config = yaml.safe_load((served / "feature_store.yaml").read_text())
    online = {"type": "hindcast.online.plugin.PackedRedisOnlineStore", "connection_string": "embedded"}
    (served / "feature_store.yaml").write_text(yaml.safe_dump(config | {"online_store": online}))

    def companions(server):
        children = psutil.Process(server.process.pid).children()
        return [child for child in children if "hindcast.datasets_server.process" in child.cmdline()]

    try:
        with run_hindcast(
            served, "--training-sets-address", "127.0.0.1:0", "--max-connection-age-seconds", "0.5"
        ) as server:
            (line,) = [line for line in server.output if line.startswith("serving")]
            address = line.rpartition("training sets on ")[2].removesuffix(")")
            with TrainingSets(address) as beside:
                wait_for(lambda: answers(beside), what="an answer")
                (first,) = companions(server)
                assert 10 == first.nice()
                builders = first.children()
                first.send_signal(signal.SIGKILL)
                wait_for(lambda: answers(beside) and companions(server) != [first], what="another one")
                wait_for(
                    lambda: builders and not any(one.is_running() for one in builders), what="the end of its builder"
                )
                assert made.to_arrow() == beside.get(made.id).to_arrow()
                (second,) = companions(server)
            with Client(server.address) as client:
                assert "rides" == client.get_server_info().project
            assert 0 == server.stop()
            assert not second.is_running()
    finally:
        EmbeddedRedis.of_repo(served).stop()


def answers(sets: TrainingSets) -> bool:
    """Whether the server answers."""
    with contextlib.suppress(Unavailable):
        return sets.list() is not None
    return False
