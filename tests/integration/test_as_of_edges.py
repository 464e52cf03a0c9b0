"""Point-in-time reads where DuckDB, Arrow and Feast each would have it otherwise."""

import uuid
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, Field
from feast.types import Int64
from feast.value_type import ValueType

from as_of_reads import read, view_of
from hindcast.errors import InvalidArgument
from hindcast.offline.asof.reading import AsOfQuery, Limits, read_as_of
from hindcast.offline.frames.frame import entity_frame
from hindcast.offline.writing.parts import append_part, part_name
from offline_repo import UTC_MICROS, hours, offline_repo, source, view, write

MOST = 2**63 - 1


def rows(keys, **more):
    """A source of one row for each key, at microsecond 0, whose value is the row's number."""
    count = len(keys)
    columns = {
        "k": keys,
        "event_ts": pa.array([0] * count, UTC_MICROS),
        "created_ts": pa.array([0] * count, UTC_MICROS),
        "v": list(range(count)),
    }
    return pa.table(columns | more)


def frame(keys, micros=10):
    """An entity frame that asks for keys at one time."""
    return pa.table({"id": keys, "event_timestamp": pa.array([micros] * len(keys), UTC_MICROS)})


def values(path, asked, *, field="v", root):
    """What a view of one field answers."""
    return read(asked, [view_of(path, keys={"id": "k"}, fields={"f": field})], root=root).table.column("f").to_pylist()


@pytest.mark.parametrize("folder", ["k=1/v=7", "env=prod/k=1", "sq[1]"])
def test_a_files_own_columns_count_before_the_names_of_its_folders(tmp_path, folder):
    """Keys and values are those in the file, whatever `x=y` stands in the path to it, and whichever reader reads it."""
    path = write(tmp_path / folder / "s.parquet", rows([5, 6]))
    assert [0, 1, None] == values(path, frame([5, 6, 1]), root=tmp_path)


@pytest.mark.parametrize("folder", ["plain", "sq[1]"])
@pytest.mark.parametrize("micros", [MOST, -MOST])
def test_the_outermost_times_are_times(tmp_path, folder, micros):
    """What DuckDB takes for infinity is a time as any other: before all or after all, in both readers."""
    times = pa.array([micros, 5], UTC_MICROS)
    path = write(tmp_path / folder / "s.parquet", rows([1, 1], event_ts=times, created_ts=pa.array([0, 0], UTC_MICROS)))
    assert [1] == values(path, frame([1], micros=10), root=tmp_path)
    assert [0 if micros < 0 else None] == values(path, frame([1], micros=4), root=tmp_path)


def test_an_infinite_created_time_is_one(tmp_path):
    """It comes after all others, and is known to nobody before."""
    created = pa.array([MOST, 1], UTC_MICROS)
    path = write(tmp_path / "s.parquet", rows([1, 1], created_ts=created))
    seen = view_of(path, keys={"id": "k"}, fields={"f": "v"})
    assert [0] == read(frame([1]), [seen], root=tmp_path).table.column("f").to_pylist()
    assert [1] == read(frame([1]), [seen], root=tmp_path, known_at=9).table.column("f").to_pylist()


def test_a_pushed_part_may_lack_a_feature_that_the_source_has_since(tmp_path):
    """Rows that were pushed before the feature was there answer null, and the others what they have."""
    path = write(tmp_path / "s.parquet", rows([1, 2], w=["a", "b"]))
    name = part_name("019b0c5e-8a00-7000-8000-000000000000", number=0, content=b"")
    append_part(rows([2, 3], event_ts=pa.array([1, 1], UTC_MICROS)), path, name=name)
    assert ["a", None, None] == values(path, frame([1, 2, 3]), field="w", root=tmp_path)
    assert [0, 0, 1] == values(path, frame([1, 2, 3]), root=tmp_path)


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.binary(), pa.string()])
def test_a_file_that_has_nothing_but_nulls_in_a_column_answers_null(tmp_path, kind):
    """The column's type is that of the other files, where only the empty one is read too."""
    write(tmp_path / "s" / "a.parquet", rows([1], w=pa.nulls(1)))
    write(tmp_path / "s" / "b.parquet", rows([2], w=pa.array([None], kind)))
    answer = read(frame([1]), [view_of(tmp_path / "s", keys={"id": "k"}, fields={"f": "w"})], root=tmp_path)
    assert (kind, [None]) == (answer.table.schema.field("f").type, answer.table.column("f").to_pylist())


def test_keys_of_arrows_uuid_type_are_found(tmp_path):
    """An extension type is compared by what it stores."""
    ids = [uuid.UUID(int=n).bytes for n in range(3)]
    keys = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    path = write(tmp_path / "s.parquet", rows(keys))
    asked = frame(pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids[::-1], pa.binary(16))))
    assert [2, 1, 0] == values(path, asked, root=tmp_path)


def test_keys_that_nothing_can_be_compared_with_are_refused_by_name(tmp_path):
    """A column of lists is no key; the message names it and says what is."""
    path = write(tmp_path / "s.parquet", rows([1]))
    with pytest.raises(InvalidArgument, match=r"id: is list<.*which no join key is"):
        values(path, frame([[1], [2]]), root=tmp_path)


def test_dictionaries_that_cannot_be_one_are_keys_all_the_same(tmp_path):
    """Pieces of a frame whose dictionaries do not fit into one small index are read by their values."""
    texts = [str(n) for n in range(300)]
    path = write(tmp_path / "s.parquet", rows(texts))
    kind = pa.dictionary(pa.int8(), pa.string())
    pieces = [pa.array(texts[at : at + 100]).cast(kind) for at in range(0, 300, 100)]
    asked = pa.table({"id": pa.chunked_array(pieces), "event_timestamp": pa.array([10] * 300, UTC_MICROS)})
    with entity_frame(asked, spill_dir=tmp_path / "spill", repo_root=tmp_path) as entities:
        query = AsOfQuery(
            frame=entities,
            views=[view_of(path, keys={"id": "k"}, fields={"f": "v"})],
            known_at=None,
            limits=Limits(memory_bytes=2**28, threads=1, spill_dir=tmp_path / "spill"),
        )
        with read_as_of(query) as result:
            assert list(range(300)) == [row for batch in result.batches(1000) for row in batch.column("f").to_pylist()]


def test_batches_of_wide_rows_are_short(tmp_path):
    """What is held for a batch follows the memory limit, not the number of rows that was asked for."""
    path = write(tmp_path / "s.parquet", rows(list(range(10)), w=["x" * 100_000] * 10))
    asked = frame([n % 10 for n in range(1000)])
    with entity_frame(asked, spill_dir=tmp_path / "spill", repo_root=tmp_path) as entities:
        query = AsOfQuery(
            frame=entities,
            views=[view_of(path, keys={"id": "k"}, fields={"f": "w"})],
            known_at=None,
            limits=Limits(memory_bytes=32 * 2**20, threads=1, spill_dir=tmp_path / "spill"),
        )
        with read_as_of(query) as result:
            sizes = [(batch.num_rows, batch.nbytes) for batch in result.batches(65_536)]
    assert 1000 == sum(count for count, _ in sizes)
    assert max(size for _, size in sizes) < 4 * 2**20


def test_a_read_without_fields_gives_the_frame_back(tmp_path):
    """Views of which nothing is asked add nothing, whatever the frame is made of."""
    path = write(tmp_path / "s.parquet", rows([1]))
    answer = read(frame([1, 2]), [view_of(path, keys={"id": "k"}, fields={})], root=tmp_path)
    assert [1, 2] == answer.table.column("id").to_pylist()


def test_two_join_keys_can_be_one_column_of_the_frame(tmp_path):
    """A join key map that sends both keys of a view to one column asks for rows whose keys are both that."""
    first, second = (Entity(name=name, join_keys=[name], value_type=ValueType.INT64) for name in ("a_id", "b_id"))
    with offline_repo(tmp_path / "repo") as store:
        pairs = pa.table(
            {
                "a_id": [1, 1, 2],
                "b_id": [1, 2, 1],
                "event_timestamp": pa.array([hours(0)] * 3, UTC_MICROS),
                "trips": [100, 200, 300],
            }
        )
        write(tmp_path / "repo" / "pairs.parquet", pairs)
        both = view(source("pairs.parquet"), Field(name="trips", dtype=Int64), entities=[first, second])
        store.apply([first, second, both])
        asked = pd.DataFrame({"n": [1, 2], "a_id": [1, 2], "event_timestamp": [hours(1)] * 2})
        for mapping, expected in (({"a_id": "n", "b_id": "n"}, [100, None]), ({"b_id": "a_id"}, [100, None])):
            service = FeatureService(name="both", features=[both.with_join_key_map(mapping)])
            store.apply([service])
            table = store.get_historical_features(asked, service).to_arrow()
            assert expected == table.column("trips").to_pylist()


def test_a_ttl_is_exact_to_the_microsecond(tmp_path):
    """A row exactly as old as a TTL that no float says exactly is still seen."""
    ttl = timedelta(microseconds=4_186_404)
    with offline_repo(tmp_path / "repo") as store:
        driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
        table = pa.table({"driver_id": [1], "event_timestamp": pa.array([hours(0)], UTC_MICROS), "trips": [7]})
        pq.write_table(table, tmp_path / "repo" / "short.parquet")
        store.apply([driver, view(source("short.parquet"), ttl=ttl)])
        asked = pd.DataFrame({"driver_id": [1], "event_timestamp": [hours(0) + ttl]})
        answer = store.get_historical_features(asked, ["trips:trips"]).to_arrow()
        assert [7] == answer.column("trips").to_pylist()


def test_columns_of_a_pinned_version_say_it(tmp_path):
    """Under full feature names two versions of one view stand side by side, as they do online."""
    with offline_repo(tmp_path / "repo") as store:
        driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
        table = pa.table({"driver_id": [1], "event_timestamp": pa.array([hours(0)], UTC_MICROS), "trips": [7]})
        pq.write_table(table, tmp_path / "repo" / "trips.parquet")
        store.apply([driver, view(source("trips.parquet"))])
        # What `registry: {enable_online_feature_view_versioning: true}` sets.
        store.registry.enable_online_versioning = True
        asked = pd.DataFrame({"driver_id": [1], "event_timestamp": [hours(1)]})
        job = store.get_historical_features(asked, ["trips@v0:trips", "trips:trips"], full_feature_names=True)
        assert ["driver_id", "event_timestamp", "trips@v0__trips", "trips__trips"] == job.to_arrow().column_names
