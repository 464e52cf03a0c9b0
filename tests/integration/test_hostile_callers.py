"""The server of training sets against callers who send what no frame is like, or leave, or wait: each is told so, and nobody else notices."""

import asyncio
import contextlib
import io
import signal
import threading

import grpc
import numpy as np
import psutil
import pyarrow as pa
import pytest
import yaml

from dataset_repo import frame, make_repo
from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client import TrainingSets
from offline_repo import hours
from services import run_training_sets, wait_for

FEATURES = ["trips:trips", "ratings:rating"]
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """An applied repo whose reads may take little memory."""
    root = tmp_path_factory.mktemp("hostile") / "repo"
    make_repo(root)
    config = yaml.safe_load((root / "feature_store.yaml").read_text())
    config["offline_store"]["memory_limit_mb"] = 256
    (root / "feature_store.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def server(repo):
    """A server that waits three seconds for callers who send or take nothing."""
    with run_training_sets(repo, "--waiting-max", "2", "--frame-max-mb", "64", "--patience-seconds", "3") as server:
        yield server


@pytest.fixture(autouse=True)
def same(server, repo):
    """After each test the server is the process that it was, has its places again, builds, and nothing was left on the disk."""
    yield
    assert server.process.poll() is None
    with TrainingSets(server.address) as sets:
        wait_for(lambda: builds(sets), what="a build")
        for one in sets.list():
            sets.remove(one.ref)
    state = repo / ".hindcast"
    wait_for(lambda: not [*state.rglob("*.spill")], what="an empty disk")


def builds(sets: TrainingSets) -> bool:
    """Whether the server builds."""
    with contextlib.suppress(Exception):
        return sets.build("plain", features=FEATURES, entity_frame=frame()).rows == 5
    return False


@pytest.fixture
def stub(server):
    """Its RPCs, as any client has them."""
    with grpc.insecure_channel(server.address) as channel:
        yield lambda method, kind="stream_stream": getattr(channel, kind)(f"/hindcast.v1.TrainingSets/{method}")


def children(server) -> list[psutil.Process]:
    """The processes that build for the server."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        # One that has just ended has no command any more.
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child] if "--builds" in child.cmdline() else []
    return found


def spec(name: str = "hostile", **fields) -> bytes:
    """The first message of a build."""
    fields = {"feature_list": {"refs": FEATURES}, "uploaded": {}} | fields
    return pb.TrainingSetsBuildRequest(spec=pb.TrainingSetSpec(name=name, **fields)).SerializeToString()


def text(query: str) -> bytes:
    """The only message of a build whose frame is SQL."""
    wanted = pb.TrainingSetSpec(name="hostile", feature_list={"refs": FEATURES}, text=query)
    return pb.TrainingSetsBuildRequest(spec=wanted).SerializeToString()


def ipc(rows, **options) -> bytes:
    """Rows as they are sent."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(rows)
    return sink.getvalue()


def pieces(content: bytes):
    """Bytes in messages."""
    for at in range(0, len(content), 2**20):
        yield pb.TrainingSetsBuildRequest(entity_frame_bytes=content[at : at + 2**20]).SerializeToString()


def outcome(stub, *messages: bytes, **options):
    """The rows of the set that was built, or the status and its words."""
    try:
        (*_, last) = stub("Build")(iter(messages), timeout=60, **options)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return pb.TrainingSetsBuildResponse.FromString(last).training_set.name, ""


def rows(n: int = 3, **columns) -> pa.RecordBatch:
    """Rows of an entity frame, with further columns."""
    keys = {
        "driver_id": pa.array(np.arange(n) % 5, pa.int64()),
        "event_timestamp": pa.array(np.full(n, hours(3).timestamp() * 1e6, np.int64)).cast(pa.timestamp("us", "UTC")),
    }
    return pa.record_batch(keys | columns)


def nested(depth: int) -> pa.Array:
    made = pa.array([1, 2, 3])
    for _ in range(depth):
        made = pa.StructArray.from_arrays([made], ["a"])
    return made


def run_ends(n: int) -> pa.RecordBatch:
    ends = pa.array([n], pa.int32())
    return pa.record_batch(
        {
            "driver_id": pa.RunEndEncodedArray.from_arrays(ends, pa.array([1], pa.int64())),
            "event_timestamp": pa.RunEndEncodedArray.from_arrays(ends, pa.array([hours(3)], pa.timestamp("us", "UTC"))),
        }
    )


def nothing(n: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(n), pa.nulls(n)], ["driver_id", "event_timestamp"])


def of_dictionary(value: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), [value])


TAKEN = {
    "no rows": lambda: rows(0),
    "a decimal of 256 bits": lambda: rows(a=pa.array([1, 2, None], pa.decimal256(76, 38))),
    "times in another zone": lambda: rows(a=pa.array([1, 2, 3], pa.timestamp("ns", "Asia/Kathmandu"))),
    "a time zone of no map": lambda: rows(a=pa.array([1, 2, 3], pa.timestamp("us", "Mars/Olympus"))),
    "a dictionary": lambda: rows(a=of_dictionary("x", 3)),
    "structs in lists": lambda: rows(a=pa.array([[{"b": [1]}], [], None])),
    "types within types": lambda: rows(a=nested(10)),
    "a map": lambda: rows(a=pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64()))),
    "text in views": lambda: rows(a=pa.array(["a", "b" * 20, None], pa.string_view())),
    "two hundred columns": lambda: rows(**{f"c{at}": pa.array([1, 2, 3]) for at in range(200)}),
    "a name of odd characters": lambda: rows(**{"\n\"';--": pa.array([1, 2, 3])}),
}
REFUSED = {
    "ten thousand columns": lambda: rows(**{f"c{at}": pa.array([1, 2, 3]) for at in range(10_000)}),
    "types too far within types": lambda: rows(a=nested(40)),
    "two columns of one name": lambda: pa.RecordBatch.from_arrays(
        [*rows().columns, pa.array([1, 2, 3])], ["driver_id", "event_timestamp", "driver_id"]
    ),
    "a feature's name": lambda: rows(rating=pa.array([1, 2, 3])),
    "a billion nulls": lambda: nothing(2**30),
    "a dictionary's long value in all rows": lambda: rows(100_000, a=of_dictionary("x" * 10_000, 100_000)),
    "a dictionary's long value within structs": lambda: rows(
        100_000, a=pa.StructArray.from_arrays([of_dictionary("x" * 10_000, 100_000)], ["b"])
    ),
    "a union": lambda: rows(a=pa.UnionArray.from_sparse(pa.array([0, 0, 0], pa.int8()), [pa.array([1, 2, 3])])),
    "months": lambda: rows(a=pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval())),
    "no columns": lambda: pa.RecordBatch.from_arrays([], names=[]),
    "a name of a million characters, twice": lambda: pa.RecordBatch.from_arrays(
        [*rows().columns, *[pa.array([1, 2, 3])] * 2], ["driver_id", "event_timestamp", *["x" * 10**6] * 2]
    ),
}


@pytest.mark.parametrize("what", TAKEN)
def test_an_odd_frame_is_taken(stub, what):
    """A frame of any types that a training set can have is built."""
    assert ("hostile", "") == outcome(stub, spec(), *pieces(ipc(TAKEN[what]())))


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_frame_is_refused(stub, what):
    """A frame that no set can have, or that becomes large when it is read, is refused, and is no defect."""
    code, _ = outcome(stub, spec(), *pieces(ipc(REFUSED[what]())))
    assert code in REFUSALS


def test_a_batch_that_takes_too_much_memory_is_refused(stub, server):
    """Run ends that come to gigabytes are refused for what they would take, and the process that builds lives on."""
    before = children(server)
    code, said = outcome(stub, spec(), *pieces(ipc(run_ends(2**30))))
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (code, "bytes of memory" in said)
    assert before == children(server)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_rows_that_come_to_gigabytes_are_refused(stub, server, codec):
    """A batch of compressed columns that comes to more than the memory there is for it is refused, and takes no more than that."""
    zeros = pa.array(np.zeros(2**24, np.int64))
    content = ipc(pa.RecordBatch.from_arrays([zeros] * 12, [f"c{at}" for at in range(12)]), compression=codec)
    code, said = outcome(stub, spec(), *pieces(content))
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (code, "bytes of memory" in said)
    assert all(child.memory_info().rss < 2**31 for child in children(server))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_rows_are_taken(stub, codec):
    """A frame whose buffers are compressed is built like any other."""
    assert ("hostile", "") == outcome(stub, spec(), *pieces(ipc(rows(a=pa.array(["x"] * 3)), compression=codec)))


ASKS = "SELECT 1 AS driver_id, TIMESTAMPTZ '2026-01-01' AS event_timestamp"


@pytest.mark.parametrize(
    "query",
    [
        f"{ASKS}, repeat('x', 500000) AS a FROM range(100000)",
        f"{ASKS}, string_agg(repeat('x', 1000), '') AS a FROM range(10000000)",
        f"{ASKS}, range(10000000000) AS a",
        f"{ASKS}, repeat('x', 1000) || i AS a FROM range(1000000000000) AS r(i) ORDER BY random()",
        f"{ASKS}, {', '.join(f'1 AS c{at}' for at in range(5_000))}",
    ],
    ids=["text of gigabytes", "one text of gigabytes", "a list of gigabytes", "a sort of terabytes", "many columns"],
)
def test_sql_beyond_its_bounds_is_refused(stub, query):
    """SQL that needs more memory, or more disk, than it may have is refused."""
    code, _ = outcome(stub, text(query))
    assert code in REFUSALS


NAMES = ["", ".", "..", "../made", "a/b", "/made", "a\0b", "x" * 101, ".hidden", "a b", "ä", "a@v1"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(stub, name):
    """A name that is none, of a set to be built or of one that should be there, is refused, and is no path."""
    codes = [outcome(stub, spec(name))[0]]
    for method, request in (
        ("Get", pb.TrainingSetsGetRequest(ref=name)),
        ("Remove", pb.TrainingSetsRemoveRequest(ref=f"{name}@v1")),
        ("Verify", pb.TrainingSetsVerifyRequest(ref=name)),
        ("Diff", pb.TrainingSetsDiffRequest(before=name, after=name)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub(method, "unary_unary")(request.SerializeToString(), timeout=30)
        codes.append(caught.value.code())
    for method, request in (
        ("Read", pb.TrainingSetsReadRequest(ref=name)),
        ("Rebuild", pb.TrainingSetsRebuildRequest(ref=name)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(stub(method, "unary_stream")(request.SerializeToString(), timeout=30))
        codes.append(caught.value.code())
    assert [grpc.StatusCode.INVALID_ARGUMENT, *[grpc.StatusCode.NOT_FOUND] * 6] == codes


@contextlib.contextmanager
def sending(stub, *, drips: bool):
    """A build whose caller sends the head of a frame, and then nothing, or a byte now and then."""
    ends = threading.Event()

    def requests():
        yield spec()
        yield from pieces(ipc(rows())[:100])
        while not ends.wait(0.1 if drips else 30):
            yield from pieces(b"x")

    call = stub("Build")(requests(), timeout=60)
    try:
        yield call
    finally:
        ends.set()
        call.cancel()


@pytest.mark.parametrize("drips", [False, True], ids=["nothing more", "a byte now and then"])
def test_a_caller_who_does_not_send_loses_its_place(stub, drips):
    """A caller who begins a frame and goes on too slowly, or not at all, is told that its time is up."""
    with sending(stub, drips=drips) as call, pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, True) == (
        caught.value.code(),
        "was sent for 3 s" in caught.value.details(),
    )


def test_a_caller_who_does_not_read_loses_its_place(stub, server):
    """A caller who asks for a set and takes its first piece only is given up, and can be told so."""
    assert ("hostile", "") == outcome(
        stub, spec(), *pieces(ipc(rows(200_000, a=pa.array(np.random.default_rng(1).random(200_000)))))
    )
    read = stub("Read", "unary_stream")(pb.TrainingSetsReadRequest(ref="hostile").SerializeToString(), timeout=60)
    next(read)
    process = psutil.Process(server.process.pid)
    assert [*filter(is_part, process.open_files())]
    wait_for(lambda: not [*filter(is_part, process.open_files())], what="the set to be closed")
    with pytest.raises(grpc.RpcError) as caught:
        list(read)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()


def is_part(file) -> bool:
    """Whether a file is one of a set's rows."""
    return file.path.endswith(".parquet")


def waiting(stub):
    """A build of SQL that never ends, once it runs."""
    call = stub("Build")(iter([text(f"{ASKS} FROM range(1000000000000) WHERE random() > 2")]), timeout=60)
    for response in call:
        if pb.TrainingSetsBuildResponse.FromString(response).progress.phase == "frame":
            break
    return call


def test_a_builder_that_hears_nothing_is_ended_and_its_death_is_one_callers_error(stub, server):
    """When a caller leaves a build that does not look up, the process that builds is ended; when that dies of itself, its caller is told in which phase."""
    call = waiting(stub)
    (builder,) = children(server)
    builder.send_signal(signal.SIGSTOP)
    call.cancel()
    wait_for(lambda: children(server) not in ([], [builder]), what="another process")
    call = waiting(stub)
    (builder,) = children(server)
    builder.kill()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    said = caught.value.details()
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (caught.value.code(), "died in its phase 'frame'" in said)


def test_a_thousand_builds_at_once(server):
    """Of a thousand builds at once those that fit into the queue are built, and all others are refused at once."""

    async def one(channel):
        # One message: a call of gRPC's asyncio client that is refused while it sends has INTERNAL for any status.
        call = channel.unary_stream("/hindcast.v1.TrainingSets/Build")(text(ASKS), timeout=60)
        try:
            (*_, last) = [response async for response in call]
        except grpc.aio.AioRpcError as error:
            return error.code()
        return pb.TrainingSetsBuildResponse.FromString(last).training_set.name

    async def all_of_them():
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await asyncio.gather(*(one(channel) for _ in range(1_000)))

    outcomes = asyncio.run(all_of_them())
    assert {"hostile", grpc.StatusCode.RESOURCE_EXHAUSTED} == set(outcomes)
    assert 3 <= outcomes.count("hostile")
