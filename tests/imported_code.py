"""A Feast repo whose on-demand view imports a module that lies beside the definitions, which imports another one."""

from pathlib import Path

import pandas as pd
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from dataset_repo import AMOUNT, TRIPS
from offline_repo import DRIVER, offline_repo, trips, write
from twins import close

SCALES = "from amounts import FACTOR\n\n\ndef scaled(values):\n    return values * FACTOR\n"
AMOUNTS = "FACTOR = 2\n"


def make_repo(root: Path) -> None:
    """Write the source and the modules, and apply the definitions."""
    write(root / "data/trips.parquet", trips(*TRIPS))
    write_modules(root)
    with offline_repo(root) as store:
        store.apply(_definitions())


def write_modules(root: Path, *, scales: str = SCALES, amounts: str = AMOUNTS) -> None:
    """Write both modules, with other lengths than before where they are other ones: Python knows compiled code by seconds and length."""
    (root / "scales").mkdir(exist_ok=True)
    (root / "scales/__init__.py").write_text("")
    (root / "scales/linear.py").write_text(scales)
    (root / "amounts.py").write_text(amounts)


def reapply(root: Path) -> None:
    """Apply the definitions again."""
    store = FeatureStore(repo_path=str(root))
    try:
        store.apply(_definitions())
    finally:
        close(store)


def _definitions() -> list:
    source = FileSource(name="trips", path="data/trips.parquet", timestamp_field="event_timestamp")
    view = FeatureView(name="trips", entities=[DRIVER], schema=[Field(name="trips", dtype=Int64)], source=source)
    schema = [Field(name="scaled_amount", dtype=Float64)]

    @on_demand_feature_view(sources=[AMOUNT], schema=schema, mode="pandas")
    def scales_view(inputs: pd.DataFrame) -> pd.DataFrame:
        """The amount, scaled."""
        from scales.linear import scaled

        return pd.DataFrame({"scaled_amount": scaled(inputs["amount"])})

    service = FeatureService(name="scaled", features=[view, scales_view])
    return [DRIVER, source, view, scales_view, service]
