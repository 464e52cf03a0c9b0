"""A training set that is there: its rows in every form that people train from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.datasets.manifest import Manifest
from hindcast.datasets.parts import Part, in_groups, read_parts
from hindcast.datasets.splits import COLUMN
from hindcast.datasets.statistics import ColumnStatistics
from hindcast.datasets.store import StoredSet
from hindcast.errors import InvalidArgument, UnknownName

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A version of a training set. Nothing of its rows is read before it is asked for, and nothing of it ever changes.

    Attributes:
        repo: the Feast repo that it was asked of; None where none was.
        directory: where the sets are that it is one of; None for two folders above its own.
    """

    stored: StoredSet
    repo: "Path | None" = None
    directory: "Path | None" = None

    def __repr__(self) -> str:
        return f"TrainingSet({self.ref!r}, {self.rows} rows, {self.id})"

    @property
    def name(self) -> str:
        """Its name."""
        return self.stored.name

    @property
    def version(self) -> int:
        """Its number, from 1."""
        return self.stored.version

    @property
    def ref(self) -> str:
        """`name@vN`."""
        return self.stored.ref

    @property
    def id(self) -> str:
        """`sha256:` and 64 hex digits: of its manifest, and so of all that it was made of."""
        return self.stored.id

    @property
    def path(self) -> "Path":
        """Its directory."""
        return self.stored.path

    @property
    def manifest(self) -> Manifest:
        """What it was made of."""
        return self.stored.manifest

    @property
    def digest(self) -> str:
        """The logical digest of its rows."""
        return self.manifest.digest

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.manifest.rows

    @property
    def schema(self) -> pa.Schema:
        """Of its rows, the column of splits among them.

        Raises:
            DatasetError: its files are gone or damaged.
        """
        with Part(self.path / self.manifest.files[0].path) as part:
            return part.schema

    @property
    def splits(self) -> dict[str, int]:
        """Split -> rows; empty without splits."""
        splits = self.manifest.splits
        return {} if splits is None else dict(zip(splits.names, splits.rows, strict=True))

    @property
    def statistics(self) -> tuple[ColumnStatistics, ...]:
        """What each column holds."""
        return self.manifest.statistics

    def to_arrow(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> pa.Table:
        """All rows, or those of a split, in the order of the entity frame or shuffled.

        Args:
            split: its name; the column of splits is left out then.
            columns: which; None for all.
            shuffle_seed: the same seed gives the same order on every machine; None for the frame's order.
        Raises:
            UnknownName: there is no such split, or column.
            DatasetError: files of the set are gone or damaged.
        """
        schema = self._schema_of(split, columns)
        table = pa.Table.from_batches(self._batches(split, columns), schema)
        return table if shuffle_seed is None else table.take(pa.array(shuffled(table.num_rows, seed=shuffle_seed)))

    def to_pandas(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """What `to_arrow` gives, as a pandas data frame."""
        return self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed).to_pandas()

    def to_polars(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """What `to_arrow` gives, as a Polars data frame.

        Raises:
            ImportError: Polars is not installed.
        """
        import polars as pl  # noqa: PLC0415 - optional

        return pl.from_arrow(self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed))

    def batches(
        self, rows: int = 65_536, *, split: str | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows in batches of `rows` rows but for the last, in the order of the frame; a row group is in memory, never all of them.

        Raises:
            InvalidArgument: `rows` is no number above 0.
            UnknownName, DatasetError: as `to_arrow`.
        """
        if rows < 1:
            raise InvalidArgument.at("rows", f"of a batch are {rows!r}; give a whole number above 0")
        schema = self._schema_of(split, columns)
        return (_joined(pieces, schema) for pieces in in_groups(self._batches(split, columns), rows))

    def to_reader(
        self, rows: int = 65_536, *, split: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """What `batches` gives, as Arrow's own stream, which has a schema where there are no rows too.

        Raises:
            InvalidArgument, UnknownName, DatasetError: as `batches`.
        """
        batches = self.batches(rows, split=split, columns=columns)
        return pa.RecordBatchReader.from_batches(self._schema_of(split, columns), batches)

    def to_torch(
        self,
        *,
        label: str | None = None,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        shuffle_seed: int | None = None,
    ) -> Any:
        """The numbers of the rows as a `torch.utils.data.TensorDataset`: float32 features, and the label beside them if one is named.

        Args:
            columns: of numbers or booleans; None for all such columns but the label. A null is NaN.
        Raises:
            ImportError: PyTorch is not installed.
            InvalidArgument: a column holds no numbers.
            UnknownName, DatasetError: as `to_arrow`.
        """
        import torch  # noqa: PLC0415 - optional, and large

        known = self._schema_of(split, None)
        names = list(columns) if columns is not None else [field.name for field in known if _is_number(field.type)]
        features = [name for name in names if name != label]
        wanted = [*features, *([label] if label is not None else [])]
        table = self.to_arrow(split=split, columns=wanted, shuffle_seed=shuffle_seed)
        unfit = next((field for field in table.schema if not _is_number(field.type)), None)
        if unfit is not None:
            raise InvalidArgument.at(
                unfit.name, f"is {unfit.type}, and tensors hold numbers; leave it out, or encode it first"
            )
        matrix = np.empty((table.num_rows, len(features)), np.float32)
        for at, name in enumerate(features):
            matrix[:, at] = _floats(table.column(name))
        tensors = [torch.from_numpy(matrix)]
        if label is not None:
            tensors.append(torch.from_numpy(_floats(table.column(label)).astype(np.float32)))
        return torch.utils.data.TensorDataset(*tensors)

    def log_to_mlflow(self, *, context: str | None = "training", tags: Mapping[str, str] | None = None) -> None:
        """Log the set as an input of MLflow's active run (or of one that MLflow begins), with its `id`, `ref` and `logical_digest` as tags.

        `mlflow.data.get_source(…).load()` gives it back later, in another process too, if it proves to be the same.

        Args:
            context: what it is used for in the run, as of `mlflow.log_input`.
            tags: further ones, of the input.
        Raises:
            ImportError: MLflow is not installed.
            DatasetError: files of the set are gone or damaged.
        """
        try:
            from hindcast.datasets.mlflow_dataset import log_input  # noqa: PLC0415 - optional
        except ModuleNotFoundError as error:
            raise ImportError("logging to MLflow needs it: pip install 'hindcast[mlflow]'") from error
        log_input(self, context=context, tags=tags)

    def _schema_of(self, split: str | None, columns: Sequence[str] | None) -> pa.Schema:
        if split is not None and split not in self.splits:
            known = f"there are {', '.join(self.splits)}" if self.splits else f"{self.ref} has no splits"
            raise UnknownName("split", split, known)
        schema = self.schema
        for name in columns or ():
            if name not in schema.names:
                raise UnknownName("column", name, f"{self.ref} has {', '.join(schema.names)}")
        if columns is not None:
            return pa.schema([schema.field(name) for name in columns])
        if split is not None:
            return schema.remove(schema.get_field_index(COLUMN))
        return schema

    def _batches(self, split: str | None, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self._schema_of(split, columns)
        read = schema.names if split is None or COLUMN in schema.names else [*schema.names, COLUMN]
        for table in read_parts(self.path, self.manifest.files, columns=read):
            chosen = table if split is None else table.filter(pc.equal(table.column(COLUMN), split))
            yield from chosen.select(schema.names).to_batches()


def shuffled(rows: int, *, seed: int) -> np.ndarray:
    """The numbers from 0 to `rows` in an order that depends on the seed alone, on every machine and in every version of NumPy.

    Each number is sorted by 64 bits of a SHA-256 keyed by the seed, taken four at a time.
    """
    count = -(-rows // 4)
    key = hashlib.sha256(b"hindcast shuffle %d" % seed)
    blocks = []
    for number in range(count):
        block = key.copy()
        block.update(number.to_bytes(8, "big"))
        blocks.append(block.digest())
    words = np.frombuffer(b"".join(blocks), dtype=">u8")[:rows]
    order: np.ndarray = np.argsort(words, kind="stable")
    return order


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(list(batches), schema).unify_dictionaries().combine_chunks()
    return pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=schema)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    floats: np.ndarray = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return floats
