"""Opening Delta tables of this machine beside their writers. Imports deltalake."""

import contextlib
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

_TRIES = 5


def open_delta(path: Path, *, version: int | None = None) -> DeltaTable:
    """A table as it is now, or as it was.

    Its writer may clean its log up while it is opened: entries that were listed are gone then, and a newer checkpoint stands for them, so that
    a table that cannot be opened is looked at anew.

    Raises:
        DeltaError: it is none, is damaged, or has no such version.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(DeltaError):
            return DeltaTable(path, version=version)
    return DeltaTable(path, version=version)
