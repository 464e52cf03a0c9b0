"""Two stores over one registry, on a Redis that all contract tests of a session share."""

import pytest

from services import run_redis
from twins import twins


@pytest.fixture(scope="session")
def shared_redis():
    """A Redis for tests that empty it first; one process for all of them."""
    with run_redis() as server:
        yield server


@pytest.fixture
def pair(shared_redis, tmp_path):
    """An empty repo under both stores, on an empty Redis."""
    with twins(tmp_path, shared_redis) as stores:
        yield stores
