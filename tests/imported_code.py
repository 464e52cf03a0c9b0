"""A Feast repo whose on-demand views import a module that lies beside the definitions, which imports another one."""

from pathlib import Path

from dataset_repo import TRIPS
from offline_repo import offline_repo, trips, write
from services import run_feast

SCALES = "from amounts import FACTOR\n\n\ndef scaled(values):\n    return [one * FACTOR for one in values]\n"
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


def make_repo(root: Path) -> None:
    """Write the source, the modules and the definitions, and apply these by Feast's own command."""
    write(root / "data/trips.parquet", trips(*TRIPS))
    write_modules(root)
    (root / "definitions.py").write_text(DEFINITIONS)
    with offline_repo(root):
        pass
    run_feast(root, "apply", "--skip-source-validation")


def write_modules(root: Path, *, scales: str = SCALES, amounts: str = AMOUNTS) -> None:
    """Write both modules. One that is another one has to be of another length: Python knows compiled code by seconds and length."""
    (root / "scales").mkdir(exist_ok=True)
    (root / "scales/__init__.py").write_text("")
    (root / "scales/linear.py").write_text(scales)
    (root / "amounts.py").write_text(amounts)
