"""`get_historical_features`: the values of each view as of each row's own time."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.errors import RequestDataNotFoundInEntityDfException
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from hindcast.clock import from_micros, to_micros
from hindcast.errors import InvalidArgument, SourceError
from hindcast.offline.asof.explain import Explanation, explain
from hindcast.offline.asof.reading import AsOfQuery, AsOfResult, AsOfView, Leaks, Limits, read_as_of
from hindcast.offline.frames.frame import EntityFrame, as_of_micros, entity_frame
from hindcast.offline.frames.spine import SpineView, spine_frame
from hindcast.offline.plugin.jobs import BATCH_ROWS, ArrowJob, Destinations
from hindcast.offline.plugin.sources import columns_of, pinned, repo_root
from hindcast.settings import state_dir

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `get_historical_features` was called with, in Feast's words.

    Attributes:
        entity_df: in any form that `hindcast.offline.frame.entity_frame` knows; None for all keys between `start_date` and `end_date`.
        known_at: see `HistoricalJob.known_at`; microseconds or a column.
    """

    config: RepoConfig
    views: Sequence[FeatureView]
    refs: Sequence[str]
    entity_df: Any
    full_feature_names: bool
    start_date: datetime | None
    end_date: datetime | None
    known_at: int | str | None = None
    is_known_by_as_of: bool = False

    @property
    def limits(self) -> Limits:
        """Of the repo's offline_store block."""
        store = self.config.offline_store
        return Limits(
            memory_bytes=store.memory_limit_mb * 2**20,
            threads=store.threads,
            spill_dir=state_dir(repo_root(self.config)) / "spill",
        )


def historical_features(asked: Asked, *, registry: BaseRegistry, project: str) -> "HistoricalJob":
    """The job for a call; nothing is read yet."""
    on_demand = OnDemandFeatureView.get_requested_odfvs(list(asked.refs), project, registry)
    return HistoricalJob(asked, on_demand)


class HistoricalJob(ArrowJob):
    """A point-in-time read: n rows in, the same n rows out, in their order, each with what was true at its own time.

    Besides what every job of Feast offers: `to_arrow_batches` and `to_parquet` for answers larger than memory, `known_at`, `explain`
    and `leaks`.
    """

    def __init__(self, asked: Asked, on_demand: Sequence[OnDemandFeatureView]) -> None:
        super().__init__(
            self._read,
            Destinations.of(asked.config),
            full_feature_names=asked.full_feature_names,
            on_demand_feature_views=on_demand,
        )
        self._asked = asked
        self._on_demand = on_demand
        self._held: EntityFrame | None = None
        self._found_metadata: RetrievalMetadata | None = None
        self._leaks: Mapping[str, Leaks] | None = None

    def known_at(self, time: datetime | str) -> "HistoricalJob":
        """The same read of what was known by then: rows whose created time is later are not seen.

        Views whose source has no created column are read as before. A row of a source without a created time counts as always known.

        Args:
            time: one for all rows (without a zone: UTC), or the name of a column of the entity frame with a time for each row;
                where that is null, all is seen.
        """
        known_at = time if isinstance(time, str) else to_micros(time)
        return HistoricalJob(replace(self._asked, known_at=known_at, is_known_by_as_of=False), self._on_demand)

    def explain(self) -> Explanation:
        """What would be read, file by file and in bytes, and the memory that it would take; reads footers only."""
        return explain(self._query())

    def leaks(self) -> Mapping[str, Leaks]:
        """For each view how many rows take a value that was created after their own time, and by how much at worst.

        The rows are found for it, unless they were before; values are not read.
        """
        if self._leaks is None:
            with self._result():
                pass
        return self._leaks or {}

    @property
    def metadata(self) -> RetrievalMetadata:
        """Of a saved data set: its features, the frame's other columns, and the times that it asks about."""
        if self._found_metadata is None:
            frame = self._frame()
            micros, is_there = as_of_micros(frame)
            times = micros if is_there is None else micros[is_there]
            self._found_metadata = RetrievalMetadata(
                features=list(self._asked.refs),
                keys=[name for name in frame.schema.names if name != frame.as_of],
                min_event_timestamp=from_micros(int(times.min())) if len(times) else None,
                max_event_timestamp=from_micros(int(times.max())) if len(times) else None,
            )
        return self._found_metadata

    @contextmanager
    def _read(self) -> Iterator[pa.RecordBatchReader]:
        with self._result() as result:
            batches = result.batches(BATCH_ROWS)
            with pa.RecordBatchReader.from_batches(result.schema, batches) as reader:
                yield reader

    @contextmanager
    def _result(self) -> Iterator[AsOfResult]:
        with read_as_of(self._query()) as result:
            self._leaks = result.leaks
            yield result

    def _query(self) -> AsOfQuery:
        asked = self._asked
        frame = self._frame()
        for view in self._on_demand:
            for name in view.get_request_data_schema():
                if name not in frame.schema.names:
                    raise RequestDataNotFoundInEntityDfException(feature_name=name, feature_view_name=view.name)
        known_at = frame.as_of if asked.is_known_by_as_of else asked.known_at
        views = [as_of_view(asked, view) for view in asked.views]
        return AsOfQuery(frame=frame, views=views, known_at=known_at, limits=asked.limits)

    def _frame(self) -> EntityFrame:
        """The frame, kept while the job is: what can be read only once need not be read again."""
        if self._held is None:
            stack = ExitStack()
            weakref.finalize(self, stack.close)
            self._held = stack.enter_context(_opened_frame(self._asked))
        return self._held


@contextmanager
def _opened_frame(asked: Asked) -> Iterator[EntityFrame]:
    limits = asked.limits
    if asked.entity_df is not None:
        with entity_frame(
            asked.entity_df,
            spill_dir=limits.spill_dir,
            repo_root=repo_root(asked.config),
            memory_bytes=limits.memory_bytes,
            threads=limits.threads,
        ) as frame:
            yield frame
        return
    if asked.end_date is None:
        raise InvalidArgument.at("end_date", "is not set; give an entity_df, or start_date and end_date for all keys")
    views = [as_of_view(asked, view) for view in asked.views]
    with spine_frame(
        [_spine_view(view) for view in views],
        start_micros=None if asked.start_date is None else to_micros(asked.start_date),
        end_micros=to_micros(asked.end_date),
        memory_bytes=limits.memory_bytes,
        threads=limits.threads,
        spill_dir=limits.spill_dir,
    ) as frame:
        yield frame


def _spine_view(view: AsOfView) -> SpineView:
    keys = {name: column for column, name in view.keys.items()}
    if len(keys) < len(view.keys):
        raise InvalidArgument.at(
            "entity_df", f"is not given, and {view.name!r} has two join keys of one name; give an entity frame"
        )
    return SpineView(source=view.source, keys=keys, event_column=view.event_column)


def as_of_view(asked: Asked, view: FeatureView) -> AsOfView:
    """What is read of a view, its source pinned as it is now.

    Raises:
        SourceError: it has no source that can be read here.
    """
    source = view.batch_source
    if source is None:
        raise SourceError(f"the view {view.name!r} has no batch source; give it one, and run `feast apply`")
    if not source.timestamp_field:
        raise SourceError(f"the source {source.name!r} names no timestamp_field; set it, and run `feast apply`")
    files = pinned(asked.config, source)
    stored = columns_of(files).names
    columns = {field: column for column, field in source.field_mapping.items() if column in stored}
    projection = view.projection
    prefix = f"{projection.name_to_use()}:"
    shown = f"{projection.name_alias or view.name}__" if asked.full_feature_names else ""
    features = dict.fromkeys(ref.removeprefix(prefix) for ref in asked.refs if ref.startswith(prefix))
    keys = [key.name for key in view.entity_columns if key.name != DUMMY_ENTITY_ID]
    created = source.created_timestamp_column
    return AsOfView(
        name=projection.name_to_use(),
        source=files,
        keys={columns.get(key, key): projection.join_key_map.get(key, key) for key in keys},
        fields={shown + feature: columns.get(feature, feature) for feature in features},
        event_column=columns.get(source.timestamp_field, source.timestamp_field),
        created_column=columns.get(created, created) if created else None,
        ttl_micros=view.ttl // timedelta(microseconds=1) if view.ttl else 0,
    )
