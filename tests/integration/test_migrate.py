"""`hindcast migrate`: Feast's rows become packed rows, whoever else writes, and what is said of them is true."""

import contextlib
import itertools
import json
import subprocess
import threading
from uuid import UUID

import mmh3
import pytest
from google.protobuf.duration_pb2 import Duration

from commands import run_command
from faults.deployments import run_cluster, run_proxy
from faults.repos import PROJECT, make_repo, registry, views
from feast_writer import entity_key_of, hash_key, write_hashes
from hindcast.catalog import Field, KeyType
from hindcast.clock import system_clock
from hindcast.errors import StoreUnavailable
from hindcast.online.codec import pack_row, unpack_row
from hindcast.online.connection import parse_target
from hindcast.online.generations import GenerationsOf
from hindcast.online.keys import entity_key_bytes, key_value_bytes, row_key, schema_key, view_prefix
from hindcast.online.migration import RUN_TAG, MigrationSettings, migrate
from hindcast.online.migration_report import Mode
from hindcast.online.packed_rows import PackedRows
from hindcast.online.schemas import Schema, read_schema
from hindcast.online.writer import RowWrite, write_rows
from hindcast.v1.value_pb2 import Int64Array, NullValue, StringMap, Value
from services import HINDCAST, held_port, run_redis, wait_for

MINUTE, DAY = 60_000_000, 86_400_000_000
PACKED, FEASTS = "type: hindcast.online.plugin.PackedRedisOnlineStore", "type: redis"
CANARY = "c4n4ry-in-the-cage"


@pytest.fixture(scope="module")
def shared():
    """One Redis for the module; each test empties it."""
    with run_redis() as server:
        yield server


@pytest.fixture
def redis(shared):
    """Its client, on an empty Redis."""
    with contextlib.closing(shared.client()) as client:
        client.flushall()
        yield client


@pytest.fixture
def repo(tmp_path, shared, redis):
    """A repo on Feast's own Redis store."""
    return feast_repo(tmp_path / "repo", shared.connection_string)


def feast_repo(root, connection_string, *, redis_type="redis"):
    config = make_repo(root, connection_string, redis_type=redis_type) / "feature_store.yaml"
    config.write_text(config.read_text().replace(PACKED, FEASTS))
    return root


def set_ttl(repo, view_name, seconds):
    """Give a view of the repo a TTL."""
    changed = registry()
    for view in changed.feature_views:
        if view.spec.name == view_name:
            view.spec.ttl.CopyFrom(Duration(seconds=seconds))
    (repo / "registry.db").write_bytes(changed.SerializeToString())


def quiet(*_):
    """Hears progress and says nothing."""


def run(repo, *, progress=quiet, **settings):
    return migrate(MigrationSettings(repo_root=repo, **settings), progress=progress)


def command(repo, *options):
    """Exit code, output and error output of the command."""
    done = run_command("hindcast", "migrate", "--repo", repo, *options)
    return done.returncode, done.stdout, done.stderr


def driver(number):
    return [Value(int64_val=number)]


def drivers(count, *, event_micros=None, trips=0, first=0):
    """Rows of `count` drivers."""
    now = event_micros or system_clock() - MINUTE
    return [
        (driver(n), {"trips": Value(int64_val=trips + n), "city": Value(string_val=f"c{n}"), "rating": Value()}, now)
        for n in range(first, first + count)
    ]


def write_driver(redis, rows, *, project=PROJECT):
    write_hashes(redis, project, views()["driver"], rows)


def packed(redis, view_name, key, *, project=PROJECT):
    """A packed row: its event time and the values by feature; None if there is none."""
    view = views()[view_name]
    stored = redis.get(row_key(view_prefix(project, view_name), entity_key_of(view, key)))
    if stored is None:
        return None
    row = unpack_row(stored)
    schema = read_schema(row.schema_id, redis.get(schema_key(project, row.schema_id)))
    return row.event_micros, dict(zip(schema.names, row.values, strict=True))


def pack(view_name, key, values, event_micros, *, created_micros=None, run_id=bytes(16), fields=None):
    """A packed row on its way in, as any other writer makes it."""
    view = views()[view_name]
    fields = fields or view.fields
    row = pack_row(
        event_micros=event_micros,
        created_micros=created_micros,
        schema_id=Schema(fields).id,
        run_id=run_id,
        values=[values[field.name].SerializeToString() if field.name in values else None for field in fields],
    )
    return RowWrite(row_key(view_prefix(PROJECT, view_name), entity_key_of(view, key)), row)


def state(redis):
    """Everything that is stored, and what of it expires."""
    return {key: (redis.dump(key), redis.pttl(key) >= 0) for key in redis.scan_iter(count=1000)}


def counts(report, view_name="driver"):
    """The numbers of a view that are not zero."""
    (of,) = [view for view in report.views if view.view == view_name]
    return {name: number for name, number in of.counts.items() if number}


KEYS = {
    KeyType.STRING: [Value(string_val=text) for text in ("", "1", "zo\u00eb}{", "tiny")],
    KeyType.BYTES: [Value(bytes_val=content) for content in (b"", b"\0tiny", b"}")],
    KeyType.INT32: [Value(int32_val=number) for number in (-(2**31), 0, 7)],
    KeyType.INT64: [Value(int64_val=number) for number in (-(2**63), 0, 2**63 - 1)],
    KeyType.UNIX_TIMESTAMP: [Value(unix_timestamp_val=number) for number in (-1, 0, 1_767_225_600)],
}


@pytest.mark.parametrize("kind", KeyType)
def test_every_kind_of_key(repo, redis, kind):
    """Rows are copied whatever their keys are made of, the project's own name and braces among them."""
    view = views()[f"by_{kind.name.lower()}"]
    now = system_clock()
    rows = [([key], {"seen": Value(int64_val=at)}, now - at) for at, key in enumerate(KEYS[kind])]
    write_hashes(redis, PROJECT, view, rows)

    report = run(repo)

    assert report.equal
    assert {"rows": len(rows), "copied": len(rows)} == counts(report, view.name)
    for key, values, event_micros in rows:
        assert (event_micros, {"seen": values["seen"].SerializeToString()}) == packed(redis, view.name, key)


def test_nulls_are_nulls(repo, redis):
    """An empty Value, an explicit null and a feature that was never written are copied as nulls."""
    now = system_clock()
    write_driver(
        redis, [(driver(1), {"trips": Value(), "city": Value(null_val=NullValue.NULL_VALUE_UNSPECIFIED)}, now)]
    )

    assert run(repo).equal
    assert (now, {"trips": None, "city": None, "rating": None}) == packed(redis, "driver", driver(1))


def test_values_pass_through_untouched(repo, redis):
    """A value's bytes are copied as they are, whatever its type."""
    now = system_clock()
    nested = Value(map_val=StringMap(val={"a": Value(int64_list_val=Int64Array(val=[1, -1]))}))
    write_driver(redis, [(driver(1), {"trips": nested, "city": Value(string_val="x" * 70_000)}, now)])

    assert run(repo).equal
    _, values = packed(redis, "driver", driver(1))
    assert nested.SerializeToString() == values["trips"]
    assert Value(string_val="x" * 70_000).SerializeToString() == values["city"]


def test_a_view_without_entities(repo, redis):
    """The one row of a view without entities is copied."""
    write_hashes(redis, PROJECT, views()["platform"], [((), {"surge": Value(double_val=1.5)}, 7)])

    assert {"rows": 1, "copied": 1} == counts(run(repo), "platform")
    assert (7, {"surge": Value(double_val=1.5).SerializeToString()}) == packed(redis, "platform", ())


@pytest.mark.parametrize("event_micros", [-(10**15), -1, 0, 1])
def test_times_around_1970(repo, redis, event_micros):
    """A row before, at and after 1970 is copied with its time, although Feast writes 1970 itself as no bytes."""
    write_driver(redis, drivers(1, event_micros=event_micros or 0) if event_micros else [(driver(0), {}, 0)])

    assert run(repo).equal
    assert event_micros == packed(redis, "driver", driver(0))[0]


def test_views_of_one_hash_and_views_that_are_not_in_it(repo, redis):
    """Views that share an entity key are copied each by its own time, and one that has no row there gets none."""
    now = system_clock()
    write_driver(redis, drivers(2, event_micros=now))
    write_hashes(redis, PROJECT, views()["driver_week"], [(driver(1), {"trips": Value(int64_val=70)}, now - DAY)])

    report = run(repo)

    assert ({"rows": 2, "copied": 2}, {"rows": 1, "copied": 1}) == (counts(report), counts(report, "driver_week"))
    assert None is packed(redis, "driver_week", driver(0))
    assert (now - DAY, {"trips": Value(int64_val=70).SerializeToString()}) == packed(redis, "driver_week", driver(1))


def test_keys_of_projects_that_end_alike(repo, redis):
    """A project takes no key of another that ends in its name, nor one that is not Feast's."""
    write_driver(redis, drivers(3))
    write_driver(redis, drivers(5, first=10), project=f"des{PROJECT}")
    write_driver(redis, drivers(5, first=20), project=f"{PROJECT}{PROJECT}")
    redis.hset(PROJECT, "a", "b")
    redis.hset(b"\xff" * 20 + PROJECT.encode(), "a", "b")
    redis.set(hash_key(PROJECT, views()["driver"], driver(99)), "no hash")

    report = run(repo)

    assert (3, 0) == (report.keys, report.unclaimed)
    assert {"rows": 3, "copied": 3} == counts(report)


def test_keys_that_fit_no_view_are_counted(repo, redis):
    """Hashes of views that are gone, and of a join key that had another type, are counted and left alone."""
    write_driver(redis, drivers(1))
    for names, value in ((["gone_id"], Value(int64_val=1)), (["driver_id"], Value(string_val="1"))):
        kind = KeyType.INT64 if value.HasField("int64_val") else KeyType.STRING
        redis.hset(entity_key_bytes(names, [key_value_bytes(value, kind)]) + PROJECT.encode(), "a", "b")

    report = run(repo)

    assert (1, 2, True) == (report.keys, report.unclaimed, report.equal)


def test_a_second_run_changes_nothing(repo, redis):
    """What is there is found to be there: not a byte in Redis differs after another run."""
    write_driver(redis, drivers(50))
    assert {"rows": 50, "copied": 50} == counts(run(repo))
    before = state(redis)

    assert {"rows": 50, "already_there": 50} == counts(run(repo))
    assert before == state(redis)


def test_a_second_run_takes_what_is_new(repo, redis):
    """Rows that Feast wrote since the last run are copied, in place of older ones too."""
    now = system_clock()
    write_driver(redis, drivers(5, event_micros=now - DAY))
    run(repo)
    write_driver(redis, drivers(4, event_micros=now, trips=100, first=3))

    assert {"rows": 7, "copied": 4, "already_there": 3} == counts(run(repo))
    assert Value(int64_val=103).SerializeToString() == packed(redis, "driver", driver(3))[1]["trips"]


def test_a_changed_row_of_the_same_time_is_taken_again(repo, redis):
    """What Feast rewrote without a later time (`skip_dedup: true`) replaces what a migration wrote."""
    now = system_clock()
    write_driver(redis, drivers(1, event_micros=now))
    run(repo)
    write_driver(redis, drivers(1, event_micros=now, trips=7))

    assert {"rows": 1, "copied": 1} == counts(run(repo))
    assert Value(int64_val=7).SerializeToString() == packed(redis, "driver", driver(0))[1]["trips"]


def test_a_correction_by_another_writer_is_kept(repo, redis):
    """A packed row of the same time that somebody else wrote stays: with a created time as newer, without as a difference."""
    now = system_clock()
    write_driver(redis, drivers(2, event_micros=now))
    correction = {"trips": Value(int64_val=-1)}
    run(repo)
    write_rows(redis, [pack("driver", driver(0), correction, now, created_micros=now)])
    write_rows(redis, [pack("driver", driver(1), correction, now)])
    before = state(redis)

    report = run(repo)

    assert {"rows": 2, "newer": 1, "differing": 1} == counts(report)
    assert before == state(redis)
    assert {"rows": 2, "newer": 1, "differing": 1} == counts(run(repo, mode=Mode.DRY_RUN))
    (difference,) = report.differences
    assert ("driver", "driver_id=1") == (difference.view, difference.entity_key)


def test_a_correction_that_comes_while_copying_is_kept(repo, redis, monkeypatch):
    """A row of the same time that another writer stores after the target was looked at is not written over."""
    now = system_clock()
    write_driver(redis, drivers(1, event_micros=now))
    correction = pack("driver", driver(0), {"trips": Value(int64_val=-1)}, now)
    look = PackedRows.read

    def read(rows, view, entity_keys):
        found = look(rows, view, entity_keys)
        write_rows(redis, [correction])
        return found

    monkeypatch.setattr(PackedRows, "read", read)
    report = run(repo)

    assert {"rows": 1, "differing": 1} == counts(report)
    assert correction.packed == redis.get(correction.key)


def test_newer_rows_are_not_touched(repo, redis):
    """A later packed row stays, is counted apart, and is no difference."""
    now = system_clock()
    write_driver(redis, drivers(3, event_micros=now))
    run(repo)
    write_rows(redis, [pack("driver", driver(0), {"trips": Value(int64_val=-1)}, now + 1)])

    report = run(repo)

    assert report.equal
    assert {"rows": 3, "already_there": 2, "newer": 1} == counts(report)
    assert report.source_digest != report.target_digest


def test_rows_go_to_every_generation_that_may_be_served(repo, redis):
    """While the target's view is being replaced, rows are copied to what is served and what is built, and counted and proven once."""
    write_driver(redis, drivers(5))
    generations = GenerationsOf(redis, project=PROJECT)
    generations.flip("driver", generations.begin_build("driver", builder="a"))
    generations.begin_build("driver", builder="b")
    first, second = run(repo), run(repo)
    assert (True, {"rows": 5, "copied": 5}) == (first.equal, counts(first))
    assert (True, {"rows": 5, "already_there": 5}) == (second.equal, counts(second))
    for generation in (0, 1, 2):
        assert 5 == sum(1 for _ in redis.scan_iter(match=view_prefix(PROJECT, "driver", generation) + b"*"))


def test_a_flip_under_the_proof_is_not_a_difference(repo, redis):
    """A view that gets other rows while they are compared cannot be proven, which is said, and not counted as a difference."""
    write_driver(redis, drivers(5))
    generations = GenerationsOf(redis, project=PROJECT)
    generation = generations.begin_build("driver", builder="a")

    def flip(phase, *_):
        if phase == "adding up":
            generations.flip("driver", generation)

    with pytest.raises(StoreUnavailable, match="the rows of a view were replaced while they were compared"):
        run(repo, progress=flip)
    assert run(repo).equal


def test_rows_that_only_the_target_has(repo, redis):
    """Packed rows that Feast never wrote are counted apart, are no difference, and leave the digests equal."""
    write_driver(redis, drivers(3))
    run(repo)
    write_rows(redis, [pack("driver", driver(9), {"trips": Value(int64_val=9)}, system_clock())])

    report = run(repo)

    assert report.equal
    assert {"rows": 3, "already_there": 3, "only_in_target": 1} == counts(report)
    assert report.source_digest == report.target_digest


def test_rows_of_an_older_schema_are_compared_by_name(repo, redis):
    """A packed row whose schema has other fields in another order equals its source where the view's features do."""
    now = system_clock()
    write_driver(redis, [(driver(1), {"trips": Value(int64_val=1), "city": Value(string_val="c")}, now)])
    fields = (Field("gone", 4), Field("city", 2), Field("trips", 4))
    redis.set(schema_key(PROJECT, Schema(fields).id), Schema(fields).to_bytes())
    values = {"trips": Value(int64_val=1), "city": Value(string_val="c"), "gone": Value(int64_val=5)}
    write_rows(redis, [pack("driver", driver(1), values, now, fields=fields)])

    report = run(repo)

    assert {"rows": 1, "already_there": 1} == counts(report)
    assert report.source_digest == report.target_digest


def test_a_dry_run_writes_nothing(repo, redis):
    """A dry run says what would be copied, and leaves Redis as it is."""
    write_driver(redis, drivers(5))
    before = state(redis)

    report = run(repo, mode=Mode.DRY_RUN)

    assert {"rows": 5, "copied": 5} == counts(report)
    assert (before, None, True) == (state(redis), report.run_id, report.equal)


def test_one_view_alone(repo, redis):
    """With `--view`, rows of others are neither copied nor compared."""
    write_driver(redis, drivers(2))
    write_hashes(redis, PROJECT, views()["driver_week"], [(driver(1), {"trips": Value(int64_val=1)}, 1)])

    report = run(repo, views=("driver_week",))

    assert (["driver_week"], True) == ([view.view for view in report.views], report.equal)
    assert None is packed(redis, "driver", driver(1))


def test_two_redis(tmp_path, repo, redis):
    """From a Redis that `--from` names into the one of a repo that is switched already."""
    write_driver(redis, drivers(5))
    with run_redis() as other, contextlib.closing(other.client()) as target:
        switched = make_repo(tmp_path / "switched", other.connection_string)
        port = redis.connection_pool.connection_kwargs["port"]

        report = run(switched, source=f"127.0.0.1:{port}")

        assert ({"rows": 5, "copied": 5}, True) == (counts(report), report.equal)
        assert packed(target, "driver", driver(4)) is not None
        assert [] == list(redis.scan_iter(match="hc:*"))


def test_rows_dated_ahead(repo, redis):
    """A row dated too far ahead is named and not copied, until the bound is raised."""
    later = system_clock() + DAY
    write_driver(redis, [*drivers(2), *drivers(1, event_micros=later, first=7)])

    report = run(repo)
    assert ({"rows": 3, "copied": 2, "dated_ahead": 1}, False) == (counts(report), report.equal)
    assert ["driver_id=7"] == [difference.entity_key for difference in report.differences]
    assert {"rows": 3, "already_there": 2, "dated_ahead": 1} == counts(run(repo, mode=Mode.DRY_RUN))

    report = run(repo, future_seconds=2 * 86_400)
    assert ({"rows": 3, "copied": 1, "already_there": 2}, True) == (counts(report), report.equal)
    assert later == packed(redis, "driver", driver(7))[0]


def test_rows_past_their_grace(repo, redis):
    """A row past TTL and grace is left out and counted, a stale one within the grace is copied and expires with it."""
    set_ttl(repo, "driver", 3600)
    now = system_clock()
    write_driver(redis, [*drivers(1, event_micros=now - 9 * DAY), *drivers(1, event_micros=now - DAY, first=1)])

    report = run(repo)

    assert ({"rows": 2, "copied": 1, "expired": 1}, True) == (counts(report), report.equal)
    assert report.source_digest == report.target_digest
    (key,) = redis.scan_iter(match="hc:tiny:driver:*")
    left_ms = (now - DAY + 3600 * 1_000_000 + 7 * DAY - system_clock()) // 1000
    assert abs(left_ms - redis.pttl(key)) < 1000


def test_expiry_of_feasts_keys_is_taken_over(repo, redis):
    """A row whose hash Feast lets go (`key_ttl_seconds`) goes at the same time, and stays if the hash does."""
    write_driver(redis, drivers(2))
    expiring = hash_key(PROJECT, views()["driver"], driver(0))
    redis.expire(expiring, 1000)

    assert run(repo).equal

    left_ms = {key[-9:-1]: redis.pttl(key) for key in redis.scan_iter(match="hc:tiny:driver:*")}
    assert abs(left_ms[(0).to_bytes(8, "little")] - redis.pttl(expiring)) < 2000
    assert -1 == left_ms[(1).to_bytes(8, "little")]


def damaged(row):
    return row[:42] + b"\xc1"


def other_value(row):
    return pack_row(**{**unpack_row(row)._asdict(), "values": [None, None, None]})


def earlier(row):
    return pack_row(**{**unpack_row(row)._asdict(), "event_micros": 5})


def unknown_schema(row):
    return pack_row(**{**unpack_row(row)._asdict(), "schema_id": b"nobodys!"})


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (other_value, "its packed row has the same event time and other values"),
        (earlier, "its packed row is older"),
        (damaged, "its packed row cannot be read"),
        (unknown_schema, "its packed row cannot be read"),
    ],
)
def test_a_packed_row_that_was_tampered_with_is_found(repo, redis, tamper, reason):
    """One changed row among many is named with what is wrong, the digests differ, and the next run mends it."""
    write_driver(redis, drivers(2000))
    run(repo)
    key = row_key(view_prefix(PROJECT, "driver"), entity_key_of(views()["driver"], driver(1234)))
    good = redis.get(key)
    redis.set(key, tamper(good))

    report = run(repo, mode=Mode.VERIFY_ONLY)

    assert ({"rows": 2000, "differing": 1}, False) == (counts(report), report.equal)
    assert [("driver", "driver_id=1234", reason)] == [(d.view, d.entity_key, d.reason) for d in report.differences]
    assert report.source_digest != report.target_digest
    assert run(repo).equal
    assert unpack_row(good)._replace(run_id=b"") == unpack_row(redis.get(key))._replace(run_id=b"")


def test_missing_packed_rows_are_found(repo, redis):
    """A row that is not there is missing, and the first ten are named."""
    write_driver(redis, drivers(30))
    run(repo)
    gone = list(redis.scan_iter(match="hc:tiny:driver:*"))[:12]
    redis.delete(*gone)

    report = run(repo, mode=Mode.VERIFY_ONLY)

    assert ({"rows": 30, "missing": 12}, False) == (counts(report), report.equal)
    assert (10, {"it has no packed row"}) == (len(report.differences), {d.reason for d in report.differences})


def test_a_damaged_time_in_the_source_is_found(repo, redis):
    """A row whose event time Feast's hash does not tell is not copied, and is named."""
    write_driver(redis, drivers(2))
    redis.hset(hash_key(PROJECT, views()["driver"], driver(1)), "_ts:driver", b"\xff")

    report = run(repo)

    assert ({"rows": 2, "copied": 1, "damaged": 1}, False) == (counts(report), report.equal)
    assert ["driver_id=1"] == [difference.entity_key for difference in report.differences]


@pytest.mark.parametrize("other", ["driver", "driver_week"])
def test_features_of_one_hash_field_are_refused(repo, redis, other):
    """Two features that Feast stores in one field, of one view or of two of an entity, are named and not copied."""
    ours = {mmh3.hash(f"driver:f{at}"): f"f{at}" for at in range(100_000)}
    theirs = next(f"g{at}" for at in itertools.count() if mmh3.hash(f"{other}:g{at}") in ours)
    meets = ours[mmh3.hash(f"{other}:{theirs}")]
    changed = registry()
    for view in changed.feature_views:
        if view.spec.name == "driver":
            view.spec.features.add(name=meets, value_type=4)
        if view.spec.name == other:
            view.spec.features.add(name=theirs, value_type=4)
    (repo / "registry.db").write_bytes(changed.SerializeToString())
    write_hashes(redis, PROJECT, views()["by_int64"], [(driver(1), {"seen": Value(int64_val=1)}, 1)])

    report = run(repo)

    assert {"driver", other} == set(report.refused)
    assert all(f"{other}:{theirs}" in reason for reason in report.refused.values())
    assert ({"rows": 1, "copied": 1}, False) == (counts(report, "by_int64"), report.equal)
    assert run(repo, views=("by_int64",)).equal


def test_writers_of_both_sides_go_on_meanwhile(repo, redis, shared):
    """While newer rows are written into either side, none of them is lost, and a last run proves the rest."""
    now = system_clock() - MINUTE
    write_driver(redis, drivers(3000, event_micros=now))
    stop = threading.Event()
    rounds = 0

    def write_on():
        nonlocal rounds
        with contextlib.closing(shared.client()) as client:
            while not stop.is_set():
                rounds += 1
                newer = {"trips": Value(int64_val=rounds)}
                write_rows(client, [pack("driver", driver(n), newer, now + rounds) for n in range(0, 3000, 30)])
                write_driver(client, drivers(50, event_micros=now + rounds, trips=rounds, first=10_000))

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        wait_for(lambda: rounds > 1)
        report = run(repo)
    finally:
        stop.set()
        writer.join()

    assert 0 == sum(of.counts["missing"] for of in report.views)
    report = run(repo)
    assert report.equal
    for n in range(3000):
        expected = (rounds, now + rounds) if n % 30 == 0 else (n, now)
        event_micros, values = packed(redis, "driver", driver(n))
        assert expected == (Value.FromString(values["trips"]).int64_val, event_micros)


def test_rows_that_change_under_the_proof_are_looked_at_again(repo, redis, monkeypatch):
    """A row that reaches the target between two looks of the proof is no difference."""
    now = system_clock() - MINUTE
    write_driver(redis, drivers(30, event_micros=now))
    run(repo)
    newer = drivers(30, event_micros=now + 1, trips=5)
    write_driver(redis, newer)
    look = PackedRows.read

    def read(rows, view, entity_keys):
        found = look(rows, view, entity_keys)
        write_rows(redis, [pack("driver", key, values, at) for key, values, at in newer])
        return found

    monkeypatch.setattr(PackedRows, "read", read)
    report = run(repo, mode=Mode.VERIFY_ONLY)

    assert ({"rows": 30}, True) == (counts(report), report.equal)


def test_killed_half_way_and_run_again(repo, shared, redis):
    """After kill -9 in the midst of copying, another run copies the rest and proves all of it."""
    write_driver(redis, drivers(20_000))
    with run_proxy(shared.port) as proxy:
        proxy.request_bytes = 1_000_000
        command = [HINDCAST, "migrate", "--repo", repo, "--to", f"127.0.0.1:{proxy.port}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: proxy.blocked.is_set() or process.poll() is not None, what="a write that waits")
        finally:
            process.kill()
            process.wait()
    copied = redis.dbsize() - 20_000
    assert copied < 20_000

    report = run(repo)

    assert report.equal
    assert 20_000 == counts(report)["copied"] + counts(report)["already_there"]
    assert counts(report)["copied"] > 0
    assert counts(report)["already_there"] > 1000


def test_a_proof_that_was_broken_off_is_made_again(repo, redis):
    """Breaking off the proof leaves the copied rows, and `--verify-only` proves them without writing."""
    write_driver(redis, drivers(100))

    def break_off(phase, _share, _rows):
        if phase == "comparing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(repo, progress=break_off)
    before = state(redis)

    report = run(repo, mode=Mode.VERIFY_ONLY)

    assert ({"rows": 100}, True) == (counts(report), report.equal)
    assert before == state(redis)


def test_a_cluster(tmp_path):
    """In a Cluster of three, all rows are found, copied and proven, and a slot on its way is refused, not guessed at."""
    with run_cluster() as cluster:
        repo = feast_repo(tmp_path / "repo", cluster.connection_string, redis_type="redis_cluster")
        with contextlib.closing(parse_target(cluster.connection_string, redis_type="redis_cluster").client()) as client:
            write_driver(client, drivers(500))
            report = run(repo)
            assert ({"rows": 500, "copied": 500}, True) == (counts(report), report.equal)
            assert report.source_digest == report.target_digest
            assert {"rows": 500, "already_there": 500} == counts(run(repo))
            with run_redis() as other, contextlib.closing(other.client()) as target:
                report = run(repo, target=other.connection_string, target_type="redis")
                assert ({"rows": 500, "copied": 500}, True) == (counts(report), report.equal)
                assert 500 == sum(1 for _ in target.scan_iter(match="hc:tiny:driver:*"))
        cluster.begin_move(7, to=(cluster.owner_of(7) + 1) % 3)
        code, _, error = command(repo)
        assert (1, "hindcast: the Redis Cluster is moving slots") == (code, error[:43])


def test_run_ids_tell_a_migration(repo, redis):
    """Rows of one run have its id, a UUID of version 7 that ends as those of migrations do."""
    write_driver(redis, drivers(2))
    report = run(repo)

    (run_id,) = {unpack_row(redis.get(key)).run_id for key in redis.scan_iter(match="hc:tiny:driver:*")}
    assert (report.run_id, True, "7") == (str(UUID(bytes=run_id)), run_id.endswith(RUN_TAG), report.run_id[14])


def test_the_command_says_all_of_it(repo, redis):
    """Exit code 0 and a table; with `--output json` every number, digest and name; exit code 3 with a difference."""
    write_driver(redis, drivers(3))
    code, output, error = command(repo)
    assert (0, "") == (code, error)
    assert output.endswith("\nequal, row by row: 3 rows\n")

    code, output, _ = command(repo, "--output", "json")
    said = json.loads(output)
    assert (0, True, 3) == (code, said["equal"], said["totals"]["rows"])
    assert said["source_digest"] == said["target_digest"]
    assert {"view", "rows", "copied", "already_there", "newer", "missing", "differing", "source_digest"} <= set(
        said["views"][0]
    )
    assert {"asleep"} == set(said["left_out"])

    redis.delete(*redis.scan_iter(match="hc:tiny:driver:*"))
    code, output, _ = command(repo, "--verify-only", "--output", "json")
    said = json.loads(output)
    assert (3, False, 3) == (code, said["equal"], said["totals"]["missing"])
    assert {"driver_id=0", "driver_id=1", "driver_id=2"} == {of["entity_key"] for of in said["differences"]}
    code, output, _ = command(repo, "--verify-only")
    assert (3, True) == (code, output.endswith("\nNOT equal\n"))


def test_a_redis_that_is_not_there(repo, redis):
    """A Redis that does not answer is named, with the option that names it, and exit code 1."""
    with held_port() as port:
        for option in ("--from", "--to"):
            code, output, error = command(repo, option, f"127.0.0.1:{port},password={CANARY}")
            assert (1, "") == (code, output)
            assert error.startswith(f"hindcast: Redis at 127.0.0.1:{port} ({option}, or online_store.connection_string")
            assert CANARY not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--view", "nobody"), "hindcast: view 'nobody' is not in the registry; there are by_bytes, "),
        (("--view", "asleep"), "hindcast: view 'asleep' has no rows to copy: it is disabled"),
        (("--from", f"{CANARY}@h:1"), "hindcast: part 1 of --from is neither HOST:PORT nor OPTION=VALUE"),
        (("--to", f"h:1,{CANARY}"), "hindcast: part 2 of --to is neither HOST:PORT nor OPTION=VALUE"),
        (("--dry-run", "--verify-only"), "Usage: hindcast migrate [OPTIONS]"),
        (("--from-type", "ring"), "Usage: hindcast migrate [OPTIONS]"),
    ],
)
def test_bad_usage(repo, redis, options, message):
    """What is wrong is said with what to write instead, and exit code 2."""
    code, output, error = command(repo, *options)

    assert (2, "", message) == (code, output, error[: len(message)])
    assert CANARY not in error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "serialization_version: 3",
            "serialization_version: 2",
            "has entity_key_serialization_version 2, and Hindcast reads",
        ),
        (FEASTS, "type: dynamodb", "has online_store.type 'dynamodb', and Hindcast serves from Redis"),
        (FEASTS, f"{FEASTS}\n  future_seconds: soon", "online_store.future_seconds must be a number of seconds"),
    ],
)
def test_a_repo_that_cannot_be_migrated(repo, redis, old, new, message):
    """A repo of another store or another key serialization is told which line to change, with exit code 2."""
    config = repo / "feature_store.yaml"
    config.write_text(config.read_text().replace(old, new))

    code, output, error = command(repo)

    assert (2, "", True) == (code, output, message in error)
