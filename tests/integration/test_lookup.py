"""Lookups against rows put into a real Redis by hand: TTL edges, damaged rows, schemas that have changed since."""

import asyncio
import itertools

import pytest

from hindcast.catalog import Catalog, Field, View
from hindcast.clock import Deadline
from hindcast.errors import StoredDataError, StoreUnavailable
from hindcast.online.codec import pack_row
from hindcast.online.connection import parse_target
from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.online.generations import GenerationsOf
from hindcast.online.keys import entity_key_bytes, generations_key, key_value_bytes, row_key, schema_key, view_prefix
from hindcast.online.layouts import PackedLayout, RowsOf
from hindcast.online.reader import RedisReader
from hindcast.online.schemas import Schema
from hindcast.serving.plan import Wanted
from hindcast.serving.question import FEAST, HINDCAST, Question
from hindcast.settings import StaleValues
from hindcast.shadow.v1.shadow_pb2 import FeatureRefs
from hindcast.v1.value_pb2 import Value
from lookups import make_lookup

STRING, INT64 = 2, 4
NOW = 1_800_000_000_000_000
TTL = 600_000_000
VIEW = View(
    name="stats",
    join_keys=(Field("id", STRING),),
    fields=(Field("a", INT64), Field("b", INT64)),
    ttl_micros=TTL,
    version=0,
    stored_name="stats",
)
CATALOG = Catalog(
    project="p",
    version="sha256:0",
    feast_version="0",
    views={"stats": VIEW},
    on_demand_views={},
    services={},
    entities={"thing": "id"},
    unservable={},
)
SCHEMA = Schema(VIEW.fields)


def number(value):
    """A serialized int64 Value."""
    return Value(int64_val=value).SerializeToString()


def text(value):
    """A serialized string Value."""
    return Value(string_val=value).SerializeToString()


def packed(values, *, event=NOW, schema=SCHEMA):
    """A packed row."""
    return pack_row(event_micros=event, created_micros=None, schema_id=schema.id, run_id=bytes(16), values=values)


def key(entity):
    """The key of an entity's row."""
    return row_key(view_prefix("p", "stats"), entity_key(entity))


def entity_key(entity):
    """An entity's key inside it."""
    return entity_key_bytes(("id",), (key_value_bytes(Value(string_val=entity), STRING),))


@pytest.fixture
def store(redis_server):
    """A client of a Redis that holds the schema."""
    with redis_server.client() as client:
        client.set(schema_key("p", SCHEMA.id), SCHEMA.to_bytes())
        yield client


def statuses_of(cells, at):
    """The statuses of one column, which may be those of all."""
    return cells.statuses[at if len(cells.statuses) > 1 else 0]


def look_up(
    redis_server,
    entities,
    *,
    dialect=HINDCAST,
    features=("stats:a", "stats:b"),
    stale_values=StaleValues.BY_DIALECT,
):
    """Values and statuses by feature."""

    async def run():
        reader = RedisReader(parse_target(redis_server.connection_string))
        layout = PackedLayout(reader, project="p")
        lookup = make_lookup(CATALOG, layout, clock=lambda: NOW, stale_values=stale_values)
        wanted = Wanted(None, FeatureRefs(val=features).SerializeToString(), full_names=False)
        question = Question(dialect, wanted, {"id": entities}, {})
        try:
            answer = await lookup.answer(question, deadline=Deadline(5))
        finally:
            await reader.close()
        return {
            name: (block.cells.column(at), list(statuses_of(block.cells, at)))
            for block in answer.blocks
            for at, name in enumerate(block.names, start=block.start)
        }

    return asyncio.run(run())


def test_the_edge_of_the_ttl_belongs_to_it(store, redis_server):
    """A row exactly as old as its view's TTL is served; one microsecond older it is not."""
    store.set(key("edge"), packed([number(1), number(2)], event=NOW - TTL))
    store.set(key("past"), packed([number(3), number(4)], event=NOW - TTL - 1))

    answer = look_up(redis_server, [text("edge"), text("past")])

    assert ([number(1), b""], [PRESENT, OUTSIDE_MAX_AGE]) == answer["a"]


class Meddled(RedisReader):
    """A reader before each of whose reads something happens to Redis."""

    def __init__(self, target, meddle):
        super().__init__(target)
        self.meddle = meddle

    async def read_values(self, keys, *, deadline):
        """As ever, after what happens."""
        self.meddle()
        return await super().read_values(keys, deadline=deadline)


def find_meddled(redis_server, meddle):
    """The feature `a` of two entities, by a layout that has read once before."""

    async def run():
        reader = Meddled(parse_target(redis_server.connection_string), lambda: None)
        layout = PackedLayout(reader, project="p")
        asked = [(RowsOf("stats", ("a",)), [entity_key("one"), None, entity_key("two")])]
        try:
            await layout.find(asked, deadline=Deadline(5))
            reader.meddle = meddle
            return (await layout.find(asked, deadline=Deadline(5)))[0].column(0)
        finally:
            await reader.close()

    return asyncio.run(run())


def test_a_flip_between_two_reads_is_followed(store, redis_server):
    """A lookup that knows of an older generation than is served reads again, and answers all of its rows from the new one."""
    generations = GenerationsOf(store, project="p")
    for entity in ("one", "two"):
        store.set(key(entity), packed([number(1), None]))
    generation = generations.begin_build("stats", builder="a")
    for entity in ("one", "two"):
        store.set(row_key(view_prefix("p", "stats", generation), entity_key(entity)), packed([number(2), None]))

    found = find_meddled(redis_server, lambda: generations.flip("stats", generation))

    assert [number(2), b"", number(2)] == found


def test_flips_without_end_are_an_error(store, redis_server):
    """A lookup whose view is flipped before each of its reads gives up with an error, and never answers rows that are not served."""
    generations = GenerationsOf(store, project="p")
    builders = itertools.count()

    def flip():
        generations.flip("stats", generations.begin_build("stats", builder=str(next(builders))))

    with pytest.raises(StoreUnavailable, match="keep changing; try again"):
        find_meddled(redis_server, flip)


def test_a_change_of_another_views_generations_costs_no_second_read(store, redis_server):
    """A lookup reads again only if one of its own views is flipped."""
    generations = GenerationsOf(store, project="p")
    reads = itertools.count()

    def flip_another():
        next(reads)
        generations.flip("other", generations.begin_build("other", builder=str(reads)))

    find_meddled(redis_server, flip_another)

    assert 1 == next(reads)


def test_a_damaged_document_of_generations_is_an_error(store, redis_server):
    """A document that cannot be read is an error, never a lookup of generation 0."""
    store.set(key("one"), packed([number(1), None]))
    store.set(generations_key("p"), b"{")
    with pytest.raises(StoredDataError, match="hc:p::generations"):
        look_up(redis_server, [text("one")])


def test_feast_services_keep_a_stale_value_and_flag_it(store, redis_server):
    """In Feast's dialect a value past its TTL is answered, with the status that says so."""
    store.set(key("past"), packed([number(3), None], event=NOW - TTL - 1))

    answer = look_up(redis_server, [text("past")], dialect=FEAST)

    assert ([number(3)], [OUTSIDE_MAX_AGE]) == answer["a"]
    assert ([b""], [OUTSIDE_MAX_AGE]) == answer["b"]


@pytest.mark.parametrize(
    ("stale_values", "dialect", "is_kept"),
    [
        (StaleValues.BY_DIALECT, HINDCAST, False),
        (StaleValues.BY_DIALECT, FEAST, True),
        (StaleValues.KEEP, HINDCAST, True),
        (StaleValues.KEEP, FEAST, True),
        (StaleValues.NULL, HINDCAST, False),
        (StaleValues.NULL, FEAST, False),
    ],
)
def test_the_setting_decides_on_stale_values_and_not_on_statuses(store, redis_server, stale_values, dialect, is_kept):
    """A stale value is kept or null as the server was told, on either dialect, and always flagged."""
    store.set(key("past"), packed([number(3), None], event=NOW - TTL - 1))
    store.set(key("fresh"), packed([number(4), number(5)]))

    answer = look_up(redis_server, [text("past"), text("fresh")], dialect=dialect, stale_values=stale_values)

    assert {
        "a": ([number(3) if is_kept else b"", number(4)], [OUTSIDE_MAX_AGE, PRESENT]),
        "b": ([b"", number(5)], [OUTSIDE_MAX_AGE, PRESENT]),
    } == answer


def test_null_missing_and_present_are_told_apart(store, redis_server):
    """A stored null, an entity without a row and a null join key each have their own status."""
    store.set(key("x"), packed([None, number(2)]))

    answer = look_up(redis_server, [text("x"), text("nobody"), b""])

    assert ([b"", b"", b""], [NULL_VALUE, NOT_FOUND, NOT_FOUND]) == answer["a"]
    assert ([number(2), b"", b""], [PRESENT, NOT_FOUND, NOT_FOUND]) == answer["b"]


def test_a_null_that_was_written_explicitly_is_a_null(store, redis_server):
    """A Value that says `null_val` is stored and answered as the null it is."""
    store.set(key("x"), packed([Value(null_val=0).SerializeToString(), number(2)]))

    assert ([b""], [NULL_VALUE]) == look_up(redis_server, [text("x")])["a"]


def test_the_latest_version_of_a_view_is_the_view(store, redis_server):
    """`view@latest:feature` is `view:feature`, as it is at Feast."""
    store.set(key("x"), packed([number(1), number(2)]))

    assert ([number(1)], [PRESENT]) == look_up(redis_server, [text("x")], features=("stats@latest:a",))["a"]


def test_rows_of_different_schemas_are_read_each_by_its_own(store, redis_server):
    """Rows written before fields were added, dropped or put in another order give the right values in one answer."""
    older = Schema((Field("b", INT64), Field("gone", INT64)))
    store.set(schema_key("p", older.id), older.to_bytes())
    store.set(key("new"), packed([number(1), number(2)]))
    store.set(key("old"), packed([number(20), number(99)], schema=older))

    answer = look_up(redis_server, [text("old"), text("new")])

    assert ([b"", number(1)], [NULL_VALUE, PRESENT]) == answer["a"]
    assert ([number(20), number(2)], [PRESENT, PRESENT]) == answer["b"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (packed([number(1)]), "another number of values"),
        (packed([number(1), number(2), number(3)]), "another number of values"),
        (packed([number(1), number(2)])[:40], "damaged"),
        (packed([number(1), number(2)])[:16] + b"\x03" + packed([number(1), number(2)])[17:], "format 3"),
        (packed([number(1), None])[:17] + b"\x00" + packed([number(1), None])[18:], "damaged"),
        (packed([number(1), None])[:17] + b"\x02" + packed([number(1), None])[18:], "damaged"),
        (packed([number(1), number(2)], schema=Schema((Field("a", STRING),))), "is missing from the online store"),
        (b"not a row", "damaged"),
    ],
    ids=["short", "long", "cut", "newer", "a null it denies", "an unknown flag", "unknown schema", "foreign"],
)
def test_a_row_that_cannot_be_read_is_an_error_and_never_a_null(store, redis_server, row, told):
    """Damage is said aloud: served as a null it would be believed."""
    store.set(key("x"), row)

    with pytest.raises(StoredDataError, match=told):
        look_up(redis_server, [text("x")])


def test_a_row_of_1970_is_there(store, redis_server):
    """The instant whose Timestamp is empty on the wire is an event time like any other, among missing rows too."""
    store.set(key("epoch"), packed([number(1), number(2)], event=0))

    answer = look_up(redis_server, [text("epoch"), text("nobody")], dialect=FEAST)

    assert ([number(1), b""], [OUTSIDE_MAX_AGE, NOT_FOUND]) == answer["a"]


def test_a_single_feature_is_a_column_like_any_other(store, redis_server):
    """Asking for one feature gives one column of whole values."""
    store.set(key("x"), packed([number(1), number(2)]))

    answer = look_up(redis_server, [text("x"), text("x")], features=("stats:b",))

    assert {"b": ([number(2), number(2)], [PRESENT, PRESENT])} == answer
