"""Training sets of Hindcast's offline store and of Feast's DuckDB store, on one registry and the same files.

What people usually have is answered alike; each difference is a row of differences.md, and a test here that shows both sides.
"""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import Int64, String
from feast.value_type import ValueType
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ibis.common.exceptions import IbisInputError, IbisTypeError

from hindcast.errors import InvalidArgument
from hindcast.offline.writing.parts import append_part

MIDNIGHT = datetime(2025, 6, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
PARQUET = ParquetFormat()
UTC_MICROS = pa.timestamp("us", "UTC")
ENTITIES = {
    "k": Entity(name="k", join_keys=["k"], value_type=ValueType.INT64),
    "t": Entity(name="t", join_keys=["t"], value_type=ValueType.STRING),
}
KEY_TYPES = {"k": (pa.int64(), Int64), "t": (pa.string(), String)}


def hours(number):
    """So many hours after midnight."""
    return MIDNIGHT + timedelta(hours=number)


@dataclass
class Stores:
    """Two Feast stores that share a registry: `ours`, and `feasts` with its DuckDB store."""

    root: Path
    ours: FeatureStore
    feasts: FeatureStore

    def apply(self, *objects):
        """`feast apply`, seen by both."""
        self.ours.apply(list(objects))
        self.feasts.refresh_registry()

    def view(
        self,
        table,
        *features,
        entities=("k",),
        name="v",
        path=None,
        created="created_ts",
        mapping=None,
        form=PARQUET,
        **more,
    ):
        """A view of a table that is written to a file of its own, or of what is at a path."""
        if path is None:
            path = self.root / f"{name}.parquet"
            pq.write_table(table, path)
        source = FileSource(
            name=f"source of {name}",
            path=str(path),
            timestamp_field="event_ts",
            created_timestamp_column=created or "",
            file_format=form,
            field_mapping=mapping or {},
        )
        keys = [Field(name=key, dtype=KEY_TYPES[key][1]) for key in entities]
        options = {"ttl": timedelta(0), **more}
        schema = [*keys, *(Field(name=feature, dtype=Int64) for feature in features)]
        return FeatureView(
            name=name, entities=[ENTITIES[key] for key in entities], schema=schema, source=source, **options
        )

    def read(self, features, frame, **options):
        """The training set of each, ours first."""
        return [
            store.get_historical_features(entity_df=frame.copy(), features=features, **options).to_arrow()
            for store in (self.ours, self.feasts)
        ]

    def values(self, feature, frame, **options):
        """One feature of view `v` from each, by the frame's column `row`, whatever the order."""
        tables = self.read([f"v:{feature}"], frame, **options)
        return [by_row(table)[feature] for table in tables]


@contextlib.contextmanager
def two_stores(root):
    """Both on an empty registry in a folder."""
    for name, store in (("ours", "hindcast.offline.plugin.AsOfOfflineStore"), ("feasts", "duckdb")):
        blocks = {
            "project": "p",
            "provider": "local",
            "registry": str(root / "registry.db"),
            "offline_store": {"type": store},
            "online_store": {"type": "sqlite", "path": str(root / "online.db")},
            "entity_key_serialization_version": 3,
        }
        (root / f"{name}.yaml").write_text(yaml.safe_dump(blocks))
    yield Stores(
        root, *(FeatureStore(repo_path=str(root), fs_yaml_file=root / f"{n}.yaml") for n in ("ours", "feasts"))
    )


@pytest.fixture
def stores(tmp_path):
    """Both on an empty registry."""
    with two_stores(tmp_path) as both:
        yield both


def history(*rows, event=UTC_MICROS, created=UTC_MICROS, name="f", **more):
    """A table of (key, event time, created time, value)."""
    keys, events, known, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "k": pa.array(keys, pa.int64()),
            "event_ts": pa.array(events, event),
            "created_ts": pa.array(known, created),
            name: pa.array(values, pa.int64()),
            **more,
        }
    )


def frame_of(*rows, **more):
    """A pandas frame of (key, time), with the number of each row."""
    keys, times = zip(*rows, strict=True)
    return pd.DataFrame(
        {"k": list(keys), "event_timestamp": pd.to_datetime(list(times), utc=True), "row": range(len(rows)), **more}
    )


def by_row(table):
    """The columns of a table as lists, by its column `row`."""
    ordered = table.sort_by("row")
    return {name: ordered[name].to_pylist() for name in table.column_names}


# What is answered alike.

_TIMES = st.sampled_from(
    [MIDNIGHT, MIDNIGHT + MICRO, MIDNIGHT - MICRO, hours(1), hours(1) + MICRO, hours(-30), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)]
)  # fmt: skip
_KEYS = {"k": st.integers(0, 2), "t": st.sampled_from(["", "1", "12", "2", "é", "e\u0301"])}
_ZONES = [UTC_MICROS, pa.timestamp("us"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns", "UTC")]


@st.composite
def training_sets(draw):
    """Views without ties, and a frame: what both stores have one answer to."""
    views = []
    for at in range(draw(st.integers(1, 3))):
        keys = draw(st.lists(st.sampled_from(sorted(_KEYS)), unique=True))
        has_created = draw(st.booleans())
        key = st.tuples(*(st.none() | _KEYS[name] for name in keys))
        row = st.tuples(key, _TIMES, st.none() | _TIMES if has_created else st.none(), st.none() | st.integers(0, 9))
        rows = draw(st.lists(row, max_size=8, unique_by=lambda row: row[:3]))
        kind = draw(st.sampled_from(_ZONES))
        table = {
            **{name: pa.array([row[0][place] for row in rows], KEY_TYPES[name][0]) for place, name in enumerate(keys)},
            "event_ts": pa.array([row[1] for row in rows], UTC_MICROS).cast(kind),
            f"f{at}": pa.array([row[3] for row in rows], pa.int64()),
        }
        if has_created:
            table["created_ts"] = pa.array([row[2] for row in rows], UTC_MICROS)
        mapped = {name: f"other_{name}" for name in keys} if draw(st.booleans()) else {}
        alias = draw(st.none() | st.just(f"alias{at}"))
        ttl = draw(st.sampled_from([timedelta(0), MICRO, timedelta(hours=1), timedelta(days=30_000)]))
        views.append((keys, pa.table(table), has_created, mapped, alias, ttl))
    rows = draw(st.integers(0, 6))
    columns = {
        f"{prefix}{name}": pd.array([draw(st.none() | of) for _ in range(rows)], "Int64" if name == "k" else "string")
        for name, of in _KEYS.items()
        for prefix in ("", "other_")
    }
    times = [draw(_TIMES | _TIMES.map(lambda time: time + timedelta(hours=1))) for _ in range(rows)]
    frame = pd.DataFrame({**columns, "event_timestamp": pd.to_datetime(times, utc=True), "row": range(rows)})
    return views, frame.astype({"event_timestamp": "datetime64[us, UTC]"}), draw(st.booleans())


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(drawn=training_sets())
def test_training_sets_without_ties_are_feasts(drawn):
    """Whatever the keys, times to the microsecond, zones, TTLs, nulls, aliases and mapped join keys, the columns, types and values are Feast's."""
    drafts, frame, has_full_names = drawn
    with TemporaryDirectory() as folder, two_stores(Path(folder)) as stores:
        views, chosen = [], []
        for at, (keys, table, has_created, mapped, alias, ttl) in enumerate(drafts):
            created = "created_ts" if has_created else None
            view = stores.view(table, f"f{at}", entities=keys, name=f"v{at}", created=created, ttl=ttl)
            views.append(view)
            projected = view.with_name(alias) if alias else view
            chosen.append(projected.with_join_key_map(mapped) if mapped else projected)
        service = FeatureService(name="all", features=chosen)
        stores.apply(*ENTITIES.values(), *views, service)
        ours, feasts = stores.read(service, frame, full_feature_names=has_full_names)

    assert [(field.name, field.type) for field in feasts.schema] == [(field.name, field.type) for field in ours.schema]
    assert by_row(feasts) == by_row(ours)
    assert list(range(len(frame))) == ours["row"].to_pylist()


def test_a_row_not_yet_known_is_left_out_alike(stores):
    """With `filter_by_created_timestamp`, a row created after the entity row's time is not seen, at either store, and is from that very time on."""
    table = history((1, hours(0), hours(0), 1), (1, hours(1), hours(4), 2))
    stores.apply(*ENTITIES.values(), stores.view(table, "f"))

    ours, feasts = stores.values("f", frame_of((1, hours(4) - MICRO), (1, hours(4))), filter_by_created_timestamp=True)

    assert [1, 2] == feasts == ours


def test_pandas_frames_have_feasts_types(stores):
    """`to_df` gives columns of the types that Feast's store gives: floats where whole numbers have a null, objects, times."""
    columns = {
        "whole": pa.array([1, None]), "small": pa.array([1, 2], pa.int16()), "flag": pa.array([True, None]), "word": pa.array(["a", None]),
        "real": pa.array([1.5, None]), "at": pa.array([hours(0), None], UTC_MICROS), "list": pa.array([[1], None]), "bytes": pa.array([b"1", None]),
        "day": pa.array([date(2025, 6, 1), None]), "times": pa.array([[hours(0)], None], pa.list_(UTC_MICROS)), "category": pa.array(["a", None]).dictionary_encode(),
    }  # fmt: skip
    table = history((1, hours(1), None, 1), (2, hours(1), None, 2), **columns)
    stores.apply(*ENTITIES.values(), stores.view(table, *columns))
    frame = frame_of((1, hours(2)), (2, hours(2))).astype({"event_timestamp": "datetime64[us, UTC]"})

    ours, feasts = (
        store.get_historical_features(entity_df=frame.copy(), features=[f"v:{name}" for name in columns]).to_df()
        for store in (stores.ours, stores.feasts)
    )

    pd.testing.assert_frame_equal(feasts, ours)


@pytest.mark.parametrize(
    ("kind", "stored", "values"),
    [
        (ValueType.BOOL, True, [True, False]),
        (ValueType.BYTES, b"\xff", [b"\xff", b""]),
        (ValueType.UNIX_TIMESTAMP, hours(0), pd.to_datetime([hours(0), hours(1)])),
        (ValueType.INT64, 1, np.array([1, 2**64 - 1], "uint64")),
        (ValueType.INT64, 1, [1.0, np.nan]),
        (ValueType.STRING, "a", pd.Categorical(["a", "b"])),
    ],
    ids=["bool", "bytes", "time", "unsigned", "nan", "category"],
)
def test_keys_of_other_types_match_alike(stores, kind, stored, values):
    """Keys of every type that both take match the same rows."""
    table = pa.table({"key": [stored], "event_ts": pa.array([hours(1)], UTC_MICROS), "f": [7]})
    pq.write_table(table, stores.root / "v.parquet")
    entity = Entity(name="key", join_keys=["key"], value_type=kind)
    source = FileSource(name="s", path=str(stores.root / "v.parquet"), timestamp_field="event_ts")
    stores.apply(
        entity,
        FeatureView(
            name="v", entities=[entity], ttl=timedelta(0), schema=[Field(name="f", dtype=Int64)], source=source
        ),
    )
    frame = pd.DataFrame({"key": values, "event_timestamp": pd.to_datetime([hours(2)] * 2), "row": range(2)})

    ours, feasts = stores.values("f", frame)

    assert [7, None] == feasts == ours


# What is not: each test is named in a row of differences.md.


def test_the_list_names_every_difference():
    """Each test below that line of this file is named by a row of differences.md."""
    _, _, below = Path(__file__).read_text().partition("\n# What is not: ")
    listed = (Path(__file__).parent / "differences.md").read_text()

    assert {"test_the_list_names_every_difference"} == {
        name for name in re.findall(r"^def (test_\w+)", below, re.MULTILINE) if f"`{name}`" not in listed
    }


def test_ties_go_to_the_later_row(stores):
    """Of rows equal in both times the last one is taken; Feast takes the one that its sort has first."""
    rows = [(1, hours(1), hours(1), 10), (1, hours(1), hours(1), 11), (1, hours(1), hours(1), 9)]
    stores.apply(*ENTITIES.values(), stores.view(history(*rows), "f"))

    ours, feasts = stores.values("f", frame_of((1, hours(3))))

    assert [9] == ours
    assert feasts in ([10], [11])


def test_rows_stay_in_the_frames_order(stores):
    """The answer has the frame's rows in the frame's order; Feast's join puts those without a feature last."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), hours(1), 1)), "f"))

    ours, feasts = stores.read(
        ["v:f"], frame_of((1, hours(0)), (1, hours(3)), (1, hours(2)), (5, hours(3)), (1, hours(1)))
    )

    assert [0, 1, 2, 3, 4] == ours["row"].to_pylist()
    assert [0, 1, 2, 3, 4] != feasts["row"].to_pylist()
    assert by_row(feasts)["f"] == by_row(ours)["f"]


def test_nanoseconds_are_rounded_down_before_1970(stores):
    """A nanosecond before 1970 lies in the last microsecond before it; Feast rounds it to 1970."""
    table = history((1, -1, None, 7), event=pa.timestamp("ns", "UTC"))
    stores.apply(*ENTITIES.values(), stores.view(table, "f"))
    new_year = datetime(1970, 1, 1, tzinfo=UTC)

    ours, feasts = stores.values("f", frame_of((1, new_year - MICRO), (1, new_year)))

    assert [7, 7] == ours
    assert [None, 7] == feasts


@pytest.mark.filterwarnings("ignore:Discarding nonzero nanoseconds")  # Feast's, before it fails
def test_a_frame_with_nanoseconds_is_read(stores):
    """A time of the frame with digits below a microsecond is cut for the question and kept in the answer; Feast fails."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7)), "f"))
    nanos = pd.to_datetime([pd.Timestamp(hours(1)).value + 999, pd.Timestamp(hours(1)).value - 1], utc=True)
    frame = frame_of((1, hours(0)), (1, hours(0))).assign(event_timestamp=nanos)

    ours = stores.ours.get_historical_features(entity_df=frame.copy(), features=["v:f"]).to_df()
    assert [7, None] == ours["f"].astype(object).where(ours["f"].notna(), None).tolist()
    assert nanos.tolist() == ours["event_timestamp"].tolist()
    with pytest.raises(pa.ArrowInvalid, match="would lose data"):
        stores.feasts.get_historical_features(entity_df=frame.copy(), features=["v:f"]).to_df()


def test_a_row_without_a_created_time_was_known(stores):
    """Under `filter_by_created_timestamp` a row whose created time is null counts as known at any time; Feast never sees it."""
    table = history((1, hours(0), hours(0), 1), (1, hours(1), None, 2))
    stores.apply(*ENTITIES.values(), stores.view(table, "f"))

    ours, feasts = stores.values("f", frame_of((1, hours(3))), filter_by_created_timestamp=True)

    assert [2] == ours
    assert [1] == feasts


@pytest.mark.parametrize(
    ("name", "error"), [("f_y", IbisTypeError), ("rn", IbisTypeError), ("entity_row_id", IbisInputError)]
)
def test_a_feature_may_have_any_name(stores, name, error):
    """A feature may be named as the columns of Feast's plan, for which Feast fails."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7), name=name), name))
    frame = frame_of((1, hours(3)))

    ours = stores.ours.get_historical_features(entity_df=frame.copy(), features=[f"v:{name}"]).to_arrow()
    assert [7] == ours[name].to_pylist()
    with pytest.raises(error):
        stores.feasts.get_historical_features(entity_df=frame.copy(), features=[f"v:{name}"])


def test_a_feature_is_not_taken_for_a_column_of_the_plan(stores):
    """A feature `event_expire_timestamp` of a view with a TTL is itself; Feast answers when the row expires."""
    name = "event_expire_timestamp"
    table = history((1, hours(1), None, 7), name=name)
    stores.apply(*ENTITIES.values(), stores.view(table, name, ttl=timedelta(hours=1)))

    ours, feasts = stores.values(name, frame_of((1, hours(2))))

    assert [7] == ours
    assert [hours(2)] == feasts


def test_a_column_of_the_frame_is_not_taken_for_one_of_the_plan(stores):
    """A column `entity_row_id` of the frame comes out again; Feast drops it."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7)), "f"))

    ours, feasts = stores.read(["v:f"], frame_of((1, hours(3)), entity_row_id=[5]))

    assert [5] == ours["entity_row_id"].to_pylist()
    assert ["k", "event_timestamp", "row", "f"] == feasts.column_names


def test_names_that_differ_in_case_are_two(stores):
    """Columns `f` and `F` of a source are two features; Feast does not find the second."""
    table = history((1, hours(1), None, 7), F=pa.array([8]))
    stores.apply(*ENTITIES.values(), stores.view(table, "f", "F"))
    frame = frame_of((1, hours(3)))

    ours = stores.ours.get_historical_features(entity_df=frame.copy(), features=["v:f", "v:F"]).to_arrow()
    assert ([7], [8]) == (ours["f"].to_pylist(), ours["F"].to_pylist())
    with pytest.raises(IbisTypeError, match="'F' is not found"):
        stores.feasts.get_historical_features(entity_df=frame.copy(), features=["v:f", "v:F"])


def test_a_join_key_map_of_some_keys_leaves_the_others(stores):
    """Where one of a view's join keys is mapped, the row must match the others too; Feast forgets them."""
    table = history((1, hours(1), None, 11), (1, hours(1), None, 12), t=pa.array(["x", "y"]))
    view = stores.view(table, "f", entities=("k", "t"))
    service = FeatureService(name="mapped", features=[view.with_join_key_map({"k": "other"})])
    stores.apply(*ENTITIES.values(), view, service)
    frame = frame_of((9, hours(2)), (9, hours(2)), (9, hours(2)), other=[1, 1, 1], t=["x", "y", "z"])

    ours, feasts = stores.read(service, frame)

    assert [11, 12, None] == by_row(ours)["f"]
    assert {11, 12} >= set(by_row(feasts)["f"])


def test_a_mapped_column_replaces_one_of_its_new_name(stores):
    """A field mapping to a name that the source has too means the mapped column; Feast reads the other one."""
    table = history((1, hours(1), None, 1), g=pa.array([2])).select(["k", "event_ts", "created_ts", "g", "f"])
    stores.apply(*ENTITIES.values(), stores.view(table, "f", mapping={"g": "f"}))

    ours, feasts = stores.values("f", frame_of((1, hours(2))))

    assert [2] == ours
    assert [1] == feasts


def test_a_directory_is_a_source(stores):
    """A directory of Parquet files is read although its source names no format; Feast's store fails on it."""
    (stores.root / "many").mkdir()
    for value in (1, 2):
        pq.write_table(history((1, hours(value), None, value)), stores.root / "many" / f"{value}.parquet")
    stores.apply(*ENTITIES.values(), stores.view(None, "f", path=stores.root / "many", form=None))
    frame = frame_of((1, hours(3)))

    ours = stores.ours.get_historical_features(entity_df=frame.copy(), features=["v:f"]).to_arrow()
    assert [2] == ours["f"].to_pylist()
    with pytest.raises(AttributeError):
        stores.feasts.get_historical_features(entity_df=frame.copy(), features=["v:f"])


def test_a_relative_path_begins_at_the_repo(stores, monkeypatch, tmp_path_factory):
    """A source's relative path is looked for in the repo; Feast's store looks in the working directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for root, value in ((stores.root, 1), (elsewhere, 2)):
        pq.write_table(history((1, hours(1), None, value)), root / "same.parquet")
    stores.apply(*ENTITIES.values(), stores.view(None, "f", path="same.parquet"))
    monkeypatch.chdir(elsewhere)

    ours, feasts = stores.values("f", frame_of((1, hours(2))))

    assert [1] == ours
    assert [2] == feasts


def test_pushed_parts_are_read_with_their_file(stores):
    """Rows that were appended as parts beside a file are part of it; Feast's store reads the file alone."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 1)), "f"))
    append_part(history((1, hours(2), None, 2)), stores.root / "v.parquet", name="part")

    ours, feasts = stores.values("f", frame_of((1, hours(3))))

    assert [2] == ours
    assert [1] == feasts


def test_values_have_the_types_of_their_files(stores):
    """A feature has its file's Arrow type and a label the frame's; with Feast they have the ones that DuckDB has."""
    columns = {
        "ms": (pa.array([5], pa.timestamp("ms")), pa.timestamp("us")),
        "zone": (pa.array([5], pa.timestamp("us", "Europe/Berlin")), UTC_MICROS),
        "large": (pa.array(["x"], pa.large_string()), pa.string()),
        "fixed": (pa.array([b"12"], pa.binary(2)), pa.binary()),
        "span": (pa.array([5], pa.duration("us")), pa.int64()),
        "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16))), pa.string()),
    }
    table = history((1, hours(1), None, 1), **{name: array for name, (array, _) in columns.items()})
    stores.apply(*ENTITIES.values(), stores.view(table, *columns))
    frame = frame_of((1, hours(2))).astype({"event_timestamp": "datetime64[ns, UTC]"})

    ours, feasts = stores.read([f"v:{name}" for name in columns], frame)

    assert {name: array.type for name, (array, _) in columns.items()} == {
        name: ours.schema.field(name).type for name in columns
    }
    assert {name: kind for name, (_, kind) in columns.items()} == {
        name: feasts.schema.field(name).type for name in columns
    }
    assert [pa.timestamp("ns", "UTC"), UTC_MICROS] == [
        table.schema.field("event_timestamp").type for table in (ours, feasts)
    ]


def test_times_of_a_frame_may_be_text(stores):
    """Times as text are understood, and come out as the text that they were; Feast gives times back."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7)), "f"))
    frame = pd.DataFrame({"k": [1], "event_timestamp": ["2025-06-01T01:30:00Z"], "row": [0]})

    ours, feasts = stores.read(["v:f"], frame)

    assert ([7], ["2025-06-01T01:30:00Z"]) == (ours["f"].to_pylist(), ours["event_timestamp"].to_pylist())
    assert ([7], [hours(1.5)]) == (feasts["f"].to_pylist(), feasts["event_timestamp"].to_pylist())


def test_a_frame_may_be_more_than_pandas(stores):
    """An Arrow table is an entity frame; Feast's store takes pandas only."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7)), "f"))
    frame = pa.table({"k": [1], "event_timestamp": pa.array([hours(2)], UTC_MICROS)})

    ours = stores.ours.get_historical_features(entity_df=frame, features=["v:f"]).to_arrow()
    assert [7] == ours["f"].to_pylist()
    with pytest.raises(AttributeError):
        stores.feasts.get_historical_features(entity_df=frame, features=["v:f"])


def test_what_is_wrong_with_a_frame_is_said(stores):
    """A key of another type, and a feature named as a column of the frame, are refused with the column's name; Feast's store fails in Ibis's words."""
    stores.apply(*ENTITIES.values(), stores.view(history((1, hours(1), None, 7)), "f"))
    wrong_key = frame_of(("1", hours(2)))
    with pytest.raises(InvalidArgument, match="k: is string, but the join key is int64"):
        stores.ours.get_historical_features(entity_df=wrong_key.copy(), features=["v:f"]).to_arrow()
    with pytest.raises(IbisTypeError, match="not comparable"):
        stores.feasts.get_historical_features(entity_df=wrong_key.copy(), features=["v:f"]).to_arrow()
    taken = frame_of((1, hours(2)), f=[3])
    with pytest.raises(InvalidArgument, match="f: of 'v' has the name of a column of the entity frame"):
        stores.ours.get_historical_features(entity_df=taken.copy(), features=["v:f"]).to_arrow()
    with pytest.raises(IbisInputError, match="Duplicate column name"):
        stores.feasts.get_historical_features(entity_df=taken.copy(), features=["v:f"]).to_arrow()
