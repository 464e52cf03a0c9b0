"""What Feast reads from a source as such: all rows of an interval, or the newest of each key."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.repo_config import RepoConfig

from hindcast.errors import SourceError
from hindcast.offline.plugin.jobs import BATCH_ROWS, ArrowJob, Destinations
from hindcast.offline.plugin.sources import as_logs, column_of, columns_but, columns_of, pinned, repo_root
from hindcast.offline.plugin.times import given_micros
from hindcast.offline.sources.instants import MICROS_MAX, MICROS_MIN
from hindcast.offline.sources.rows import RowsQuery, read_rows
from hindcast.offline.sources.source import DeltaTable, SourceFiles
from hindcast.offline.winners.winners import WinnersQuery, read_winners
from hindcast.settings import state_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What Feast asks of a source.

    Attributes:
        keys: join keys; Feast's stand-in for none, if the view has none.
        features: none: all columns of the source, which a transformation may read.
        event, created: the time columns; `created` may be empty.
        start, end: of the interval, closed; a naive time is UTC, None is open.
    """

    source: DataSource
    keys: Sequence[str]
    features: Sequence[str]
    event: str
    created: str | None
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A pull on the source as it is now.

    Attributes:
        columns: name in the result -> column of the source, in the result's order; names are as Feast asked.
    """

    source: SourceFiles | DeltaTable
    columns: Mapping[str, str]
    features: Sequence[str]


class PulledJob(ArrowJob):
    """Rows of a source."""

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[pa.RecordBatchReader]],
        destinations: Destinations,
        *,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        super().__init__(destinations, metadata=metadata)
        self._open = opened

    def _opened(self) -> AbstractContextManager[pa.RecordBatchReader]:
        return self._open()


def pull_latest(config: RepoConfig, pull: Pull) -> RetrievalJob:
    """The newest row per key, by the total order of materialization. Rows with a null in a key are not among them."""

    @contextmanager
    def opened() -> Iterator[pa.RecordBatchReader]:
        found = _find(config, pull)
        query = WinnersQuery(
            source=found.source,
            keys={key: found.columns[key] for key in stored_keys(pull.keys)},
            fields={name: found.columns[name] for name in found.features},
            event_column=found.columns[pull.event],
            created_column=found.columns[pull.created] if pull.created else None,
            start_micros=MICROS_MIN if pull.start is None else given_micros("start_date", pull.start),
            end_micros=MICROS_MAX if pull.end is None else given_micros("end_date", pull.end),
            # No row is ahead: the interval alone decides, and nothing goes to quarantine.
            future_after_micros=MICROS_MAX,
            quarantine=state_dir(repo_root(config)) / "quarantine" / "nothing.parquet",
            memory_limit_bytes=config.offline_store.memory_limit_mb * 2**20,
            threads=config.offline_store.threads,
            spill_dir=state_dir(repo_root(config)) / "spill",
        )
        with read_winners(query, batch_rows=BATCH_ROWS) as winners:
            # The winners' own names for the times can be names of features too, so columns are taken by their place.
            given = [*query.keys, *query.fields]
            places = [
                given.index(name) if name in given else len(given) + (name != pull.event) for name in found.columns
            ]
            schema = pa.schema(
                [(name, winners.schema.types[place]) for name, place in zip(found.columns, places, strict=True)]
            )
            batches = (
                pa.record_batch([batch.column(place) for place in places], schema=schema) for batch in winners.batches()
            )
            with _with_dummy_key(schema, batches, pull) as reader:
                yield reader

    return PulledJob(opened, Destinations.of(config))


def pull_all(config: RepoConfig, pull: Pull) -> RetrievalJob:
    """Every row, in the order of the source."""

    @contextmanager
    def opened() -> Iterator[pa.RecordBatchReader]:
        found = _find(config, pull)
        query = RowsQuery(
            source=found.source,
            columns=found.columns,
            event_column=found.columns[pull.event],
            created_column=found.columns[pull.created] if pull.created else None,
            start_micros=None if pull.start is None else given_micros("start_date", pull.start),
            end_micros=None if pull.end is None else given_micros("end_date", pull.end),
        )
        with read_rows(query) as rows, _with_dummy_key(rows.schema, rows, pull) as reader:
            yield reader

    return PulledJob(opened, Destinations.of(config))


def _find(config: RepoConfig, pull: Pull) -> _Found:
    if not pull.event:
        raise SourceError(f"the source {pull.source.name!r} names no timestamp_field; set it, and run `feast apply`")
    source = pinned(config, pull.source)
    schema = columns_of(source)
    keys = stored_keys(pull.keys)
    times = [pull.event, *([pull.created] if pull.created else [])]
    features = pull.features or columns_but(schema, pull.source, without=[*keys, *times])
    names = dict.fromkeys([*keys, *features, *times])
    columns = {name: column_of(name, schema, pull.source) for name in names}
    return _Found(as_logs(source, event=pull.event, columns=columns.values()), columns, features)


def stored_keys(keys: Sequence[str]) -> list[str]:
    """The join keys that are columns of the source: Feast's stand-in for no key is not."""
    return [key for key in keys if key != DUMMY_ENTITY_ID]


@contextmanager
def _with_dummy_key(schema: pa.Schema, batches: Iterator[pa.RecordBatch], pull: Pull) -> Iterator[pa.RecordBatchReader]:
    """The rows of a view without entities with the key that Feast gives it.

    Feast's engine does not ask for that key, and looks for it. Saved data sets and logs have none: their sources, which Feast makes
    up for the read, name no time.
    """
    is_keyless = not stored_keys(pull.keys) and pull.source.timestamp_field
    if DUMMY_ENTITY_ID not in pull.keys and not is_keyless:
        with pa.RecordBatchReader.from_batches(schema, batches) as reader:
            yield reader
        return
    longer = schema.append(pa.field(DUMMY_ENTITY_ID, pa.string()))
    keyed = (
        pa.record_batch([*batch.columns, pa.repeat(DUMMY_ENTITY_VAL, batch.num_rows)], schema=longer)
        for batch in batches
    )
    with pa.RecordBatchReader.from_batches(longer, keyed) as reader:
        yield reader
