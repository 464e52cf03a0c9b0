"""Every kind of value out of a file, by the streaming engine and by Feast's local engine with its DuckDB store, into packed rows: the
same rows, but for what `differences.md` lists.
"""

import contextlib
import shutil
from datetime import timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.type_map import python_values_to_proto_values
from feast.types import Array, Int64, String, Struct
from feast.value_type import ValueType

from engine_repo import EngineRepo, engine_repo, hours_ago, table
from kinds import KINDS
from services import run_redis
from twins import close

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
SOURCED = [kind for kind in KINDS if kind.source is not None]
EXPIRY_TOLERANCE_MS = 1_000
"""Redis says when a row expires by how long it has left."""


def columns(*, nulls, created=True, naive=False):
    """Two rows of values of each kind, an older one of each key, and where asked for a row of nulls."""
    cells = {kind.name: [*kind.source[0], *reversed(kind.source[0]), *([None] if nulls else [])] for kind in SOURCED}
    times = [hours_ago(1.25), hours_ago(2), hours_ago(5), hours_ago(3), hours_ago(4)][: 5 if nulls else 4]
    kind_of_time = pa.timestamp("us") if naive else pa.timestamp("us", "UTC")
    known = [None, hours_ago(1), None, hours_ago(1), hours_ago(1)][: len(times)]
    return pa.table(
        {
            "account_id": ["a", "b", "a", "b", "nulls"][: len(times)],
            **{kind.name: pa.array(cells[kind.name], kind.source[1]) for kind in SOURCED},
            "event_ts": pa.array([time.replace(tzinfo=None) if naive else time for time in times], kind_of_time),
            **({"created_ts": pa.array(known, pa.timestamp("us", "UTC"))} if created else {}),
        }
    )


SOURCES = {
    "whole": {"nulls": False},
    "with_nulls": {"nulls": True},
    "naive": {"nulls": False, "naive": True, "created": False},
}
TTL = {"whole": timedelta(0), "with_nulls": timedelta(days=3), "naive": timedelta(hours=1)}
"""The last one is over for every row, and the grace time is not."""


def view(repo, name):
    source = FileSource(
        name=name,
        path=repo.write(f"{name}.parquet", columns(**SOURCES[name])),
        timestamp_field="event_ts",
        created_timestamp_column="created_ts" if SOURCES[name].get("created", True) else "",
    )
    fields = [Field(name="account_id", dtype=String), *(Field(name=kind.name, dtype=kind.dtype) for kind in SOURCED)]
    return FeatureView(name=name, entities=[ACCOUNT], ttl=TTL[name], schema=fields, source=source)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """By view what each engine wrote, from one registry and one set of files, into a database of its own."""
    root = tmp_path_factory.mktemp("engines")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(run_redis())
        ours = stack.enter_context(
            engine_repo(root / "ours", redis.connection_string, stack.enter_context(contextlib.closing(redis.client())))
        )
        ours.apply(ACCOUNT, *(view(ours, name) for name in SOURCES))
        shutil.copytree(ours.root, root / "feasts")
        settings = yaml.safe_load((root / "feasts" / "feature_store.yaml").read_text())
        settings["batch_engine"], settings["offline_store"] = {"type": "local"}, {"type": "duckdb"}
        settings["online_store"]["connection_string"] += ",db=1"
        (root / "feasts" / "feature_store.yaml").write_text(yaml.safe_dump(settings))
        store = FeatureStore(repo_path=str(root / "feasts"))
        stack.callback(close, store)
        client = stack.enter_context(contextlib.closing(redis.client(db=1)))
        # Feast's DuckDB store reads a relative path from the working directory.
        stack.enter_context(contextlib.chdir(root / "feasts"))
        feasts = EngineRepo(root / "feasts", ours.project, store, client)
        for repo in (ours, feasts):
            repo.materialize()
        yield {name: SimpleNamespace(ours=ours.rows(name), feasts=feasts.rows(name)) for name in SOURCES}


DIFFERENT_BESIDE_NULLS = {"unix_timestamp_val", "struct_val"}
"""Feast stores a mark for the null time, and makes doubles of whole numbers in structs (`differences.md`)."""

EVERY_KIND = pytest.mark.parametrize("kind", SOURCED, ids=lambda kind: kind.name)


@EVERY_KIND
@pytest.mark.parametrize("source", ["whole", "naive"])
def test_values_are_feasts_byte_for_byte(rows, kind, source):
    """Each value that the streaming engine stores has the bytes that Feast's local engine stores."""
    expected = {key: row.values[kind.name] for key, row in rows[source].feasts.items()}

    assert {"a", "b"} == expected.keys()
    assert None not in expected.values()
    assert expected == {key: row.values[kind.name] for key, row in rows[source].ours.items()}


@EVERY_KIND
def test_values_beside_nulls_are_what_they_are_without(rows, kind):
    """A null is a null, and a value is the one that Feast's local engine stores where no null is near; mostly it does beside nulls too."""
    expected = {key: row.values[kind.name] for key, row in rows["whole"].feasts.items()} | {"nulls": None}
    feasts = {key: row.values[kind.name] for key, row in rows["with_nulls"].feasts.items()}

    assert (kind.name in DIFFERENT_BESIDE_NULLS) == (expected != feasts)
    assert expected == {key: row.values[kind.name] for key, row in rows["with_nulls"].ours.items()}


@pytest.mark.parametrize("source", SOURCES)
def test_times_are_feasts(rows, source):
    """Event and created times are those of Feast's local engine, a created time that is null or not there too."""
    expected = {key: (row.packed.event_micros, row.packed.created_micros) for key, row in rows[source].feasts.items()}

    assert (None in {created for _, created in expected.values()}) or source == "whole"
    assert expected == {
        key: (row.packed.event_micros, row.packed.created_micros) for key, row in rows[source].ours.items()
    }


@pytest.mark.parametrize("source", SOURCES)
def test_rows_expire_as_those_of_feasts_engine(rows, source):
    """A row expires by its view's TTL and the grace time after its own event time, whoever wrote it; never without a TTL."""
    assert rows[source].feasts.keys() == rows[source].ours.keys()
    for key, row in rows[source].feasts.items():
        ours = rows[source].ours[key]
        assert (row.expires_at_ms is None) == (ours.expires_at_ms is None) == (source == "whole")
        if row.expires_at_ms is not None:
            assert abs(row.expires_at_ms - ours.expires_at_ms) < EXPIRY_TOLERANCE_MS


BEYOND_DOUBLE = 2**60 + 1
NESTED = {
    "struct_val": ([{"a": BEYOND_DOUBLE, "b": "x"}, {"a": None, "b": "y"}], Struct({"a": Int64, "b": String})),
    "list_val": ([[[BEYOND_DOUBLE, 1]], [[2, None]]], Array(Array(Int64))),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_null_inside_a_value_changes_no_digit_of_another(shared_redis, tmp_path, kind):
    """A whole number in a struct or a nested list keeps its digits where another row's has a null inside."""
    cells, dtype = NESTED[kind]
    arrow = {
        "struct_val": pa.struct([("a", pa.int64()), ("b", pa.string())]),
        "list_val": pa.list_(pa.list_(pa.int64())),
    }
    with (
        contextlib.closing(shared_redis.client()) as client,
        engine_repo(tmp_path, shared_redis.connection_string, client) as repo,
    ):
        path = repo.write(
            "s.parquet",
            table(account_id=["a", "b"], f=pa.array(cells, arrow[kind]), event_ts=[hours_ago(1), hours_ago(1)]),
        )
        source = FileSource(name="s", path=path, timestamp_field="event_ts")
        fields = [Field(name="account_id", dtype=String), Field(name="f", dtype=dtype)]
        repo.apply(ACCOUNT, FeatureView(name="v", entities=[ACCOUNT], schema=fields, source=source))
        repo.materialize()

        alone = python_values_to_proto_values([cells[0]], dtype.to_value_type())[0].SerializeToString()
        assert alone == repo.rows("v")["a"].values["f"]
