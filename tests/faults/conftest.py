"""Fixtures that several modules of fault tests use."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.materializing import Driver


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> "Iterator[Driver]":
    """Starts commands without their import, which it does once for all tests."""
    from faults.materializing import run_driver  # noqa: PLC0415 - Feast takes seconds, and most fault tests need none of it

    with run_driver(tmp_path_factory.mktemp("runs")) as driver:
        yield driver
