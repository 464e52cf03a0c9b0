"""Fixtures that more than one folder of tests uses."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from commands import end_driver, feast_command
from hindcast.online.embedded import EmbeddedRedis
from services import HindcastServer, RedisServer, run_hindcast, run_redis

ROOT = Path(__file__).parent.parent

_LONG = {"e2e": 0, "faults": 0, "integration": 1, "contract": 1}
"""Folders whose files take the longest, and long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that the processes, which take a file each, end together; else the order stays a random one."""
    items.sort(key=lambda item: _LONG.get(item.path.parent.name, 2))


def pytest_configure() -> None:
    """Hear Ctrl-C, and let all that is started here hear it, also where a script started the tests in its background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are cores: tests wait for servers for a quarter of their time."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


def pytest_sessionfinish() -> None:
    """End what runs the commands."""
    end_driver()


@dataclass(frozen=True)
class DemoRepo:
    """The demo repo in a folder of its own: generated, applied, materialized into its embedded Redis.

    Attributes:
        live: keys with a fresh row in every view (see demo/generate.py).
    """

    root: Path
    live: object


def load_generator() -> ModuleType:
    """The module demo/generate.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("demo_generate", ROOT / "demo" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo_repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRepo]:
    """The demo repo, applied and materialized once for all tests; tests must not change it."""
    root = tmp_path_factory.mktemp("demo") / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", root, ignore=shutil.ignore_patterns("data", ".hindcast", "__pycache__"))
    now = datetime.now(UTC)
    report = load_generator().generate(root, end=now.replace(second=0, microsecond=0))
    embedded = EmbeddedRedis.of_repo(root)
    try:
        feast_command(root, "apply")
        feast_command(root, "materialize-incremental", now.strftime("%Y-%m-%dT%H:%M:%S"))
        yield DemoRepo(root, report.live)
    finally:
        embedded.stop()


@pytest.fixture(scope="session")
def demo_server(demo_repo: DemoRepo) -> Iterator[HindcastServer]:
    """`hindcast serve` with two workers on the demo repo."""
    with run_hindcast(demo_repo.root, "--workers", "2") as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty Redis of the test's own."""
    with run_redis() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis for all tests of a module."""
    with run_redis() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A Redis for tests that empty it first: each, or each example that Hypothesis draws."""
    with run_redis() as server:
        yield server
