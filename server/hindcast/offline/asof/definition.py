"""What a view means to a point-in-time read, apart from what its source holds at the moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from hindcast.offline.asof.reading import AsOfView
from hindcast.offline.sources.scan import source_schema
from hindcast.offline.sources.source import DeltaTable, SourceFiles, files_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewDefinition:
    """A view by the names that its definition uses; which columns these are depends on the source.

    Attributes:
        name: what messages call it.
        keys: join key -> column of the frame.
        fields: column of the answer -> feature.
        event_field, created_field: the source's times; the second is None where it has none.
        field_mapping: column of the source -> the name that the view has for it. One that the source lacks maps nothing.
        ttl_micros: 0 for none.
    """

    name: str
    keys: Mapping[str, str]
    fields: Mapping[str, str]
    event_field: str
    created_field: str | None
    field_mapping: Mapping[str, str]
    ttl_micros: int

    def over(self, source: SourceFiles | DeltaTable) -> AsOfView:
        """The view over the rows of a source.

        Raises:
            SourceError: its columns cannot be read.
        """
        stored = source_schema(files_of(source)).names
        columns = {field: column for column, field in self.field_mapping.items() if column in stored}
        return AsOfView(
            name=self.name,
            source=source,
            keys={columns.get(key, key): column for key, column in self.keys.items()},
            fields={shown: columns.get(feature, feature) for shown, feature in self.fields.items()},
            event_column=columns.get(self.event_field, self.event_field),
            created_column=columns.get(self.created_field, self.created_field) if self.created_field else None,
            ttl_micros=self.ttl_micros,
        )
