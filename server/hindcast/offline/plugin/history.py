"""`get_historical_features`: the values of each view as of each row's own time."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.errors import RequestDataNotFoundInEntityDfException
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from hindcast.clock import from_micros
from hindcast.errors import InvalidArgument, SourceError
from hindcast.offline.asof.definition import ViewDefinition
from hindcast.offline.asof.explain import Explanation, explain
from hindcast.offline.asof.origins import Origins
from hindcast.offline.asof.reading import AsOfQuery, AsOfResult, AsOfView, Leaks, Limits, read_as_of
from hindcast.offline.frames.frame import EntityFrame, as_of_micros, entity_frame
from hindcast.offline.frames.spine import SpineView, spine_frame
from hindcast.offline.plugin.jobs import BATCH_ROWS, ArrowJob, Destinations
from hindcast.offline.plugin.sources import pinned, repo_root
from hindcast.offline.plugin.times import given_micros, is_iso
from hindcast.settings import state_dir

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What `get_historical_features` was called with, in Feast's words.

    Attributes:
        entity_df: in any form that `hindcast.offline.frames.frame.entity_frame` knows; None for all keys between `start_date` and
            `end_date`, times as `given_micros` knows them.
        known_at: see `HistoricalJob.known_at`; microseconds or a column.
        keeps_origins: whether the job can say afterwards where each value came from.
    """

    config: RepoConfig
    views: Sequence[FeatureView]
    refs: Sequence[str]
    entity_df: Any
    full_feature_names: bool
    start_date: Any
    end_date: Any
    known_at: int | str | None = None
    is_known_by_as_of: bool = False
    keeps_origins: bool = False

    @property
    def limits(self) -> Limits:
        """Of the repo's offline_store block."""
        store = self.config.offline_store
        return Limits(
            memory_bytes=store.memory_limit_mb * 2**20,
            threads=store.threads,
            spill_dir=state_dir(repo_root(self.config)) / "spill",
        )


def historical_features(asked: Call, *, registry: BaseRegistry, project: str) -> "HistoricalJob":
    """The job for a call; nothing is read yet."""
    on_demand = OnDemandFeatureView.get_requested_odfvs(list(asked.refs), project, registry)
    return HistoricalJob(asked, on_demand)


class HistoricalJob(ArrowJob):
    """A point-in-time read: n rows in, the same n rows out, in their order, each with what was true at its own time.

    Besides what every job of Feast offers: `to_arrow_batches` and `to_parquet` for answers larger than memory, `known_at`, `explain`
    and `leaks`.
    """

    def __init__(self, asked: Call, on_demand: Sequence[OnDemandFeatureView], frame: "HeldFrame | None" = None) -> None:
        super().__init__(
            Destinations.of(asked.config),
            full_feature_names=asked.full_feature_names,
            on_demand_feature_views=on_demand,
        )
        self._asked = asked
        self._on_demand = on_demand
        self._frame = frame or HeldFrame(asked)
        self._found_metadata: RetrievalMetadata | None = None
        self._leaks: Mapping[str, Leaks] | None = None
        self._origins: Mapping[str, Origins] = {}

    @property
    def asked(self) -> Call:
        """What the job was made for."""
        return self._asked

    def known_at(self, time: datetime | date | np.datetime64 | str) -> "HistoricalJob":
        """The same read of what was known by then: rows whose created time is later are not seen.

        Views whose source has no created column are read as before. A row of a source without a created time counts as always known.

        Args:
            time: one for all rows (without a zone: UTC; a date is its midnight), or the name of a column of the entity frame with a time
                for each row; where that is null, all is seen.
        Raises:
            InvalidArgument: it is neither.
        """
        known_at = time if isinstance(time, str) else given_micros("known_at", time)
        asked = replace(self._asked, known_at=known_at, is_known_by_as_of=False)
        return HistoricalJob(asked, self._on_demand, self._frame)

    def explain(self) -> Explanation:
        """What would be read, file by file and in bytes, and the memory that it would take.

        Of the sources footers are read, and no values. The entity frame is needed for it, so its keys and times are read, SQL text is run,
        and what can be read only once is set aside; without an entity frame all keys of the sources are sorted for one.
        """
        return explain(self._query())

    def leaks(self) -> Mapping[str, Leaks]:
        """For each view how many rows take a value that was created after their own time, and by how much at worst.

        The rows are found for it, unless they were before; values are not read.
        """
        if self._leaks is None:
            with self._result():
                pass
        return self._leaks or {}

    def origins(self) -> Mapping[str, Origins]:
        """For each view the source's row that each row's values are of, as the last read found it; empty unless `Call.keeps_origins`."""
        return self._origins

    @property
    def metadata(self) -> RetrievalMetadata:
        """Of a saved data set: its features, the frame's other columns, and the times that it asks about: None where Python has no datetime for one."""
        if self._found_metadata is None:
            frame = self._frame.opened()
            micros, is_there = as_of_micros(frame)
            times = micros if is_there is None else micros[is_there]
            first, last = (int(times.min()), int(times.max())) if len(times) else (None, None)
            self._found_metadata = RetrievalMetadata(
                features=list(self._asked.refs),
                keys=[name for name in frame.schema.names if name != frame.as_of],
                min_event_timestamp=_datetime(first),
                max_event_timestamp=_datetime(last),
            )
        return self._found_metadata

    @contextmanager
    def _opened(self) -> Iterator[pa.RecordBatchReader]:
        with self._result() as result:
            batches = result.batches(BATCH_ROWS)
            with pa.RecordBatchReader.from_batches(result.schema, batches) as reader:
                yield reader

    @contextmanager
    def _result(self) -> Iterator[AsOfResult]:
        with read_as_of(self._query()) as result:
            self._leaks = result.leaks
            self._origins = result.origins
            yield result

    def _query(self) -> AsOfQuery:
        asked = self._asked
        frame = self._frame.opened()
        for view in self._on_demand:
            for name in view.get_request_data_schema():
                if name not in frame.schema.names:
                    raise RequestDataNotFoundInEntityDfException(feature_name=name, feature_view_name=view.name)
        known_at = frame.as_of if asked.is_known_by_as_of else asked.known_at
        if isinstance(known_at, str) and known_at not in frame.schema.names and is_iso(known_at):
            raise InvalidArgument.at(
                "known_at",
                f"{known_at!r} is text, which names a column of the entity frame, and there is none of this name; give a datetime",
            )
        views = self._views()
        self._check_outputs(frame, views)
        return AsOfQuery(
            frame=frame, views=views, known_at=known_at, limits=asked.limits, keeps_origins=asked.keeps_origins
        )

    def _views(self) -> Sequence[AsOfView]:
        """What is read of each view, from its source as it is now."""
        return [as_of_view(self._asked, view) for view in self._asked.views]

    def _check_outputs(self, frame: EntityFrame, views: Sequence[AsOfView]) -> None:
        """Refuse outputs of on-demand views that have the name of another column of the answer, and inputs that have one of the frame's.

        Raises:
            InvalidArgument: one has.
        """
        seen = dict.fromkeys(frame.schema.names, "a column of the entity frame")
        seen |= dict.fromkeys((field for view in views for field in view.fields), "another feature of this read")
        for view in self._on_demand:
            name = view.projection.name_to_use()
            refs = [ref.partition(":") for ref in dict.fromkeys(self._asked.refs)]
            asked = dict.fromkeys(feature for of, _, feature in refs if of in {view.name, name})
            # Feast gives the function its inputs by both of their names, and takes both away afterwards.
            inputs = {
                given
                for projection in view.source_feature_view_projections.values()
                for feature in projection.features
                for given in (feature.name, f"{projection.name}__{feature.name}")
            }
            hidden = next((column for column in frame.schema.names if column in inputs), None)
            if hidden is not None:
                raise InvalidArgument.at(
                    hidden,
                    f"is a column of the entity frame and a feature that the on-demand view {name!r} is computed from; rename the column",
                )
            for feature in asked or [field.name for field in view.features]:
                output = f"{name}__{feature}" if self.full_feature_names else feature
                where = "a feature that it is computed from" if feature in inputs else seen.get(output)
                if where is not None:
                    raise InvalidArgument.at(
                        output, f"of the on-demand view {name!r} has the name of {where}; rename one of them"
                    )
                seen[output] = "another feature of this read"


class HeldFrame:
    """The frame of a job and of those that `known_at` made of it, opened when it is first asked for.

    It is kept while any of them is: what can be read only once need not be read again.
    """

    def __init__(self, asked: Call, frame: EntityFrame | None = None) -> None:
        """Args: frame: one that somebody else has opened, and keeps open."""
        self._asked = asked
        self._turn = Lock()
        self._frame = frame
        self._is_spent = False

    def opened(self) -> EntityFrame:
        """The frame.

        Raises:
            InvalidArgument, SourceError, StoreUnavailable: as `entity_frame` and `spine_frame`.
        """
        with self._turn:
            if self._is_spent:
                raise InvalidArgument.at(
                    "entity_df", "could not be read to its end before, and has no beginning now; make it anew"
                )
            if self._frame is None:
                stack = ExitStack()
                weakref.finalize(self, stack.close)
                # A stream that failed gives the rest of its rows, or none, as if they were all.
                self._is_spent = _is_read_once(self._asked.entity_df)
                views = partial(_spine_views, self._asked)
                self._frame = stack.enter_context(opened_frame(self._asked, views))
                self._is_spent = False
            return self._frame


def _is_read_once(given: Any) -> bool:
    return hasattr(given, "__arrow_c_stream__") and not hasattr(given, "__len__")


def _datetime(micros: int | None) -> datetime | None:
    """The instant; None where it is outside of Python's years."""
    try:
        return None if micros is None else from_micros(micros)
    except OverflowError:
        return None


def _spine_views(asked: Call) -> Sequence[AsOfView]:
    return [as_of_view(asked, view) for view in asked.views]


@contextmanager
def opened_frame(asked: Call, views: Callable[[], Sequence[AsOfView]]) -> Iterator[EntityFrame]:
    """The entity frame of a call while the block runs.

    Args:
        views: asked only where there is no entity frame, for all keys of their sources.
    Raises:
        InvalidArgument, SourceError, StoreUnavailable: as `entity_frame` and `spine_frame`.
    """
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
    with spine_frame(
        [_spine_view(view) for view in views()],
        start_micros=None if asked.start_date is None else given_micros("start_date", asked.start_date),
        end_micros=given_micros("end_date", asked.end_date),
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


def as_of_view(asked: Call, view: FeatureView) -> AsOfView:
    """What is read of a view, its source pinned as it is now.

    Raises:
        SourceError: it has no source that can be read here.
    """
    definition = view_definition(view, refs=asked.refs, full_feature_names=asked.full_feature_names)
    return definition.over(pinned(asked.config, view.batch_source))


def view_definition(view: FeatureView, *, refs: Sequence[str], full_feature_names: bool) -> ViewDefinition:
    """What a view means to a read of some features, whatever its source holds.

    Raises:
        SourceError: it has no source, or one without a time.
    """
    source = view.batch_source
    if source is None:
        raise SourceError(f"the view {view.name!r} has no batch source; give it one, and run `feast apply`")
    if not source.timestamp_field:
        raise SourceError(f"the source {source.name!r} names no timestamp_field; set it, and run `feast apply`")
    projection = view.projection
    prefix = f"{projection.name_to_use()}:"
    shown = f"{projection.name_to_use()}__" if full_feature_names else ""
    features = dict.fromkeys(ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix))
    keys = [key.name for key in view.entity_columns if key.name != DUMMY_ENTITY_ID]
    return ViewDefinition(
        name=projection.name_to_use(),
        keys={key: projection.join_key_map.get(key, key) for key in keys},
        fields={shown + feature: feature for feature in features},
        event_field=source.timestamp_field,
        created_field=source.created_timestamp_column or None,
        field_mapping=dict(source.field_mapping),
        ttl_micros=view.ttl // timedelta(microseconds=1) if view.ttl else 0,
    )
