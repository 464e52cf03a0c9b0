"""Java, Spark's settings, and the demo repo under both stores."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from conftest import ROOT, load_generator
from hindcast.online.embedded import EmbeddedRedis
from services import run_feast
from spark.stores import Stores, both, spark_block

# The present, so that what is materialized is not past its TTL.
END = datetime.now(UTC).replace(second=0, microsecond=0)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The `offline_store` block; the session that its reads start is stopped in the end."""
    assert shutil.which("java"), "Spark needs Java 17 or 21: put `java` on PATH"
    yield spark_block(tmp_path_factory.mktemp("spark"))
    from pyspark.sql import SparkSession  # noqa: PLC0415 - where Java is missing, the line above says it first

    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, spark: dict[str, Any]) -> Iterator[Stores]:
    """The demo repo with a tenth of its accounts, applied under the Spark store."""
    root = tmp_path_factory.mktemp("demo") / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", root, ignore=shutil.ignore_patterns("data", ".hindcast", "__pycache__"))
    load_generator().generate(root, accounts=200, end=END)
    stores = both(root, yaml.safe_load((root / "feature_store.yaml").read_text()), spark)
    try:
        run_feast(root, "-f", "spark.yaml", "apply")
        yield stores
    finally:
        EmbeddedRedis.of_repo(root).stop()
