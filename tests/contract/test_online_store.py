"""Feast's online store interface: what is the same on the packed store and on Feast's own Redis store, and what is better.

Where the two differ on purpose, a test shows both sides, so that differences.md stays true when Feast changes.
"""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from hindcast.errors import StoredDataError
from hindcast.online.keys import project_prefix, view_prefix
from twins import SOURCE, twins, write, write_async

ACCOUNT = Entity(name="account", join_keys=["account_id"], value_type=ValueType.STRING)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0) - timedelta(days=2)
HOUR = timedelta(hours=1)
FIELDS = (("country", String), ("balance", Float64), ("visits", Int64))


def view(name="profile", *, fields=FIELDS, ttl=timedelta(0), entities=(ACCOUNT,)):
    keys = [Field(name=entity.join_key, dtype=String) for entity in entities]
    return FeatureView(
        name=name,
        entities=list(entities),
        ttl=ttl,
        schema=[*keys, *(Field(name=field, dtype=dtype) for field, dtype in fields)],
        source=SOURCE,
    )


def row(account="a", *, at=NOON, created=None, **values):
    """A row of one account; a feature that is None is a null."""
    kinds = {str: "string_val", float: "double_val", int: "int64_val"}
    return (
        EntityKey(join_keys=["account_id"], entity_values=[Value(string_val=account)]),
        {name: Value() if v is None else Value(**{kinds[type(v)]: v}) for name, v in values.items()},
        at,
        created,
    )


def read(store: FeatureStore, *accounts, features=("profile:country",)):
    """Feast's answer as a dict, times included."""
    answer = store.get_online_features(list(features), {"account_id": list(accounts or ["a"])})
    return answer.to_dict(include_event_timestamps=True)


def country(store: FeatureStore):
    return read(store)["country"][0]


async def read_async(store: FeatureStore, *accounts, features):
    answer = await store.get_online_features_async(list(features), {"account_id": list(accounts)})
    return answer.to_dict(include_event_timestamps=True)


async def end_async(*stores: FeatureStore) -> None:
    """Close what the running loop opened; Feast has one way for its own store and none for others."""
    for store in stores:
        online_store = store._get_provider().online_store
        client = getattr(online_store, "_client_async", None)
        if client is None:
            await online_store.close()
        else:
            await client.aclose()


ALL = ("profile:country", "profile:balance", "profile:visits")
ROWS = [
    row("a", country="DE", balance=1.5, visits=2**62),
    row("b", at=NOON + timedelta(microseconds=1), country="", balance=float("inf"), visits=0),
    row("c", created=NOON, country=None, balance=None, visits=None),
    row("zoë}{", country="口座", balance=-0.0, visits=-1),
    row("", country="empty", balance=0.0, visits=1),
]
ASKED = ("b", "a", "nobody", "", "zoë}{", "c", "a", "zoe\u0308}{")


def test_the_same_rows_give_the_same_answer(pair):
    """Values, nulls, missing keys, repeats and times are Feast's, whatever the order asked."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", ROWS)

    assert read(pair.packed, *ASKED, features=ALL) == read(pair.plain, *ASKED, features=ALL)


def test_the_asyncio_forms_give_the_same_answer(pair):
    """What is written and read through asyncio equals what Feast's store does with it, and what the blocking form reads."""
    pair.apply([ACCOUNT, view()])

    async def run():
        answers = []
        for store in (pair.packed, pair.plain):
            await write_async(store, "profile", ROWS)
            answers.append(await read_async(store, *ASKED, features=ALL))
        await end_async(pair.packed, pair.plain)
        return answers

    packed, plain = asyncio.run(run())

    assert packed == plain
    assert read(pair.packed, *ASKED, features=ALL) == packed


def test_a_store_serves_one_loop_after_another(pair):
    """Clients belong to a loop: a second asyncio.run works after the first one's has ended."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", ROWS)

    async def run():
        answer = await read_async(pair.packed, "a", features=ALL)
        await end_async(pair.packed)
        return answer

    expected = read(pair.packed, "a", features=ALL)
    assert [expected, expected] == [asyncio.run(run()), asyncio.run(run())]


def test_an_older_row_never_lands(pair):
    """A row with an earlier event time is dropped by both stores, in a later batch and in the same one."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(country="new")])
    pair.write("profile", [row(at=NOON - HOUR, country="old")])
    pair.write("profile", [row("b", country="new"), row("b", at=NOON - HOUR, country="old")])

    for store in (pair.packed, pair.plain):
        assert read(store, "a", "b")["country"] == ["new", "new"]


def test_a_correction_lands(pair):
    """Of one event time the row that was created last wins; Feast keeps the one that was written first."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(created=NOON, country="first")])
    pair.write("profile", [row(created=NOON + HOUR, country="corrected")])
    pair.write("profile", [row(created=NOON + HOUR / 2, country="late copy")])

    assert (country(pair.packed), country(pair.plain)) == ("corrected", "first")


def test_a_row_without_created_time_sorts_first(pair):
    """Of one event time a null created_ts, and pandas' NaT, lose against any created_ts."""
    pair.apply([ACCOUNT, view()])
    write(pair.packed, "profile", [row(created=datetime(1971, 1, 1, tzinfo=UTC), country="known")])
    write(pair.packed, "profile", [row(created=None, country="unknown")])
    write(pair.packed, "profile", [row(created=pd.NaT, country="NaT")])

    assert country(pair.packed) == "known"


def test_writing_the_same_times_again_lands(pair):
    """A row of equal times replaces the stored one, so that a repeated run mends values; Feast keeps the first."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(country="first")])
    pair.write("profile", [row(country="again")])

    assert (country(pair.packed), country(pair.plain)) == ("again", "first")


def test_a_row_replaces_all_of_the_row_before(pair):
    """A feature that the winning row does not have is null; Feast leaves an older row's value in its place."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(country="DE", visits=1)])
    pair.write("profile", [row(at=NOON + HOUR, visits=2)])

    assert (country(pair.packed), country(pair.plain)) == (None, "DE")


def test_times_before_1970_are_ordered(pair):
    """A birth date is a time: the later one wins on either side of 1970; Feast takes whatever comes last before it."""
    born = datetime(1950, 1, 1, tzinfo=UTC)
    pair.apply([ACCOUNT, view()])
    for years in (0, 10, 5):
        pair.write("profile", [row(at=born.replace(year=born.year + years), country=f"{born.year + years}")])

    assert (country(pair.packed), country(pair.plain)) == ("1960", "1955")


def test_a_naive_time_is_utc(pair):
    """A time without a zone means UTC, as everywhere in Feast."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(at=NOON.replace(tzinfo=None), country="DE")])

    assert read(pair.packed) == read(pair.plain)


def test_a_row_from_the_future_is_not_written(pair, caplog):
    """A row dated ahead of the bound would block every correction until then: it is left out, counted and warned of."""
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(at=datetime.now(UTC) + HOUR, country="tomorrow")])

    assert (country(pair.packed), country(pair.plain)) == (None, "tomorrow")
    assert "1 rows dated too far into the future" in caplog.text


def test_racing_writers_leave_the_newest_row(pair):
    """However many threads write at once and in whatever order, each account ends with its newest row."""
    pair.apply([ACCOUNT, view()])
    accounts = [f"account {at}" for at in range(5)]
    steps = range(40)
    start = threading.Barrier(4)
    failures = []

    def race(turn):
        store = FeatureStore(repo_path=str(pair.root))
        mine = [step for step in steps if step % 4 == turn]
        try:
            start.wait(10)
            for step in mine if turn % 2 else reversed(mine):
                # Every second step is a correction of the one before: the same event time, known later.
                at = NOON + timedelta(seconds=step // 2)
                created = at + timedelta(seconds=step)
                write(store, "profile", [row(a, at=at, created=created, visits=step) for a in accounts])
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)
        finally:
            store._get_provider().online_store._client.close()

    threads = [threading.Thread(target=race, args=[turn]) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert read(pair.packed, *accounts, features=["profile:visits"])["visits"] == [steps[-1]] * len(accounts)


ODD_NAMES = ("profile", "profile2", "pro", "pro*", "[a-z]*", "pro?ile", "pro\\", "a b", "über", "a{b}", "a%7Bb%7D", "-")


@pytest.mark.parametrize("gone", ODD_NAMES)
def test_deleting_a_view_deletes_exactly_its_rows(pair, gone):
    """When `feast apply` no longer finds a view its rows go, and no row of a view with a similar name does."""
    views = {name: view(name) for name in ODD_NAMES}
    pair.apply([ACCOUNT, *views.values()])
    for name in ODD_NAMES:
        write(pair.packed, name, [row("a", country=name), row("b", country=name)])

    pair.packed.apply([], objects_to_delete=[views[gone]], partial=False)

    client = pair.redis.client()
    left = {name: len(list(client.scan_iter(match=view_prefix("twins", name) + b"*"))) for name in ODD_NAMES}
    assert left == {name: 0 if name == gone else 2 for name in ODD_NAMES}
    assert len(list(client.scan_iter(match=b"hc:twins::schema:*"))) == 1


@pytest.mark.parametrize("name", ["with:colon", "a::schema:b", ":", "{", "}", "*", "hc:other:profile"])
def test_a_view_may_have_any_name_in_redis(pair, name):
    """Names that Feast's references cannot hold are stored and deleted like others, should a later Feast allow them."""
    store, config = pair.packed._get_provider().online_store, pair.packed.config
    pair.apply([ACCOUNT, view()])
    odd, same = view(name), view("profile")
    for each in (odd, same):
        store.online_write_batch(config, each, [row(country=each.name)], None)

    def stored(of):
        return store.online_read(config, of, [row()[0]], ["country"])[0][1]

    assert (stored(odd), stored(same)) == (
        {"country": Value(string_val=name)},
        {"country": Value(string_val="profile")},
    )

    store.update(config, [odd], [same], [], [], partial=False)

    assert (stored(odd), stored(same)) == (None, {"country": Value(string_val="profile")})


def test_teardown_takes_exactly_its_projects_keys(shared_redis, tmp_path):
    """Tearing down `prod` leaves `nonprod`, `prod2`, `pro*` and a key that is nobody's."""
    projects = ["prod", "nonprod", "prod2", "prod_eu"]
    client = shared_redis.client()
    stores = {}
    for project in projects:
        folder = tmp_path / project
        folder.mkdir()
        with twins(folder, shared_redis, project=project) as pair:
            pair.apply([ACCOUNT, view()])
            stores[project] = pair.packed
    client.set("hc:prod", "nobody's")
    for store in stores.values():
        write(store, "profile", ROWS)

    stores["prod"].teardown()

    left = {project: len(list(client.scan_iter(match=project_prefix(project) + b"*"))) for project in projects}
    assert left == {project: 0 if project == "prod" else len(ROWS) + 1 for project in projects}
    assert client.get("hc:prod") == b"nobody's"
    for store in stores.values():
        store._get_provider().online_store._client.close()


EXPIRY = """
local now = redis.call('TIME')
local left = redis.call('PTTL', KEYS[1])
return left < 0 and left or now[1] * 1000 + math.floor(now[2] / 1000) + left
"""
CLOCK_MS = 5  # Redis reads its clock a little apart for TIME and PTTL


def expiry(pair, name):
    """When the one row of a view expires, milliseconds since 1970; -1 for never. PEXPIRETIME is newer than Redis 6."""
    client = pair.redis.client()
    (key,) = client.scan_iter(match=view_prefix("twins", name) + b"*")
    return client.eval(EXPIRY, 1, key)


def test_a_row_expires_by_its_views_ttl_and_grace(shared_redis, tmp_path):
    """A key goes when its row has been stale for the grace time; a view without TTL keeps its rows, other views theirs."""
    with twins(tmp_path, shared_redis, options=", ttl_grace_seconds: 600") as pair:
        day = timedelta(days=10)
        pair.apply([ACCOUNT, view("hours", ttl=day), view("days", ttl=2 * day), view("always")])
        for name in ("hours", "days", "always"):
            write(pair.packed, name, [row(country="DE")])

        def at_ms(moment):
            return int(moment.timestamp() * 1000)

        grace = timedelta(minutes=10)
        assert expiry(pair, "hours") == pytest.approx(at_ms(NOON + day + grace), abs=CLOCK_MS)
        assert expiry(pair, "days") == pytest.approx(at_ms(NOON + 2 * day + grace), abs=CLOCK_MS)
        assert expiry(pair, "always") == -1


def test_a_newer_row_takes_its_own_expiry(shared_redis, tmp_path):
    """A replaced row's expiry goes with it, and a row that does not land changes no expiry."""
    with twins(tmp_path, shared_redis) as pair:
        pair.apply([ACCOUNT, view(ttl=timedelta(days=10))])
        write(pair.packed, "profile", [row(country="old")])
        before = expiry(pair, "profile")
        write(pair.packed, "profile", [row(at=NOON + HOUR, country="new")])
        after = expiry(pair, "profile")
        write(pair.packed, "profile", [row(at=NOON - HOUR, country="older")])

        assert after - before == pytest.approx(3_600_000, abs=CLOCK_MS)
        assert expiry(pair, "profile") == pytest.approx(after, abs=CLOCK_MS)


def test_a_row_whose_time_is_over_is_not_kept(shared_redis, tmp_path):
    """A row that has been stale for longer than the grace time is gone as soon as it is written; Feast keeps it."""
    with twins(tmp_path, shared_redis, options=", ttl_grace_seconds: 0") as pair:
        pair.apply([ACCOUNT, view(ttl=HOUR)])
        pair.write("profile", [row(country="stale")])

        assert (country(pair.packed), country(pair.plain)) == (None, "stale")


CHANGES = {
    "added": [*FIELDS, ("city", String)],
    "added in front": [("city", String), *FIELDS],
    "dropped": [FIELDS[0], FIELDS[2]],
    "reordered": [FIELDS[2], FIELDS[0], FIELDS[1]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_view_never_misreads_an_old_row(pair, change):
    """Old rows answer each field by its name after fields were added, dropped or reordered; a new field is null in them."""
    fields = CHANGES[change]
    pair.apply([ACCOUNT, view()])
    pair.write("profile", [row(country="DE", balance=1.5, visits=7)])
    # As a process that has never seen the old definition.
    with_new = FeatureStore(repo_path=str(pair.root))
    pair.apply([ACCOUNT, view(fields=fields)])
    pair.write("profile", [row("b", country="FR", visits=8)])

    features = [f"profile:{name}" for name, _ in fields]
    expected = {"country": ["DE", "FR"], "balance": [1.5, None], "visits": [7, 8], "city": [None, None]}
    for store in (pair.packed, with_new, pair.plain):
        answer = read(store, "a", "b", features=features)
        assert {name: answer[name] for name, _ in fields} == {name: expected[name] for name, _ in fields}
    with_new._get_provider().online_store._client.close()


def test_a_null_join_key_is_not_stored(pair, caplog):
    """A row that nothing could ask for is left out with a warning, where Feast fails the whole batch."""
    pair.apply([ACCOUNT, view()])
    keyless = (EntityKey(join_keys=["account_id"], entity_values=[Value()]), *row(country="nobody's")[1:])
    write(pair.packed, "profile", [keyless, row(country="DE")])

    assert country(pair.packed) == "DE"
    assert "1 rows with a null join key" in caplog.text
    with pytest.raises(ValueError, match="not supported"):
        write(pair.plain, "profile", [keyless, row(country="DE")])


def test_progress_counts_every_row(pair):
    """Feast's progress callback hears of all rows, those that did not land included."""
    pair.apply([ACCOUNT, view()])
    heard = []
    store = pair.packed._get_provider().online_store
    rows = [row(country="new"), row(at=NOON - HOUR, country="old"), row("b", country="b")]
    store.online_write_batch(pair.packed.config, pair.packed.get_feature_view("profile"), rows, heard.append)

    assert sum(heard) == 3


def test_a_damaged_row_is_said_to_be_damaged(pair):
    """Whichever bit of a stored row flips, Feast's SDK reads a row or StoredDataError says what is wrong."""
    pair.apply([ACCOUNT, view()])
    write(pair.packed, "profile", [row(country="DE", balance=1.5, visits=7)])
    client = pair.redis.client()
    (key,) = client.scan_iter(match=view_prefix("twins", "profile") + b"*")
    packed = client.get(key)
    outcomes = set()
    for at in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[at // 8] ^= 1 << at % 8
        client.set(key, bytes(flipped))
        try:
            read(pair.packed, features=ALL)
            outcomes.add("read")
        except StoredDataError:
            outcomes.add("damaged")
    for length in range(len(packed)):
        client.set(key, packed[:length])
        with pytest.raises(StoredDataError):
            read(pair.packed, features=ALL)

    assert outcomes == {"read", "damaged"}
