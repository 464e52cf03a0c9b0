"""Runs of the real `feast materialize` that can be held, killed and waited for, and an oracle that knows the newest row of each key.

Importing this imports Feast (5 s).
"""

import contextlib
import json
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feast
import pyarrow as pa
import pyarrow.parquet as pq
from feast import types
from feast.feature_view import FeatureViewState
from feast.protos.feast.core.Registry_pb2 import Registry

from commands import CommandDriver, Run
from hindcast.clock import to_micros
from hindcast.online.codec import unpack_row
from hindcast.online.keys import view_prefix
from hindcast.v1.value_pb2 import Value
from services import RedisServer

PROJECT = "rides"
VIEW = "ride"
PUSH = "ride_push"
SOURCE = "data/rides.parquet"
KEYS = 5_000
ROWS_PER_KEY = 4
DAYS = 30
TTL = timedelta(days=90)
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
START = END - timedelta(days=DAYS)
MIDDLE = START + timedelta(days=DAYS / 2)

_RUN_ID = slice(26, 42)
"""Where a packed row says which run wrote it (docs/formats.md); it differs from run to run."""

EXPIRY_TOLERANCE_MS = 5_000


@dataclass(frozen=True, slots=True)
class Ride:
    """One row of the source; `serial` tells it from all others, and is what the oracle gives."""

    key: int
    event: datetime
    created: datetime | None
    serial: int


def make_rides(*, seed: int = 4) -> list[Ride]:
    """Rows of all keys in no order. A tenth of the keys have rows of equal event times, which their created times tell apart."""
    chance = random.Random(seed)
    span = round((END - START).total_seconds()) * 1_000_000
    rides = []
    for key in range(1, KEYS + 1):
        times = [START + timedelta(microseconds=chance.randrange(span)) for _ in range(ROWS_PER_KEY)]
        if key % 10 == 0:
            times = [times[0]] * ROWS_PER_KEY
        rides += [
            Ride(key, event, event + timedelta(seconds=number + chance.random()), serial=0)
            for number, event in enumerate(times)
        ]
    chance.shuffle(rides)
    return [replace(ride, serial=serial) for serial, ride in enumerate(rides)]


def newest(rides: Iterable[Ride], *, start: datetime = START, end: datetime = END) -> dict[int, int]:
    """The oracle: by key the serial of the newest row between two times, both closed; of equal ones, of the last in the order given."""
    winners: dict[int, tuple[tuple[int, int], int]] = {}
    for ride in rides:
        if not start <= ride.event <= end:
            continue
        order = (to_micros(ride.event), -1 if ride.created is None else to_micros(ride.created))
        if ride.key not in winners or order >= winners[ride.key][0]:
            winners[ride.key] = order, ride.serial
    return {key: serial for key, (_, serial) in winners.items()}


def rides_table(rides: Sequence[Ride]) -> pa.Table:
    """As the source has them: the values hang on the serial alone, and some are null."""
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "driver_id": pa.array([ride.key for ride in rides], pa.int64()),
            "serial": pa.array([ride.serial for ride in rides], pa.int64()),
            "rating": pa.array([None if ride.serial % 7 == 0 else ride.serial / 3 for ride in rides], pa.float64()),
            "city": pa.array([f"city {ride.serial % 40}" for ride in rides], pa.string()),
            "active": pa.array([ride.serial % 2 == 0 for ride in rides], pa.bool_()),
            "note": pa.array([f"{ride.serial:x}" * 9 for ride in rides], pa.string()),
            "event_ts": pa.array([ride.event for ride in rides], instant),
            "created_ts": pa.array([ride.created for ride in rides], instant),
        }
    )


def write_source(repo: Path, rides: Sequence[Ride]) -> None:
    """Make these rows the whole of the source."""
    (repo / SOURCE).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rides_table(rides), repo / SOURCE)


def make_repo(root: Path, redis: RedisServer, rides: Sequence[Ride]) -> Path:
    """A repo with one view, applied, and its source."""
    root.mkdir(parents=True)
    point(root, redis.port)
    write_source(root, rides)
    source = feast.FileSource(
        name="rides", path=SOURCE, timestamp_field="event_ts", created_timestamp_column="created_ts"
    )
    driver = feast.Entity(name="driver", join_keys=["driver_id"], value_type=feast.ValueType.INT64)
    fields = {
        "driver_id": types.Int64,
        "serial": types.Int64,
        "rating": types.Float64,
        "city": types.String,
        "active": types.Bool,
        "note": types.String,
    }
    push = feast.PushSource(name=PUSH, batch_source=source)
    view = feast.FeatureView(
        name=VIEW,
        entities=[driver],
        schema=[feast.Field(name=name, dtype=dtype) for name, dtype in fields.items()],
        source=push,
        ttl=TTL,
    )
    feast.FeatureStore(repo_path=str(root)).apply([driver, push, view])
    return root


def point(repo: Path, port: int) -> None:
    """Set the Redis of a repo."""
    (repo / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: registry.db\n"
        "batch_engine: {type: hindcast.materialize.plugin.StreamingEngine}\n"
        "offline_store: {type: hindcast.offline.plugin.AsOfOfflineStore}\n"
        "online_store:\n  type: hindcast.online.plugin.PackedRedisOnlineStore\n"
        f"  connection_string: '127.0.0.1:{port}'\n"
        "entity_key_serialization_version: 3\n"
    )


def copy_repo(repo: Path, root: Path, redis: RedisServer) -> Path:
    """The same repo, with a registry of its own, on some Redis."""
    shutil.copytree(repo, root)
    point(root, redis.port)
    return root


def _registered(repo: Path):
    registry = Registry.FromString((repo / "registry.db").read_bytes())
    (view,) = (view for view in registry.feature_views if view.spec.name == VIEW)
    return view


def watermark(repo: Path) -> list[tuple[datetime, datetime]]:
    """The intervals that Feast's registry calls materialized."""
    return [
        (interval.start_time.ToDatetime(tzinfo=UTC), interval.end_time.ToDatetime(tzinfo=UTC))
        for interval in _registered(repo).meta.materialization_intervals
    ]


def state(repo: Path) -> FeatureViewState:
    """What Feast's registry says that the view is doing."""
    return FeatureViewState.from_proto(_registered(repo).meta.state)


@dataclass(frozen=True, slots=True)
class Stored:
    """One key of Redis: its value without the run's id, and when it expires, in milliseconds since 1970; None for never."""

    value: bytes
    expires_at_ms: int | None


def stored(redis: RedisServer) -> dict[bytes, Stored]:
    """All that is in a Redis."""
    with contextlib.closing(redis.client()) as client:
        keys = sorted(client.scan_iter(count=2_000))
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
            pipe.pttl(key)
        seconds, micros = client.time()
        replies = pipe.execute()
    now_ms = seconds * 1000 + micros // 1000
    prefix = view_prefix(PROJECT, VIEW)
    return {
        key: Stored(
            value[: _RUN_ID.start] + value[_RUN_ID.stop :] if key.startswith(prefix) else value,
            None if ttl < 0 else now_ms + ttl,
        )
        for key, value, ttl in zip(keys, replies[::2], replies[1::2], strict=True)
    }


def restore(redis: RedisServer, content: Mapping[bytes, Stored]) -> None:
    """Make this all that is in a Redis, by a run of no name."""
    prefix = view_prefix(PROJECT, VIEW)
    with contextlib.closing(redis.client()) as client:
        pipe = client.pipeline(transaction=False)
        pipe.flushall()
        for key, one in content.items():
            row = one.value[: _RUN_ID.start] + bytes(16) + one.value[_RUN_ID.start :]
            pipe.set(key, row if key.startswith(prefix) else one.value, pxat=one.expires_at_ms)
        pipe.execute()


def differences(expected: Mapping[bytes, Stored], actual: Mapping[bytes, Stored]) -> dict[bytes, str]:
    """What two Redis do not agree on, by key; expiry may be a little apart."""
    found = dict.fromkeys(expected.keys() - actual.keys(), "is missing")
    found |= dict.fromkeys(actual.keys() - expected.keys(), "should not be there")
    for key in expected.keys() & actual.keys():
        theirs, ours = expected[key], actual[key]
        if theirs.value != ours.value:
            found[key] = "has another value"
        elif (theirs.expires_at_ms is None) != (ours.expires_at_ms is None) or (
            abs((theirs.expires_at_ms or 0) - (ours.expires_at_ms or 0)) > EXPIRY_TOLERANCE_MS
        ):
            found[key] = f"expires at {ours.expires_at_ms}, not at {theirs.expires_at_ms}"
    return found


def serials(redis: RedisServer, *, generation: int = 0) -> dict[int, int]:
    """By key the serial of its row in Redis."""
    prefix = view_prefix(PROJECT, VIEW, generation)
    with contextlib.closing(redis.client()) as client:
        keys = list(client.scan_iter(match=prefix + b"*", count=2_000))
        rows = client.mget(keys) if keys else []
        schemas = {}
        for row in map(unpack_row, rows):
            if row.schema_id not in schemas:
                (schema,) = client.scan_iter(match=b"*:schema:" + row.schema_id.hex().encode())
                schemas[row.schema_id] = [name for name, _ in json.loads(client.get(schema))].index("serial")
    return {
        int.from_bytes(key[-9:-1], "little"): Value.FromString(row.values[schemas[row.schema_id]]).int64_val
        for key, row in zip(keys, map(unpack_row, rows), strict=True)
    }


class Driver(CommandDriver):
    """Starts `feast` commands that are imported already."""

    def materialize(self, repo: Path, *, start: datetime = START, end: datetime = END, nice: int = 0) -> Run:
        """Start `feast materialize` of the view."""
        interval = [f"{instant:%Y-%m-%dT%H:%M:%S}" for instant in (start, end)]
        return self.start(repo, "materialize", *interval, "--views", VIEW, nice=nice)

    def materialize_incremental(self, repo: Path, *, end: datetime = END) -> Run:
        """Start `feast materialize-incremental` of the view."""
        return self.start(repo, "materialize-incremental", f"{end:%Y-%m-%dT%H:%M:%S}", "--views", VIEW)

    def replace(self, repo: Path, *options: str) -> Run:
        """Start `hindcast materialize --replace` of the view."""
        return self.start(repo, "materialize", "--replace", VIEW, *options, program="hindcast")


@contextlib.contextmanager
def run_driver(folder: Path) -> Iterator[Driver]:
    """A driver whose commands end with the block."""
    driver = Driver(folder)
    try:
        yield driver
    finally:
        driver.kill_all()
