"""A training set as an input of an MLflow run."""

import json
from collections.abc import Mapping
from typing import Any

import mlflow
import pyarrow as pa
from mlflow.data.dataset import Dataset
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema

from hindcast.datasets.mlflow_source import HindcastDatasetSource
from hindcast.datasets.training_set import TrainingSet

_DIGEST_MAX = 36
"""Characters of a dataset's digest in MLflow's tables (`mlflow.utils.validation.MAX_DATASET_DIGEST_SIZE`)."""


class TrainingSetDataset(Dataset):
    """A training set in MLflow's own terms. Its name is `name@vN`, its digest the first 36 hex digits of the logical one (144 of 256 bits)."""

    def __init__(self, made: TrainingSet) -> None:
        self._made = made
        super().__init__(HindcastDatasetSource.of(made), name=made.ref)

    def _compute_digest(self) -> str:
        return self._made.digest.removeprefix("sha256:")[:_DIGEST_MAX]

    @property
    def schema(self) -> Schema:
        """The columns, as MLflow's types name them; those without a null are required."""
        nulls = {column.name: column.nulls for column in self._made.manifest.statistics}
        return Schema(
            [
                ColSpec(_mlflow_type(field.type), name=field.name, required=not nulls.get(field.name, 1))
                for field in self._made.schema
            ]
        )

    @property
    def profile(self) -> dict[str, Any]:
        """Rows and cells, as MLflow's own datasets count them; rows of each split, and rows that leak by view."""
        manifest = self._made.manifest
        return {
            "num_rows": manifest.rows,
            "num_elements": manifest.rows * len(manifest.columns),
            "splits": self._made.splits,
            "leaks": {leak.view: leak.rows for leak in manifest.leaks},
        }

    def to_dict(self) -> dict[str, str]:
        """What MLflow keeps, in the form of its own datasets."""
        return {
            **super().to_dict(),
            "schema": json.dumps({"mlflow_colspec": self.schema.to_dict()}),
            "profile": json.dumps(self.profile),
        }


def log_input(made: TrainingSet, *, context: str | None, tags: Mapping[str, str] | None) -> None:
    """Log a set as an input of the active run, and its names as tags of that input and of the run.

    MLflow finds runs by their own tags alone, and keeps a dataset once for each experiment, name and digest: the input's tags are what says
    which set this run used.
    """
    names = {"id": made.id, "ref": made.ref, "logical_digest": made.digest}
    mlflow.log_input(
        TrainingSetDataset(made),
        context=context,
        tags={**(tags or {}), **{f"hindcast.{name}": text for name, text in names.items()}},
    )
    place = "hindcast" if context is None else f"hindcast.{context}"
    mlflow.set_tags({f"{place}.{name}": text for name, text in names.items()})


def _mlflow_type(kind: pa.DataType) -> DataType | Array | Object | Map | AnyType:
    """MLflow's type for values of an Arrow type. It has no decimals and no unsigned numbers of 64 bits: they are numbers that a double says
    nearly, and times of day and durations are text.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return _mlflow_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return Array(_mlflow_type(kind.value_type))
    if types.is_struct(kind):
        return Object([Property(field.name, _mlflow_type(field.type), required=False) for field in kind])
    if types.is_map(kind) and types.is_string(kind.key_type):
        return Map(_mlflow_type(kind.item_type))
    if types.is_null(kind):
        return AnyType()
    return next((found for is_kind, found in _SCALARS if is_kind(kind)), DataType.string)


def _is_integer(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and kind not in {pa.int64(), pa.uint32(), pa.uint64()})


_SCALARS = (
    (pa.types.is_boolean, DataType.boolean),
    (_is_integer, DataType.integer),
    (lambda kind: kind in {pa.int64(), pa.uint32()}, DataType.long),
    (lambda kind: pa.types.is_float16(kind) or pa.types.is_float32(kind), DataType.float),
    (lambda kind: pa.types.is_float64(kind) or pa.types.is_decimal(kind) or kind == pa.uint64(), DataType.double),
    (lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind), DataType.datetime),
    (
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind),
        DataType.binary,
    ),
)
