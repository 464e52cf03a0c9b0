"""Point-in-time reads of views that were recorded, over sources that are pinned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import OnDemandFeatureView

from hindcast.datasets.definitions import Definitions, ViewRecord
from hindcast.offline.asof.definition import ViewDefinition
from hindcast.offline.asof.origins import Origins
from hindcast.offline.asof.reading import AsOfResult, AsOfView, Leaks
from hindcast.offline.frames.frame import EntityFrame
from hindcast.offline.plugin.history import Call, HeldFrame, HistoricalJob
from hindcast.offline.sources.source import DeltaTable, SourceFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCall:
    """What was given for an entity frame: rows in some form, or two times for all keys between them."""

    entity_frame: Any
    start: Any
    end: Any


@dataclass(slots=True)
class Reading:
    """A read under way.

    Attributes:
        schema: of the batches.
        batches: the frame's rows in their order, with the features.
        origins, leaks: by view; empty before the batches have been taken.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    job: HistoricalJob

    @property
    def origins(self) -> Mapping[str, Origins]:
        """Where the values of each view came from."""
        return self.job.origins()

    @property
    def leaks(self) -> Mapping[str, Leaks]:
        """What each view leaks."""
        return self.job.leaks()


class RecordedJob(HistoricalJob):
    """A point-in-time read of such views.

    Args:
        on_found: called when it is known where the values come from.
    """

    def __init__(
        self,
        call: Call,
        on_demand: Sequence[OnDemandFeatureView],
        frame: EntityFrame,
        views: Sequence[AsOfView],
        on_found: Callable[[Mapping[str, Origins]], object] | None,
    ) -> None:
        super().__init__(call, on_demand, HeldFrame(call, frame))
        self._recorded = views
        self._on_found = on_found

    @contextmanager
    def _result(self) -> Iterator[AsOfResult]:
        with super()._result() as result:
            if self._on_found is not None:
                self._on_found(result.origins)
            yield result

    def _views(self) -> Sequence[AsOfView]:
        return self._recorded


def as_of_views(definitions: Definitions, sources: Mapping[str, SourceFiles | DeltaTable]) -> Sequence[AsOfView]:
    """Recorded views over their sources.

    Args:
        sources: by view.
    """
    return [_definition(view).over(sources[view.name]) for view in definitions.views]


def _definition(view: ViewRecord) -> ViewDefinition:
    return ViewDefinition(
        name=view.name,
        keys={key.name: key.column for key in view.keys},
        fields={feature.column: feature.name for feature in view.features},
        event_field=view.source.timestamp_field,
        created_field=view.source.created_timestamp_column or None,
        field_mapping=view.source.field_mapping,
        ttl_micros=view.ttl_micros,
    )
