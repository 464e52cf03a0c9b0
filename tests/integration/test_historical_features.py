"""`get_historical_features` through Feast: every form of entity frame, what may have been known, explanations, leaks, and answers larger than memory."""

import gc
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, Field, RequestSource
from feast.errors import RequestDataNotFoundInEntityDfException
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64
from feast.value_type import ValueType

from hindcast.errors import InvalidArgument, SourceError
from offline_repo import DRIVER, NOON, UTC_MICROS, hours, offline_repo, source, trips, view, write

pytestmark = pytest.mark.filterwarnings("ignore:Saving dataset is an experimental feature:RuntimeWarning")

CITY = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)


def created(*at):
    """A column of created times, hours after noon."""
    return pa.array([None if hour is None else hours(hour) for hour in at], UTC_MICROS)


def asked(*rows):
    """An entity frame of (driver, hours after noon)."""
    drivers, at = zip(*rows, strict=True)
    return pd.DataFrame({"driver_id": drivers, "event_timestamp": [hours(hour) for hour in at]})


@pytest.fixture
def store(tmp_path):
    """A repo with one view: driver 1 has rows at 0 and 2 hours, the later one corrected at 9; driver 2 has one at 1, known at 5."""
    with offline_repo(tmp_path / "repo") as opened:
        rows = trips((1, 0, 10), (1, 2, 20), (1, 2, 21), (2, 1, 30), created_ts=created(0, 2, 9, 5))
        write(tmp_path / "repo" / "data" / "trips.parquet", rows)
        opened.apply([DRIVER, view(source("data/trips.parquet", created_timestamp_column="created_ts"))])
        yield opened


def read(store, frame, features=("trips:trips",), **options):
    """The column `trips` of the answer."""
    return (
        store.get_historical_features(entity_df=frame, features=list(features), **options)
        .to_arrow()
        .column("trips")
        .to_pylist()
    )


FRAME = asked((1, 2), (2, 1), (1, -1), (3, 2), (1, 2), (1, 1))
VALUES = [21, 30, None, None, 21, 10]
KNOWN_AT_4 = [20, None, None, None, 20, 10]


def test_each_row_is_answered_as_of_its_own_time_in_the_frames_order(store):
    """N rows in are the same n rows out, repeats and rows without an answer among them."""
    table = store.get_historical_features(entity_df=FRAME, features=["trips:trips"]).to_arrow()
    assert ["driver_id", "event_timestamp", "trips"] == table.column_names
    assert FRAME["driver_id"].tolist() == table.column("driver_id").to_pylist()
    assert FRAME["event_timestamp"].tolist() == table.column("event_timestamp").to_pylist()
    assert VALUES == table.column("trips").to_pylist()


def test_every_form_of_entity_frame_gives_one_answer(store, tmp_path):
    """pandas, Arrow, a stream, a path and SQL text are read alike through Feast's call."""
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    path = write(tmp_path / "asked.parquet", table)
    forms = [FRAME, table, table.to_reader(), str(path), f"FROM '{path}'"]
    assert [VALUES] * len(forms) == [read(store, form) for form in forms]


def test_a_stream_that_can_be_read_once_serves_a_job_many_times(store):
    """The job keeps what it read of a stream, so its answer, leaks and metadata can be asked for one after another."""
    reader = pa.Table.from_pandas(FRAME, preserve_index=False).to_reader()
    job = store.get_historical_features(entity_df=reader, features=["trips:trips"])
    assert hours(-1) == job.metadata.min_event_timestamp
    assert [VALUES, VALUES] == [job.to_arrow().column("trips").to_pylist() for _ in range(2)]
    assert 3 == job.leaks()["trips"].rows


class OneStream:
    """Nothing but an Arrow stream, which can be had once."""

    def __init__(self, reader):
        self.reader = reader

    def __arrow_c_stream__(self, requested_schema=None):
        return self.reader.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("form", [lambda reader: reader, OneStream])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_stream_that_can_be_read_once_serves_the_jobs_of_known_at_too(store, form, is_first):
    """They share the frame with the job that they are made of, whichever of them is asked first."""
    reader = pa.Table.from_pandas(FRAME, preserve_index=False).to_reader()
    job = store.get_historical_features(entity_df=form(reader), features=["trips:trips"])
    then = job.known_at(hours(4))
    answers = {made: made.to_arrow().column("trips").to_pylist() for made in ([job, then] if is_first else [then, job])}
    assert [VALUES, KNOWN_AT_4] == [answers[job], answers[then]]


def test_a_stream_that_failed_is_not_read_on(store):
    """Asked again, the job does not take what is left of a stream for all of it."""
    table = pa.Table.from_pandas(FRAME, preserve_index=False)

    def failing():
        yield table.to_batches()[0]
        raise OSError

    reader = pa.RecordBatchReader.from_batches(table.schema, failing())
    job = store.get_historical_features(entity_df=reader, features=["trips:trips"])
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="entity_df: could not be read to its end"):
            job.to_arrow()


def test_what_a_frame_takes_on_the_disk_goes_with_its_last_job(store, tmp_path):
    """The directory is removed when the job and what `known_at` made of it are let go, and not when memory is next swept."""
    spill = tmp_path / "repo" / ".hindcast" / "spill"
    reader = pa.Table.from_pandas(FRAME, preserve_index=False).to_reader()
    gc.disable()
    try:
        job = store.get_historical_features(entity_df=reader, features=["trips:trips"])
        job.to_arrow()
        then = job.known_at(hours(4))
        del job
        assert KNOWN_AT_4 == then.to_arrow().column("trips").to_pylist()
        assert 1 == len(list(spill.iterdir()))
        del then
        assert [] == list(spill.iterdir())
    finally:
        gc.enable()


def test_known_at_leaves_out_what_was_created_later(store):
    """Of the rows of one event time the one is seen that was known by then, and a row that was not known is none."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    then = job.known_at(hours(4)).to_arrow().column("trips").to_pylist()
    assert KNOWN_AT_4 == then
    assert VALUES == job.to_arrow().column("trips").to_pylist()


def test_known_at_can_be_a_column_with_a_time_for_each_row(store):
    """A row with a null there sees all, any other what was known by its own time."""
    frame = asked((1, 2), (1, 2), (1, 2), (2, 1)).assign(known=[hours(3), hours(9), None, hours(4)])
    job = store.get_historical_features(entity_df=frame, features=["trips:trips"])
    assert [20, 21, 21, None] == job.known_at("known").to_arrow().column("trips").to_pylist()


def test_feasts_own_filter_by_created_timestamp_is_known_at_of_each_rows_time(store):
    """What Feast calls so leaves no leak."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"], filter_by_created_timestamp=True)
    assert [20, None, None, None, 20, 10] == job.to_arrow().column("trips").to_pylist()
    assert 0 == job.leaks()["trips"].rows


def test_leaks_count_rows_whose_value_was_not_known_at_their_time(store):
    """The correction of driver 1 came 7 hours after the fact, twice asked for, the row of driver 2 came 4 hours after."""
    leaks = store.get_historical_features(entity_df=FRAME, features=["trips:trips"]).leaks()["trips"]
    assert (4, 3, 7 * 3_600_000_000) == (leaks.found, leaks.rows, leaks.worst_micros)


def test_a_known_at_that_is_no_time_or_no_column_is_refused_by_name(store):
    """The message names the column and what it needs."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    with pytest.raises(InvalidArgument, match="times in the column 'driver_id', but it is int64; make it a timestamp"):
        job.known_at("driver_id").to_arrow()
    with pytest.raises(InvalidArgument, match="known_at: is 'nowhere', which is no time and no column"):
        job.known_at("nowhere").to_arrow()


@pytest.mark.parametrize("wrong", [pd.NaT, np.datetime64("NaT"), None, 5, True])
def test_a_known_at_that_is_no_time_at_all_is_refused_at_once(store, wrong):
    """NaT above all, which would cut nothing off."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    with pytest.raises(InvalidArgument, match=r"known_at: is .*; give a datetime"):
        job.known_at(wrong)


def test_a_known_at_of_text_is_told_to_be_a_datetime(store):
    """A time as text would be the name of a column, and there is none."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    with pytest.raises(InvalidArgument, match=r"known_at: '2026-03-01' is text.*give a datetime"):
        job.known_at("2026-03-01").to_arrow()


@pytest.mark.parametrize(
    "same",
    [
        hours(4).replace(tzinfo=None),
        pd.Timestamp(hours(4)),
        pd.Timestamp(hours(4)).tz_convert("Asia/Kolkata"),
        pd.Timestamp("2026-03-01T16:00:00"),
        np.datetime64("2026-03-01T16:00:00"),
        np.datetime64("2026-03-01T16", "h"),
        np.datetime64("2026-03-01T16:00:00.000000999", "ns"),
    ],
)
def test_every_form_of_a_time_means_the_same(store, same):
    """A datetime, pandas' and NumPy's, with a zone or without one."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    assert KNOWN_AT_4 == job.known_at(same).to_arrow().column("trips").to_pylist()


def test_a_date_is_its_midnight(store):
    """As a cut-off, and as either end of all keys between two times."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    assert [None] * 6 == job.known_at(hours(0).date()).to_arrow().column("trips").to_pylist()
    assert VALUES == job.known_at(hours(24).date()).to_arrow().column("trips").to_pylist()
    days = {"start_date": hours(0).date(), "end_date": hours(24).date()}
    assert 3 == store.get_historical_features(features=["trips:trips"], **days).to_arrow().num_rows


def test_an_end_of_all_keys_that_is_no_time_is_refused_by_name(store):
    """Text and NaT are told from times before anything is read."""
    for name, wrong in (("start_date", "2026-03-01"), ("start_date", pd.NaT), ("end_date", "2026-03-01")):
        days = {"start_date": hours(0), "end_date": hours(24)} | {name: wrong}
        with pytest.raises(InvalidArgument, match=rf"{name}: is .*; give a datetime"):
            store.get_historical_features(features=["trips:trips"], **days).to_arrow()


def test_times_that_python_has_no_datetime_for_are_none_in_the_metadata(store):
    """The job answers as ever, on-demand views too, for which Feast asks for the metadata."""
    far = pa.array([hours(1), None], UTC_MICROS).fill_null(pa.scalar(10**18, pa.int64()).cast(UTC_MICROS))
    job = store.get_historical_features(
        entity_df=pa.table({"driver_id": [1, 2], "event_timestamp": far}), features=["trips:trips"]
    )
    assert (hours(1), None) == (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp)
    assert [10, 30] == job.to_arrow().column("trips").to_pylist()


def test_explain_says_which_files_and_rows_are_read_before_they_are(store, tmp_path):
    """Of a folder with a file for each day only those files count that can hold rows of the times asked about."""
    for day in range(10):
        write(tmp_path / "repo" / "days" / f"{day}.parquet", trips(*((n, 24 * day + 1, n) for n in range(100))))
    store.apply([view(source("days"), name="days", ttl=timedelta(days=2))])
    frame = asked((5, 24 * 4 + 2), (6, 24 * 5 + 2))
    job = store.get_historical_features(entity_df=frame, features=["days:trips"])
    (reading,) = job.explain().views
    assert (10, 3, 1_000, 300) == (reading.files, reading.files_read, reading.rows, reading.rows_read)
    assert 2 == reading.rows_fetched_max
    text = str(job.explain())
    assert "3 of 10" in text
    assert "300 of 1,000" in text
    # Files that do not count are not read: without them the answer is the same.
    for day in (0, 1, 2, 6, 7, 8, 9):
        (tmp_path / "repo" / "days" / f"{day}.parquet").unlink()
    assert [5, 6] == job.to_arrow().column("trips").to_pylist()


def test_what_explain_says_of_bytes_is_what_the_footers_say(store, tmp_path):
    """Narrow bytes are those of keys and times, wide bytes those of the values."""
    (reading,) = store.get_historical_features(entity_df=FRAME, features=["trips:trips"]).explain().views
    group = pq.ParquetFile(tmp_path / "repo" / "data" / "trips.parquet").metadata.row_group(0)
    sizes = {group.column(at).path_in_schema: group.column(at).total_compressed_size for at in range(4)}
    assert sizes.pop("trips") == reading.wide_bytes_max
    assert sum(sizes.values()) == reading.narrow_bytes


def test_all_keys_between_two_times_need_no_frame(store):
    """Every key and time of the source in the interval is a row, and each sees what it may."""
    table = store.get_historical_features(features=["trips:trips"], start_date=hours(0.5), end_date=hours(2)).to_arrow()
    assert [(2, hours(1), 30), (1, hours(2), 21)] == list(
        zip(*(table.column(name).to_pylist() for name in ("driver_id", "event_timestamp", "trips")), strict=True)
    )


def test_on_demand_views_get_their_sources_and_the_frames_request_data(store):
    """A view computed at request time is computed here too, from what the row saw; request data that is missing is named."""

    @on_demand_feature_view(
        sources=[
            store.get_feature_view("trips"),
            RequestSource(name="fare", schema=[Field(name="fare", dtype=Float64)]),
        ],
        schema=[Field(name="income", dtype=Float64)],
    )
    def incomes(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"income": inputs["trips"] * inputs["fare"]})

    store.apply([incomes])
    frame = pa.Table.from_pandas(asked((1, 1), (2, 1)).assign(fare=[2.0, 0.5]), preserve_index=False)
    table = store.get_historical_features(entity_df=frame, features=["incomes:income"]).to_arrow()
    assert [20.0, 15.0] == table.column("income").to_pylist()
    with pytest.raises(RequestDataNotFoundInEntityDfException, match="fare"):
        store.get_historical_features(entity_df=frame.drop_columns(["fare"]), features=["incomes:income"]).to_arrow()


def on_demand(store, **outputs):
    """On-demand views over `trips`, each of some outputs."""

    def made(name, features):
        return on_demand_feature_view(
            name=name,
            sources=[store.get_feature_view("trips")],
            schema=[Field(name=feature, dtype=Int64) for feature in features],
            mode="pandas",
        )(lambda inputs: pd.DataFrame(dict.fromkeys(features, inputs["trips"] + 1)))

    store.apply([made(name, features) for name, features in outputs.items()])


def test_an_output_with_the_name_of_another_column_is_refused(store):
    """Of the frame, of a feature that it is computed from, or of another output: two columns of one name are in no answer."""
    on_demand(store, more=["label", "a__b"], more__a=["b"], same=["trips"], twin=["trips__trips"])
    frame = asked((1, 1)).assign(label=["x"], more__label=["y"])
    for features, is_full, message in (
        (["more:label"], False, "label: of the on-demand view 'more' has the name of a column of the entity frame"),
        (["more:label"], True, "more__label: of the on-demand view 'more' has the name of a column of the entity"),
        (["more:a__b", "more__a:b"], True, "more__a__b: of .* has the name of another feature of this read"),
        (
            ["same:trips"],
            False,
            "trips: of the on-demand view 'same' has the name of a feature that it is computed from",
        ),
        (["same:trips"], True, "same__trips: of .* has the name of a feature that it is computed from"),
        (["twin:trips__trips"], False, "trips__trips: of .* has the name of a feature that it is computed from"),
    ):
        job = store.get_historical_features(entity_df=frame, features=features, full_feature_names=is_full)
        with pytest.raises(InvalidArgument, match=message):
            job.to_arrow()
    job = store.get_historical_features(entity_df=asked((1, 1)), features=["more:label", "more:a__b", "more__a:b"])
    assert [[11]] * 3 == [job.to_arrow().column(name).to_pylist() for name in ("label", "a__b", "b")]


@pytest.mark.parametrize(("column", "is_full"), [("trips", True), ("trips__trips", False)])
def test_an_input_with_the_name_of_a_column_of_the_frame_is_refused(store, column, is_full):
    """Feast gives a function its inputs by both of their names, and the frame's column would be a second one of it."""
    on_demand(store, more=["label"])
    job = store.get_historical_features(
        entity_df=asked((1, 1)).assign(**{column: 5}), features=["more:label"], full_feature_names=is_full
    )
    with pytest.raises(
        InvalidArgument, match=rf"{column}: is a column of the entity frame and a feature that .* 'more' is"
    ):
        job.to_arrow()


def test_one_view_under_two_names_joins_two_columns(store):
    """An alias with a join key map reads the same source for another column of the frame."""
    trips_view = store.get_feature_view("trips")
    service = FeatureService(
        name="pairs",
        features=[
            trips_view.with_name("first").with_join_key_map({"driver_id": "first_id"}),
            trips_view.with_name("second").with_join_key_map({"driver_id": "second_id"}),
        ],
    )
    store.apply([service])
    frame = pd.DataFrame({"first_id": [1, 2], "second_id": [2, 1], "event_timestamp": [hours(1), hours(1)]})
    job = store.get_historical_features(entity_df=frame, features=service, full_feature_names=True)
    table = job.to_arrow()
    assert [10, 30] == table.column("first__trips").to_pylist()
    assert [30, 10] == table.column("second__trips").to_pylist()
    assert {"first", "second"} == set(job.leaks())


def test_a_field_mapping_names_the_sources_own_columns(store, tmp_path):
    """Features, keys and times may all be called otherwise in the source."""
    table = trips((1, 0, 10)).rename_columns(["drv", "ts", "n"])
    write(tmp_path / "repo" / "mapped.parquet", table)
    mapping = {"drv": "driver_id", "ts": "event_timestamp", "n": "trips"}
    store.apply([view(source("mapped.parquet", name="mapped", field_mapping=mapping), name="mapped")])
    assert [10] == read(store, asked((1, 1)), ["mapped:trips"])


@pytest.mark.parametrize("name", ["count_y", 'a"b', "a b", "größe", "entity_row_id", "file_row_number", "e", "Trips"])
def test_a_features_name_may_be_any(store, tmp_path, name):
    """Names that end in _y or hold quotes, spaces and letters of any script are read as any other."""
    rows = trips((1, 0, 10), more=pa.array([7], pa.int64())).rename_columns(
        ["driver_id", "event_timestamp", "trips", name]
    )
    write(tmp_path / "repo" / "odd.parquet", rows)
    odd = view(
        source("odd.parquet", name="odd"), Field(name="trips", dtype=Int64), Field(name=name, dtype=Int64), name="odd"
    )
    store.apply([odd])
    table = store.get_historical_features(entity_df=asked((1, 1)), features=[f"odd:{name}", "odd:trips"]).to_arrow()
    assert [[7], [10]] == [table.column(name).to_pylist(), table.column("trips").to_pylist()]


def test_a_feature_with_the_name_of_a_column_of_the_frame_is_refused(store):
    """Neither of the two is lost silently; the message says what to do."""
    frame = asked((1, 1)).assign(trips=[5])
    with pytest.raises(InvalidArgument, match="full_feature_names=True"):
        read(store, frame)
    full = store.get_historical_features(entity_df=frame, features=["trips:trips"], full_feature_names=True).to_arrow()
    assert [[5], [10]] == [full.column("trips").to_pylist(), full.column("trips__trips").to_pylist()]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (pa.array([1, 2], pa.int8()), [10, 30]),
        (pa.array([1, 2**63 + 1], pa.uint64()), [10, None]),
        (pa.array([1.0, None], pa.float64()), [10, None]),
        (pa.array([1, None], pa.int64()), [10, None]),
        (pa.array([None, None], pa.null()), [None, None]),
        (pa.array([1, 2], pa.int64()).dictionary_encode(), [10, 30]),
    ],
)
def test_whole_numbers_are_keys_whatever_their_width(store, keys, found):
    """Integers of any width are compared by value, pandas' floats for integers with a null among them too, and a null matches nothing."""
    frame = pa.table({"driver_id": keys, "event_timestamp": pa.array([hours(1)] * 2, UTC_MICROS)})
    assert found == read(store, frame)


@pytest.mark.parametrize(
    "keys", [pa.array(["1"]), pa.array([1.5]), pa.array([True]), pa.array([b"1"]), pa.array([NOON])]
)
def test_keys_of_another_kind_are_refused_by_the_columns_name(store, keys):
    """Text is no number, and neither is half of one: never a silent null."""
    frame = pa.table({"driver_id": keys, "event_timestamp": pa.array([hours(1)], UTC_MICROS)})
    with pytest.raises(InvalidArgument, match=r"driver_id: is .*, but the join key is int64 in the source"):
        read(store, frame)


def test_text_keys_are_compared_by_their_bytes(store, tmp_path):
    """Two forms of one letter are two keys, text of a dictionary is text, and ("1", "23") is not ("12", "3")."""
    rows = pa.table(
        {
            "city": ["é", "e\u0301", "1", "12"],
            "driver_id": [1, 1, 23, 3],
            "event_timestamp": pa.array([hours(0)] * 4, UTC_MICROS),
            "trips": [1, 2, 3, 4],
        }
    )
    write(tmp_path / "repo" / "city.parquet", rows)
    store.apply([CITY, view(source("city.parquet", name="city"), name="city", entities=[CITY, DRIVER])])
    frame = pd.DataFrame(
        {
            "city": pd.Categorical(["e\u0301", "12", "1", "é", "1"]),
            "driver_id": [1, 3, 23, 1, 3],
            "event_timestamp": [hours(1)] * 5,
        }
    )
    assert [2, 4, 3, 1, None] == read(store, frame, ["city:trips"])


def test_pushed_parts_are_part_of_the_history(store):
    """Rows appended by Feast's SDK are seen, and the later of two equal times is the part's."""
    rows = trips((1, 2, 22), created_ts=created(9))
    store.write_to_offline_store("trips", rows.to_pandas())
    assert [22] == read(store, asked((1, 2)))


def test_an_answer_larger_than_its_memory_goes_to_parquet(tmp_path):
    """Under a limit that the values do not fit in, they are set aside on the disk meanwhile, the file holds every row in the frame's order, and nothing is left."""
    with offline_repo(tmp_path / "repo", memory_limit_mb=32) as store:
        drivers, wide = 60_000, 40
        fields = {f"f{at}": pa.array([float(n * wide + at) for n in range(drivers)]) for at in range(wide)}
        rows = trips(*((n, 0, n) for n in range(drivers)), **fields)
        write(tmp_path / "repo" / "wide.parquet", rows, row_group_size=5_000)
        schema = [Field(name="trips", dtype=Int64), *(Field(name=name, dtype=Float64) for name in fields)]
        store.apply([DRIVER, view(source("wide.parquet"), *schema)])
        order = [n * 7 % drivers for n in range(150_000)]
        frame = pa.table({"driver_id": order, "event_timestamp": pa.array([hours(1)] * len(order), UTC_MICROS)})
        job = store.get_historical_features(
            entity_df=frame, features=["trips:trips", *(f"trips:{name}" for name in fields)]
        )
        assert job.explain().spills
        spill = tmp_path / "repo" / ".hindcast" / "spill"
        halves = job.to_arrow_batches(75_000)
        next(halves)
        (aside,) = spill.glob("answer-*")
        assert any(path.stat().st_size for path in aside.rglob("*") if path.is_file())
        halves.close()
        job.to_parquet(tmp_path / "answer.parquet")
        answer = pq.read_table(tmp_path / "answer.parquet")
        assert order == answer.column("trips").to_pylist()
        assert [float(n * wide + 39) for n in order] == answer.column("f39").to_pylist()
        assert [] == list(spill.glob("answer-*"))


def test_a_saved_data_set_holds_the_answer(store):
    """Feast's saved data sets are written from the job and read back."""
    job = store.get_historical_features(entity_df=FRAME, features=["trips:trips"])
    saved = store.create_saved_dataset(job, "kept", SavedDatasetFileStorage(path="data/kept.parquet"))
    back = saved.to_df()
    assert sorted(map(str, VALUES)) == sorted(str(None if pd.isna(value) else int(value)) for value in back["trips"])


def test_a_frame_without_rows_gives_an_answer_without_rows(store):
    """Its columns and their types are those of any other answer."""
    empty = store.get_historical_features(entity_df=FRAME.head(0), features=["trips:trips"]).to_arrow()
    some = store.get_historical_features(entity_df=FRAME, features=["trips:trips"]).to_arrow()
    assert 0 == empty.num_rows
    assert some.schema.remove_metadata() == empty.schema.remove_metadata()


def test_a_source_that_is_gone_is_named_and_so_is_what_to_do(store, tmp_path):
    """A failure to read is told in our own words."""
    (tmp_path / "repo" / "data" / "trips.parquet").unlink()
    with pytest.raises(SourceError, match=r"data/trips\.parquet' does not exist; check the path of the FileSource"):
        read(store, FRAME)


def test_a_column_of_the_frame_that_is_missing_is_named(store):
    """A join key that the frame does not have is an error that lists what it has."""
    with pytest.raises(InvalidArgument, match="driver_id: is no column of the entity frame"):
        read(store, FRAME[["event_timestamp"]])


def test_a_view_without_entities_is_joined_by_time_alone(store, tmp_path):
    """Every row sees the newest row of its time."""
    rows = trips((0, 0, 1), (0, 1, 2)).drop_columns(["driver_id"])
    write(tmp_path / "repo" / "all.parquet", rows)
    store.apply([view(source("all.parquet", name="all"), name="all", entities=[])])
    assert [2, 1, None] == read(store, asked((1, 3), (9, 0.5), (1, -1)), ["all:trips"])


def test_the_times_edges_are_closed_to_the_microsecond(store, tmp_path):
    """A row exactly as old as the TTL is seen, one that is a microsecond older is not."""
    micro = timedelta(microseconds=1)
    write(tmp_path / "repo" / "short.parquet", trips((1, 0, 1)))
    store.apply([view(source("short.parquet", name="short"), name="short", ttl=timedelta(hours=1))])
    times = [hours(1), hours(1) + micro, hours(0), hours(0) - micro]
    frame = pd.DataFrame({"driver_id": [1] * 4, "event_timestamp": times})
    assert [1, None, 1, None] == read(store, frame, ["short:trips"])


def test_a_time_without_a_zone_is_utc(store):
    """A naive frame asks the same as an aware one, whatever zone that one is in."""
    naive = FRAME.assign(event_timestamp=FRAME["event_timestamp"].dt.tz_localize(None))
    abroad = FRAME.assign(event_timestamp=FRAME["event_timestamp"].dt.tz_convert("Asia/Kolkata"))
    assert [VALUES, VALUES] == [read(store, naive), read(store, abroad)]
