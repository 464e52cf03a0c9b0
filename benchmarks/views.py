"""What is joined: three views of a row a day and key, entity frames, and a repo for each store.

All is made from numbers of its own, so that it is the same each time. The rows of a file come in the order in which they arrived, in row
groups of 122,880 (DuckDB's own size). Most rows arrive within an hour of their event; one in 50 up to five days late. Of
every 50 keys

- one has corrections: every second row has the event time of the row before it, other values, and arrives later. All three engines must
  take the later one: Feast and Hindcast by the created time, Polars because its sort is stable and files come in order of arrival;
- one has rows delivered twice: every second row equals the one before it in all times, and in all values too. Such a tie Feast decides by
  chance, and Polars does not promise to decide at all, so a comparison of values must not hang on it. Hindcast's order of
  such ties is the tests' affair, not this one's;
- one goes silent after a quarter of the history, so that its values outlive a TTL.

Features are doubles; one in 50 of every fifth feature's is null.

TTLs are of the three kinds that Feast's templates have: none (the default), ten years (its cloud templates) and 30 days (its template's
user statistics). A TTL could spare Feast work, since its join yields only the rows inside it, so the widest view has the shortest; with no TTL
at all Feast took the same time at a tenth of the size, and 10 per cent more memory.

Entity frames ask for random keys, one in 100 of them unknown to the views, at random times from the first event to a day after the last.
`label` differs in all rows, so that the rows of a result which lost the frame's order can be told.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from retrieving import SERVICE

PROJECT = "bench"
KEY = "account_id"
AS_OF = "event_timestamp"
LABEL = "label"

ROW_GROUP_ROWS = 122_880

_BEGIN = 1_700_000_000_000_000  # microseconds
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_UTC = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class View:
    """A view, and what its columns are called."""

    name: str
    width: int
    ttl: timedelta

    @property
    def features(self) -> list[str]:
        """Names of the features, in order."""
        return [f"{self.name}_{at}" for at in range(self.width)]


VIEWS = (
    View("profile", 10, timedelta(0)),
    View("balance", 10, timedelta(weeks=52 * 10)),
    View("activity", 30, timedelta(days=30)),
)
FEATURES = [name for view in VIEWS for name in view.features]


def write_source(view: View, path: Path, *, keys: int, depth: int) -> None:
    """Write a view's file: `depth` rows (an even number) for each of `keys` keys."""
    seed = VIEWS.index(view)
    random = np.random.default_rng([seed, keys, depth])
    days = _BEGIN + np.arange(depth, dtype=np.int64)[:, np.newaxis] * _DAY
    event = days + random.integers(0, _DAY, (depth, keys))
    silent = np.arange(keys) % 50 == 3
    event[:, silent] = _BEGIN + (event[:, silent] - _BEGIN) // 4
    delay = random.integers(0, _HOUR, (depth, keys))
    delay[random.random((depth, keys)) < 0.02] *= 120  # up to five days
    created = event + delay
    content = np.arange(depth * keys).reshape(depth, keys)
    twice, corrected = np.arange(keys) % 50 == 1, np.arange(keys) % 50 == 2
    for column in (event, created, content):
        column[1::2, twice] = column[0::2, twice]
    event[1::2, corrected] = event[0::2, corrected]
    created[1::2, corrected] = created[0::2, corrected] + _DAY
    key = np.broadcast_to(np.arange(keys), (depth, keys))
    arrival = np.argsort(created, axis=None, kind="stable")
    columns = [column.ravel()[arrival] for column in (key, event, created, content)]
    schema = pa.schema(
        [(KEY, pa.int64()), ("event_ts", _UTC), ("created_ts", _UTC)] + [(name, pa.float64()) for name in view.features]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for begin in range(0, len(arrival), ROW_GROUP_ROWS):
            key, event, created, content = (column[begin : begin + ROW_GROUP_ROWS] for column in columns)
            values = [_values(content, seed=seed, at=at) for at in range(view.width)]
            times = [pa.array(event, pa.int64()).cast(_UTC), pa.array(created, pa.int64()).cast(_UTC)]
            writer.write_table(pa.table([pa.array(key), *times, *values], schema), row_group_size=ROW_GROUP_ROWS)


def _values(content: npt.NDArray[np.int64], *, seed: int, at: int) -> pa.Array:
    """A feature's doubles in [0, 1): the same for rows of the same content (splitmix64)."""
    mixed = content.astype(np.uint64) * np.uint64(256) + np.uint64(seed * 64 + at)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    null = mixed % np.uint64(50) == 0 if at % 5 == 4 else None
    return pa.array((mixed >> np.uint64(11)) * 2.0**-53, mask=null)


def write_frame(path: Path, *, rows: int, keys: int, depth: int) -> None:
    """Write an entity frame."""
    random = np.random.default_rng([rows, keys, depth])
    with pq.ParquetWriter(path, pa.schema([(KEY, pa.int64()), (AS_OF, _UTC), (LABEL, pa.float64())])) as writer:
        labels = (random.permutation(rows) + 0.5) / rows
        for begin in range(0, rows, ROW_GROUP_ROWS):
            label = labels[begin : begin + ROW_GROUP_ROWS]
            key = random.integers(0, keys + max(1, keys // 100), len(label))
            as_of = pa.array(_BEGIN + random.integers(0, (depth + 1) * _DAY, len(label))).cast(_UTC)
            writer.write_table(pa.table([pa.array(key), as_of, pa.array(label)], writer.schema))


def frame_rows(path: Path, *, every: int) -> Iterator[pa.RecordBatch]:
    """Every so-manieth row of a Parquet file, in order, a batch for each piece read."""
    position = 0
    for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP_ROWS):
        yield batch.take(pa.array(range(-position % every, batch.num_rows, every), pa.int64()))
        position += batch.num_rows


def make_repo(root: Path, sources: dict[str, Path], offline_store: dict[str, Any]) -> Path:
    """A repo with the views on their files and a service of all of them, applied; and `views.json`, for who does not read Feast's."""
    import feast  # noqa: PLC0415 - 6 s, and after the warnings are silenced
    from feast import types  # noqa: PLC0415

    root.mkdir()
    settings = {
        "project": PROJECT,
        "provider": "local",
        "registry": "registry.db",
        "offline_store": offline_store,
        "online_store": {"type": "sqlite", "path": "online.db"},
        "entity_key_serialization_version": 3,
    }
    (root / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    told = [
        {
            "path": str(sources[view.name]),
            "key": KEY,
            "features": view.features,
            "ttl_seconds": int(view.ttl.total_seconds()),
        }
        for view in VIEWS
    ]
    (root / "views.json").write_text(json.dumps(told))
    entity = feast.Entity(name="account", join_keys=[KEY], value_type=feast.ValueType.INT64)
    views = [
        feast.FeatureView(
            name=view.name,
            entities=[entity],
            schema=[
                feast.Field(name=KEY, dtype=types.Int64),
                *(feast.Field(name=name, dtype=types.Float64) for name in view.features),
            ],
            source=feast.FileSource(
                path=str(sources[view.name]), timestamp_field="event_ts", created_timestamp_column="created_ts"
            ),
            ttl=view.ttl,
        )
        for view in VIEWS
    ]
    service = feast.FeatureService(name=SERVICE, features=views)
    feast.FeatureStore(repo_path=root).apply([entity, *views, service])
    return root
