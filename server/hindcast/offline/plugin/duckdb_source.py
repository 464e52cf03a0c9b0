"""A table or view of a DuckDB database file as a Feast data source."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type
from feast.value_type import ValueType

from hindcast.errors import SourceError
from hindcast.offline.location import local_path
from hindcast.offline.sources.database import DatabaseTable, ExportLimits, database_schema, exported
from hindcast.offline.sources.source import SourceFiles
from hindcast.settings import state_dir

_MEMORY_MB = 2_048
"""As `AsOfOfflineStoreConfig.memory_limit_mb`, for repos with another offline store."""

_JSON = "extension<arrow.json>"


class DuckDBSource(DataSource):
    """Rows of a table or view of a DuckDB database file, read by `AsOfOfflineStore` (docs/training.md, "Sources"). Nothing is written to it."""

    def __init__(
        self,
        *,
        name: str,
        path: str,
        table: str,
        timestamp_field: str,
        created_timestamp_column: str = "",
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
    ) -> None:
        """A source.

        Args:
            path: of the database file; a relative one begins at the repo.
            table: a table or view of the schema `main`, or `schema.table`.
            timestamp_field, created_timestamp_column, field_mapping: as of Feast's FileSource.
        """
        super().__init__(
            name=name,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.path = path
        self.table = table

    __hash__ = DataSource.__hash__  # Python takes it from a class that says what is equal

    def __eq__(self, other: object) -> bool:
        """Whether both are the same table under the same definition."""
        return (
            isinstance(other, DuckDBSource)
            and super().__eq__(other)
            and (self.path, self.table) == (other.path, other.table)
        )

    def source_type(self) -> DataSourceProto.SourceType.ValueType:
        """One that Feast finds by the name of its class."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> "DuckDBSource":
        """The source that a registry holds."""
        place = json.loads(data_source.custom_options.configuration)
        return DuckDBSource(
            name=data_source.name,
            path=place["path"],
            table=place["table"],
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> DataSourceProto:
        place = json.dumps({"path": self.path, "table": self.table})
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{DuckDBSource.__module__}.{DuckDBSource.__name__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=place.encode()),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Look whether the table is there, with its time columns.

        Raises:
            SourceError: it is not, or cannot be read now.
        """
        names = [name for name, _ in self.get_table_column_names_and_types(config)]
        for name in filter(None, (self.timestamp_field, self.created_timestamp_column)):
            if name not in names and not any(self.field_mapping.get(column) == name for column in names):
                raise SourceError(
                    f"the source {self.name!r} has no column {name!r}, only {names}; check its timestamp columns"
                )

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Its columns and their Arrow types as text.

        Raises:
            SourceError: it cannot be read.
        """
        # Feast knows the lists of Arrow, and those of Parquet only in part.
        return [
            (field.name, str(field.type).replace("list<element: ", "list<item: "))
            for field in database_schema(self._place(config), limits=_limits(config))
        ]

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Feast's type for an Arrow type."""
        return _value_type

    def pinned(self, config: RepoConfig) -> SourceFiles:
        """Its rows as they are now: see `hindcast.offline.sources.database.exported`."""
        return exported(self._place(config), limits=_limits(config))

    def _place(self, config: RepoConfig) -> DatabaseTable:
        path = local_path(self.path, repo_root=Path(config.repo_path or "."))
        if path is None:
            raise SourceError(
                f"the path {self.path!r} of the source {self.name!r} is not on this machine; copy the database here"
            )
        return DatabaseTable(path=path.absolute(), table=self.table, shown=self.path)


def _limits(config: RepoConfig) -> ExportLimits:
    store: Any = config.offline_store
    return ExportLimits(
        memory_bytes=getattr(store, "memory_limit_mb", _MEMORY_MB) * 2**20,
        threads=getattr(store, "threads", None),
        state=state_dir(Path(config.repo_path or ".")),
    )


def _value_type(arrow_type: str) -> ValueType:
    if arrow_type == _JSON:
        return ValueType.JSON
    try:
        return pa_to_feast_value_type(arrow_type)
    except KeyError as error:
        raise SourceError(
            f"Feast knows no type for {arrow_type}; declare the schema of the view, or cast the column in a view of the database"
        ) from error
