"""Directories for what does not fit into memory."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hindcast.errors import StoreUnavailable


@contextmanager
def spill_directory(spill_dir: Path, *, prefix: str) -> Iterator[Path]:
    """A directory of its own in `spill_dir`, which is made if it is not there; at the end it is removed with all that is in it.

    Raises:
        StoreUnavailable: it cannot be made.
    """
    try:
        spill_dir.mkdir(parents=True, exist_ok=True)
        spilled = tempfile.mkdtemp(prefix=prefix, dir=spill_dir)
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {str(spill_dir)!r} for what does not fit into memory cannot be used; check its rights and its disk"
        ) from error
    try:
        yield Path(spilled)
    finally:
        shutil.rmtree(spilled, ignore_errors=True)
