"""A Feast repo whose on-demand views import a module that lies beside the definitions, which imports another one."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, FileSource, OnDemandFeatureView

from dataset_repo import TRIPS
from offline_repo import offline_repo, trips, write
from services import run_feast

SCALES = "from amounts import FACTOR\n\n\ndef scaled(values):\n    return [one * FACTOR for one in values]\n"
OBJECTS = (Entity, FeatureService, FeatureView, FileSource, OnDemandFeatureView)
AMOUNTS = "FACTOR = 2\n"
DEFINITIONS = """
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from scales.linear import scaled

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
source = FileSource(name="trips", path="data/trips.parquet", timestamp_field="event_timestamp")
view = FeatureView(name="trips", entities=[driver], schema=[Field(name="trips", dtype=Int64)], source=source)
asked = RequestSource(name="asked", schema=[Field(name="amount", dtype=Float64)])


# Feast makes it anew of its text.
@on_demand_feature_view(sources=[asked], schema=[Field(name="inside", dtype=Float64)], mode="pandas")
def by_text(inputs: pd.DataFrame) -> pd.DataFrame:
    from scales.linear import scaled

    return pd.DataFrame({"inside": scaled(inputs["amount"])})


# Of this text it cannot, which names a default that the text does not have, and takes what was pickled.
@on_demand_feature_view(sources=[asked], schema=[Field(name="outside", dtype=Float64)], mode="python")
def by_pickle(inputs: dict[str, list[Any]], _default: Any = scaled) -> dict[str, list[Any]]:
    return {"outside": scaled(inputs["amount"])}


service = FeatureService(name="scaled", features=[view, by_text, by_pickle])
"""


def make_repo(root: Path, *, by_command: bool = False) -> None:
    """Write the source, the modules and the definitions, and apply these.

    Args:
        by_command: by Feast's own command, which takes some seconds.
    """
    write(root / "data/trips.parquet", trips(*TRIPS))
    write_modules(root)
    (root / "scaled_features.py").write_text(DEFINITIONS)
    with offline_repo(root) as store:
        if not by_command:
            with _importable(root):
                defined = vars(importlib.import_module("scaled_features")).values()
                store.apply([one for one in defined if isinstance(one, OBJECTS)])
    if by_command:
        run_feast(root, "apply", "--skip-source-validation")


@contextlib.contextmanager
def _importable(root: Path) -> Iterator[None]:
    """The repo's modules can be imported while the block runs, and are forgotten after it."""
    before = {*sys.modules}
    sys.path.append(str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in {*sys.modules} - before:
            if name.partition(".")[0] in {"scaled_features", "scales", "amounts"}:
                del sys.modules[name]


def write_modules(root: Path, *, scales: str = SCALES, amounts: str = AMOUNTS) -> None:
    """Write both modules. One that is another one has to be of another length: Python knows compiled code by seconds and length."""
    (root / "scales").mkdir(exist_ok=True)
    (root / "scales/__init__.py").write_text("")
    (root / "scales/linear.py").write_text(scales)
    (root / "amounts.py").write_text(amounts)
