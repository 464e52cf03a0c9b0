"""A Redis that all property tests of a session share; each example empties it."""

import pytest

from services import run_redis


@pytest.fixture(scope="session")
def shared_redis():
    """Hypothesis wants a fixture that outlives an example."""
    with run_redis() as server:
        yield server
