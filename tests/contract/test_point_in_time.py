"""One table of cases, answered alike by the oracle, by the offline plan, and by the online store: docs/semantics.md, "Point in time"."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from as_of_reads import read, view_of
from as_of_vectors import read_vectors, table_of_docs
from hindcast.catalog import Catalog, Field, View
from hindcast.clock import Deadline
from hindcast.offline.sources.instants import as_instants
from hindcast.offline.sources.source import find_source
from hindcast.offline.winners.winners import WinnersQuery, read_winners
from hindcast.online.connection import parse_target
from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_bytes, key_value_bytes, schema_key
from hindcast.online.layouts import PackedLayout
from hindcast.online.reader import RedisReader
from hindcast.online.rows import Row, RowPolicy, ViewWriter
from hindcast.online.writer import write_rows
from hindcast.serving.plan import Wanted
from hindcast.serving.question import HINDCAST, Question
from hindcast.shadow.v1.shadow_pb2 import FeatureRefs
from hindcast.v1.value_pb2 import Value
from lookups import make_lookup
from oracle import leaks, micros, winners

SEMANTICS = Path(__file__).parents[2] / "docs" / "semantics.md"
VECTORS = read_vectors()
STRING, INT64 = 2, 4
STATUSES = {PRESENT: "PRESENT", NULL_VALUE: "NULL_VALUE", NOT_FOUND: "NOT_FOUND", OUTSIDE_MAX_AGE: "OUTSIDE_MAX_AGE"}
# The rows are years old by the clock of Redis itself, which must not take them for expired: a hundred years of grace.
POLICY = RowPolicy(ttl_grace_seconds=3_155_760_000, future_seconds=0)
BEGINNING = -(2**62)

of_every_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.case)
of_every_online_vector = pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.offline_only is None], ids=lambda vector: vector.case
)


def test_the_page_shows_the_vectors():
    """The table in docs/semantics.md is the one that the file makes."""
    assert table_of_docs() in SEMANTICS.read_text()


@of_every_vector
def test_the_oracle_knows_every_case(vector):
    """The oracle's winners and leaks are those that were written by hand."""
    asked = [one.entity for one in vector.asked]
    found = winners(vector.history, asked, ttl_micros=vector.ttl_micros)

    assert [one.value for one in vector.asked] == [None if at is None else vector.rows[at].value for at in found]
    assert vector.leaks == leaks(vector.history, asked, ttl_micros=vector.ttl_micros)
    # A null without a winner, or a winner's own.
    assert [one.status in {"PRESENT", "NULL_VALUE"} for one in vector.asked] == [at is not None for at in found]


@of_every_vector
def test_the_plan_answers_every_case(vector, tmp_path):
    """The offline store's values, their order and the leaks are those of the vector."""
    pq.write_table(vector.source(), tmp_path / "source.parquet")
    view = view_of(
        tmp_path / "source.parquet",
        keys={name: name for name in vector.join_keys},
        fields={"value": "value"},
        ttl_micros=vector.ttl_micros,
    )

    found = read(vector.frame(), [view], known_at="known_at", root=tmp_path)

    assert [one.value for one in vector.asked] == found.table["value"].to_pylist()
    assert {"view": vector.leaks} == found.leaks


@of_every_online_vector
@pytest.mark.parametrize("way", ["row by row", "newest of the source"])
def test_the_online_store_answers_every_case(vector, way, shared_redis, tmp_path):
    """At the time that is asked about, the online store answers the vector's value with the vector's status, however its rows came in."""
    pq.write_table(vector.source(), tmp_path / "source.parquet")
    for asked in vector.asked:
        # A store of its own for each question, as it was at that time.
        with shared_redis.client() as client:
            client.flushall()
            now = micros(asked.entity.as_of_nanos)
            rows = rows_of_source(vector) if way == "row by row" else newest_rows(vector, tmp_path, now)
            write_online(client, vector, rows, now)
            found = look_up(shared_redis, vector, asked.entity.key, now)

        assert (asked.value, asked.status) == found, asked


def rows_of_source(vector):
    """Every row that a writer can be given, in the order of the source: without an event time there is none."""
    source = vector.source()
    instants = {
        name: as_instants(source[name].combine_chunks()).cast(pa.int64()) for name in ("event_ts", "created_ts")
    }
    return [
        (row.source.key, event.as_py(), created.as_py(), row.value)
        for row, event, created in zip(vector.rows, instants["event_ts"], instants["created_ts"], strict=True)
        if event.is_valid
    ]


def newest_rows(vector, root, now):
    """What a materialization up to now would write."""
    query = WinnersQuery(
        source=find_source("source.parquet", "parquet", repo_root=root),
        keys={name: name for name in vector.join_keys},
        fields={"value": "value"},
        event_column="event_ts",
        created_column="created_ts",
        start_micros=BEGINNING,
        end_micros=now,
        future_after_micros=now,
        quarantine=root / "ahead.parquet",
        memory_limit_bytes=64 * 2**20,
        threads=1,
        spill_dir=root / "spill",
    )
    (root / "ahead.parquet").unlink(missing_ok=True)
    with read_winners(query, batch_rows=100) as found:
        for batch in found.batches():
            *keys, values, events, created = batch.columns
            for at in range(batch.num_rows):
                yield (
                    tuple(column[at].as_py() for column in keys),
                    events.cast(pa.int64())[at].as_py(),
                    created.cast(pa.int64())[at].as_py(),
                    values[at].as_py(),
                )


def view_online(vector):
    return View(
        name="view",
        join_keys=tuple(Field(name, STRING) for name in vector.join_keys),
        fields=(Field("value", INT64),),
        ttl_micros=vector.ttl_micros,
        version=0,
        stored_name="view",
    )


def entity_key(vector, key):
    if not key:
        return ENTITYLESS_KEY
    if None in key:
        return None
    return entity_key_bytes(vector.join_keys, [key_value_bytes(Value(string_val=part), STRING) for part in key])


def write_online(client, vector, rows, now):
    view = view_online(vector)
    writer = ViewWriter(
        project="p",
        view=view.stored_name,
        fields=view.fields,
        ttl_micros=view.ttl_micros,
        run_id=bytes(16),
        now_micros=now,
        policy=POLICY,
    )
    client.set(schema_key("p", writer.schema.id), writer.schema.to_bytes())
    writes = writer.writes(
        Row(
            entity_key(vector, key),
            event,
            created,
            [None if value is None else Value(int64_val=value).SerializeToString()],
        )
        for key, event, created, value in rows
    )
    write_rows(client, writes)


def look_up(redis, vector, key, now):
    """Value and status as the server gives them at a time."""
    view = view_online(vector)
    catalog = Catalog(
        project="p",
        version="sha256:0",
        feast_version="0",
        views={"view": view},
        on_demand_views={},
        services={},
        entities={name: name for name in vector.join_keys},
        unservable={},
    )
    wanted = Wanted(None, FeatureRefs(val=["view:value"]).SerializeToString(), full_names=False)
    entities = {
        name: [b"" if part is None else Value(string_val=part).SerializeToString()]
        for name, part in zip(vector.join_keys, key, strict=True)
    }

    async def run():
        reader = RedisReader(parse_target(redis.connection_string))
        lookup = make_lookup(catalog, PackedLayout(reader, project="p"), clock=lambda: now)
        try:
            return await lookup.answer(Question(HINDCAST, wanted, entities, {}), deadline=Deadline(5))
        finally:
            await reader.close()

    (block,) = asyncio.run(run()).blocks
    (value_bytes,), (status,) = block.cells.column(0), list(block.cells.statuses[0])
    value = Value.FromString(value_bytes)
    return (value.int64_val if value.WhichOneof("val") else None), STATUSES[status]
