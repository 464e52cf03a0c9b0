"""Sources in an object store that speaks S3, over HTTP, and what is said where they cannot be read."""

import contextlib
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delta_tables import delete_rows
from hindcast.errors import SourceError
from hindcast.offline.sources.objects import ObjectPin
from hindcast.offline.sources.scan import read_groups, scan_source
from hindcast.offline.sources.source import DeltaTable, files_of, find_source, source_pins
from hindcast.offline.winners.winners import read_winners
from object_store import run_object_server
from offline_repo import DRIVER, hours, offline_repo, source, trips, view, write
from services import held_port
from source_queries import FUTURE, asked, rows, won


@pytest.fixture(scope="module")
def server():
    """One server for all tests here."""
    with run_object_server() as server:
        yield server


@pytest.fixture
def storage(server):
    """A bucket of the test's own."""
    return server.bucket()


def found(storage, key, file_format="parquet", **settings):
    """A source of the bucket, pinned."""
    options = storage.options | settings
    return find_source(storage.uri(key), file_format, repo_root=Path("/nowhere"), storage_options=options)


def refused(storage, key, file_format="parquet", **settings):
    """What is said of a source that cannot be pinned."""
    with pytest.raises(SourceError) as caught:
        found(storage, key, file_format, **settings)
    return str(caught.value).replace(storage.bucket, "BUCKET")


class Tunnel:
    """A way to a server on loopback that counts the bytes of its answers."""

    def __init__(self, port):
        self.received = 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = []
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        self._run(self._accept)
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._run(self._pass, near, far, False)
                self._run(self._pass, far, near, True)

    def _pass(self, source, target, is_answer):
        with contextlib.suppress(OSError):
            while block := source.recv(65_536):
                self.received += len(block) if is_answer else 0
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)
        if is_answer:
            source.close()
            target.close()


def test_an_object_and_its_parts_are_one_source(storage, tmp_path):
    """An object is read with the parts that stand beside it, which win a tie with it."""
    storage.write("s.parquet", rows((1, 5, 10), (2, 5, 20)))
    storage.write("s.parquet.parts/a.parquet", rows((2, 5, 21)))
    storage.put("s.parquet.parts/.b.tmp", b"unfinished")

    assert {1: 10, 2: 21} == won(asked(found(storage, "s.parquet"), tmp_path))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("s", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/country=*", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/*/*/*.parquet", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/*/*/[ab].parquet", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/**/*.parquet", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/**", {1: (10, "DE", 7), 2: (20, None, 8)}),
        ("s/*/n=7/?.parquet", {1: (10, "DE", 7)}),
        ("s/country=DE", {1: (10, "DE", 7)}),
    ],
)
def test_folders_and_patterns_are_read_as_on_a_disk(storage, tmp_path, key, expected):
    """A folder of objects, or a pattern, is read with the columns that the folders' names say, and without what is hidden."""
    for folder, row in (("country=DE/n=7", (1, 5, 10)), ("country=__HIVE_DEFAULT_PARTITION__/n=8", (2, 5, 20))):
        storage.write(f"s/{folder}/a.parquet", rows(row))
    for hidden in ("s/_old/country=DE/n=7/a.parquet", "s/country=DE/n=7/.a.parquet", "s/country=DE/_7/a.parquet"):
        storage.write(hidden, rows((9, 5, 90)))
    storage.put("s/_SUCCESS", b"")
    storage.put("s/country=DE/n=7/notes.txt", b"no Parquet")
    query = asked(found(storage, key), tmp_path, fields={"f": "f", "c": "country", "n": "n"})

    assert expected == won(query)


def test_objects_are_in_the_order_of_their_folders(storage, tmp_path):
    """Of rows with equal times the one of the later file wins, and files come folder by folder, as those of a disk do."""
    for name, value in (("a", 10), ("a-b", 11)):
        (tmp_path / "s" / name).mkdir(parents=True)
        pq.write_table(rows((1, 5, value)), tmp_path / "s" / name / "z.parquet")
    storage.upload(tmp_path / "s", "s")

    here = won(asked(find_source("s", "parquet", repo_root=tmp_path), tmp_path))

    assert here == won(asked(found(storage, "s"), tmp_path))


def test_a_pin_says_what_the_store_tells(storage):
    """The pin of an object is its address, its size, when it was written, and a tag that differs for other content."""
    storage.write("s.parquet", rows((1, 5, 10)))
    (before,) = source_pins(found(storage, "s.parquet"))
    storage.write("s.parquet", rows((1, 5, 11)))
    (after,) = source_pins(found(storage, "s.parquet"))

    assert isinstance(before, ObjectPin)
    assert (storage.uri("s.parquet"), before.size_bytes) == (str(before.path), after.size_bytes)
    assert before.mtime_ns > 0
    assert before.tag
    assert before.tag != after.tag


@pytest.mark.parametrize("moment", ["before", "during"])
def test_an_object_that_changes_ends_the_run(storage, tmp_path, moment):
    """An object that is written anew while the run goes on is refused, with the same size and in the same second too."""
    storage.write("s.parquet", rows((1, 5, 10)))
    source = found(storage, "s.parquet")
    if moment == "before":
        storage.write("s.parquet", rows((1, 5, 11)))

    def read():
        with read_winners(asked(source, tmp_path), batch_rows=10) as winners:
            storage.write("s.parquet", rows((1, 5, 11)))
            list(winners.batches())

    with pytest.raises(SourceError, match=r"s\.parquet' changed while it was read; run again"):
        read()


def test_an_object_that_is_removed_ends_the_run(storage, tmp_path):
    """An object that was deleted since the run began is named."""
    storage.write("s/a.parquet", rows((1, 5, 10)))
    source = found(storage, "s")
    storage.delete("s/a.parquet")

    with pytest.raises(SourceError, match=r"/s/a\.parquet' is gone; run again"):
        won(asked(source, tmp_path))


def test_rows_dated_ahead_go_to_the_quarantine(storage, tmp_path):
    """Materialization's quarantine is written from objects as from files."""
    storage.write("s.parquet", rows((1, 5, 10), (1, FUTURE + 1, 11)))
    query = asked(found(storage, "s.parquet"), tmp_path)

    assert {1: 10} == won(query)
    assert rows((1, FUTURE + 1, 11)) == pq.read_table(query.quarantine)


def test_only_the_columns_and_groups_that_are_needed_are_fetched(storage, server):
    """Of a wide object the footer and the chosen columns of the chosen row groups come over the network, and little else."""
    count = 40_000
    wide = {f"x{at}": pa.array([float((row * 7919 + at) % 100_003) for row in range(count)]) for at in range(10)}
    storage.write(
        "s.parquet",
        rows(*((row, row, row) for row in range(count)), **wide),
        row_group_size=count // 4,
        use_dictionary=False,
        compression="NONE",
    )
    one_chunk = count // 4 * 8
    with Tunnel(int(server.endpoint.rpartition(":")[2])) as tunnel:
        source = found(storage, "s.parquet", AWS_ENDPOINT_URL=f"http://127.0.0.1:{tunnel.port}")
        scan = scan_source(source, values=["k", "x3"], event="at", created=None)
        footers = tunnel.received
        groups = [group for group in scan.groups if group.event.greatest >= count * 3 // 4]
        read = list(read_groups(groups, ["k", "x3"], types=scan.types))
        fetched = tunnel.received - footers

    assert count // 4 == sum(batch.num_rows for _, _, batch in read)
    assert 2 * one_chunk < fetched < 2 * one_chunk + 2 * 65_536 + 20_000
    assert footers < 65_536 + 20_000


def test_a_file_over_http_is_read(storage, server, tmp_path):
    """A file behind an HTTP address is read by ranges, and its pin does not repeat a signature."""
    storage.write("d/s.parquet", rows((1, 5, 10), (2, 5, 20)))
    uri = f"{server.endpoint}/{storage.bucket}/d/s.parquet?signature=secret"

    source = find_source(uri, "parquet", repo_root=tmp_path)

    (pin,) = source_pins(source)
    assert [uri.partition("?")[0]] * 2 == [str(pin.path), source.name]
    assert pin.tag
    assert {1: 10, 2: 20} == won(asked(source, tmp_path))


@contextlib.contextmanager
def plain_web_server(folder):
    """A web server of a folder, which knows no ranges and keeps `secret` to itself."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if "secret" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

        def do_HEAD(self):
            if "secret" in self.path:
                self.send_error(403)
            else:
                super().do_HEAD()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_what_is_wrong_with_a_web_address_is_said(tmp_path):
    """A file that is missing or forbidden, a server that is down and one that answers no ranges are told apart."""
    pq.write_table(rows(*((at, at, at) for at in range(50_000))), tmp_path / "s.parquet", use_dictionary=False)

    def refused_at(uri):
        with pytest.raises(SourceError) as caught:
            won(asked(find_source(uri, "parquet", repo_root=tmp_path), tmp_path))
        return str(caught.value)

    with plain_web_server(tmp_path) as address:
        assert "does not exist; check the path" in refused_at(f"{address}/none.parquet")
        assert "may not be read with the credentials" in refused_at(f"{address}/secret.parquet")
        assert "cannot be read by ranges; copy it here" in refused_at(f"{address}/s.parquet")
    with held_port() as port:
        assert "cannot be reached; check the network" in refused_at(f"http://127.0.0.1:{port}/s.parquet")


def test_a_delta_table_is_read_at_its_pinned_version(storage, tmp_path):
    """A version that was pinned is read with its partitions, whatever was appended since."""
    storage.append_delta("t", rows((1, 5, 10), (2, 5, 20), c=pa.array(["x", "y z"])), partition_by=["c"])
    pinned = found(storage, "t", "delta")
    storage.append_delta("t", rows((1, 6, 11), c=pa.array(["x"])))
    fields = {"f": "f", "c": "c"}

    assert [("s3://", 0)] == [(str(pin.path)[:5], pin.version) for pin in source_pins(pinned)]
    assert isinstance(pinned, DeltaTable)
    assert {1: (10, "x"), 2: (20, "y z")} == won(asked(pinned, tmp_path, fields=fields))
    assert {1: (11, "x"), 2: (20, "y z")} == won(asked(found(storage, "t", "delta"), tmp_path, fields=fields))


def test_deleted_rows_of_a_delta_table_in_a_store_are_left_out(storage, tmp_path):
    """A deletion vector counts in a store as on a disk, and in folders with odd names."""
    path = tmp_path / "t"
    table = rows((1, 5, 10), (1, 6, 11), (2, 5, 20), (2, 6, 21), (3, 5, 30), c=["a b/é"] * 5)
    deltalake.write_deltalake(str(path), table, partition_by=["c"])
    delete_rows(path, [1, 3])
    storage.upload(path, "odd name/t")

    query = asked(found(storage, "odd name/t", "delta"), tmp_path, fields={"f": "f", "c": "c"})

    assert {1: (10, "a b/é"), 2: (20, "a b/é"), 3: (30, "a b/é")} == won(query)


def test_a_vacuumed_file_of_a_delta_table_is_missed(storage):
    """A version whose files are gone is named as vacuumed."""
    storage.append_delta("t", rows((1, 5, 10)))
    table = found(storage, "t", "delta")
    (file,) = files_of(table).files
    storage.delete(file.pin.path.key.removeprefix(f"{storage.bucket}/"))

    with pytest.raises(SourceError, match="is gone; it was vacuumed, so run again"):
        files_of(table)


@pytest.mark.parametrize("file_format", ["parquet", "delta"])
def test_what_is_not_there_is_said(storage, file_format):
    """A missing key and a missing bucket are told apart."""
    assert "the source 's3://BUCKET/s' does not exist; check the path" in refused(storage, "s", file_format)
    elsewhere = "s3://no-such-bucket/s"
    with pytest.raises(SourceError, match="'s3://no-such-bucket/s' does not exist: there is no such bucket; check"):
        find_source(elsewhere, file_format, repo_root=Path("/"), storage_options=storage.options)


def test_folders_without_parquet_and_odd_paths_are_said(storage):
    """A folder that holds no Parquet file, a pattern that matches none, an empty object and an address without a bucket are named."""
    storage.put("s/notes.txt", b"text")
    storage.put("empty.parquet", b"")
    storage.put("text.parquet", b"no Parquet at all")

    assert "'s3://BUCKET/s' holds no Parquet file; check" in refused(storage, "s")
    assert "'s3://BUCKET/s/*' matches no Parquet file; check" in refused(storage, "s/*")
    assert "'s3://BUCKET/s//a.parquet' cannot be read; check its path" in refused(storage, "s//a.parquet")
    assert "'s3://BUCKET/s' is no Delta table; check" in refused(storage, "s", "delta")
    with pytest.raises(SourceError, match=r"'s3://' names no bucket or host; write it as s3://bucket/path"):
        find_source("s3://", "parquet", repo_root=Path("/"))
    with pytest.raises(SourceError, match="is empty"):
        scan_source(found(storage, "empty.parquet"), values=["k"], event="at", created=None)
    with pytest.raises(SourceError, match="is no whole Parquet file"):
        scan_source(found(storage, "text.parquet"), values=["k"], event="at", created=None)


@pytest.mark.parametrize("file_format", ["parquet", "delta"])
def test_a_store_that_is_not_there_is_said(storage, file_format):
    """A store that nobody listens for is named within seconds, with where its address is set."""
    with held_port() as port:
        message = refused(storage, "s", file_format, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")

    assert "the source 's3://BUCKET/s' cannot be reached; check the network" in message
    assert "curl" not in message


def test_a_store_that_goes_away_is_said(tmp_path):
    """A store that ends while its objects are read ends the run with what to check."""
    with run_object_server() as server:
        storage = server.bucket()
        storage.write("s.parquet", rows((1, 5, 10)))
        source = found(storage, "s.parquet")

        def read():
            with read_winners(asked(source, tmp_path), batch_rows=10) as winners:
                server.process.kill()
                server.process.wait()
                list(winners.batches())

        with pytest.raises(SourceError, match=r"/s\.parquet' cannot be reached; check the network"):
            read()


@pytest.mark.parametrize("file_format", ["parquet", "delta"])
def test_credentials_that_are_not_taken_are_said(storage, server, file_format):
    """Keys that the store does not know, and none that it does, are said to be at fault."""
    storage.write("s.parquet", rows((1, 5, 10)))
    with server.closed():
        message = refused(storage, "s.parquet", file_format, AWS_ACCESS_KEY_ID="unknown")

    assert "may not be read with the credentials at hand; check those of the environment" in message
    assert "unknown" not in message


def test_an_answer_goes_to_a_staging_location_in_a_store(storage, tmp_path):
    """`to_remote_storage` writes Parquet parts below the repo's staging_location, reached by the block's own settings."""
    options = {"storage_options": storage.options, "staging_location": storage.uri("staged/")}
    with offline_repo(tmp_path / "repo", **options) as store:
        write(tmp_path / "repo" / "trips.parquet", trips((1, 0, 10), (2, 1, 20)))
        store.apply([DRIVER, view(source("trips.parquet"))])
        frame = pa.table({"driver_id": [2, 1], "event_timestamp": pa.array([hours(2)] * 2, pa.timestamp("us", "UTC"))})
        (part,) = store.get_historical_features(entity_df=frame, features=["trips:trips"]).to_remote_storage()
    assert part.startswith(storage.uri("staged/"))
    with storage.files.open_input_file(part.removeprefix("s3://")) as file:
        assert [20, 10] == pq.read_table(file).column("trips").to_pylist()
