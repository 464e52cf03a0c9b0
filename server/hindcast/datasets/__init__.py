"""The datasets room: training sets that can be made again and compared. Features, an entity frame and a point in time come in, and a
named, versioned folder of Parquet files with its manifest goes out.

`sets` is the door. `retrieval` reads by Feast's definitions, which `definitions` records; `build` and `from_lookups` write `parts`, `making`
gives them a `manifest`, and `store` publishes them; `rebuild` makes them `again` of their `inputs`. `canonical` is the digest of a table's meaning (`column_types` and `column_bytes` of its columns, `hash_tree` over its blocks), and `proofs` prove
single rows by it; `statistics` sums up columns; `sign` signs. `mlflow_dataset` logs a set to MLflow, whose plug-in `mlflow_source` loads it as `proven`; `dvc` writes
stages for DVC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hindcast.datasets.again import Rebuild
    from hindcast.datasets.diff import Diff
    from hindcast.datasets.progress import Progress
    from hindcast.datasets.sets import TrainingSets
    from hindcast.datasets.splits import KeySplits, TimeSplits
    from hindcast.datasets.training_set import TrainingSet
    from hindcast.datasets.verify import Verification

__all__ = ["Diff", "KeySplits", "Progress", "Rebuild", "TimeSplits", "TrainingSet", "TrainingSets", "Verification"]

_MODULES = {
    "Diff": "diff",
    "KeySplits": "splits",
    "Progress": "progress",
    "Rebuild": "again",
    "TimeSplits": "splits",
    "TrainingSet": "training_set",
    "TrainingSets": "sets",
    "Verification": "verify",
}


def __getattr__(name: str) -> Any:
    # Feast, which takes seconds, is imported with the first of these that needs it: who reads a manifest or a digest does not.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
