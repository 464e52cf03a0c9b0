"""Fixtures that several modules of fault tests use."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from services import RedisServer, run_redis

if TYPE_CHECKING:
    from faults.materializing import Driver


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> "Iterator[Driver]":
    """Starts commands without their import, which it does once for all tests."""
    from faults.materializing import run_driver  # noqa: PLC0415 - Feast takes seconds, and most fault tests need none of it

    with run_driver(tmp_path_factory.mktemp("runs")) as driver:
        yield driver


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis for all tests of a module."""
    with run_redis() as redis:
        yield redis
