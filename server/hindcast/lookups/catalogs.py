"""The catalogs that records name, kept beside them: an old log is read by the definitions of its time.

`catalogs/<digest in hex>.json` in the log's directory, one file per catalog that was ever in force.
"""

import os
from pathlib import Path

import msgspec

from hindcast.catalog import Catalog
from hindcast.durable import make_directory, sync
from hindcast.errors import StoredDataError

_FOLDER = "catalogs"


def keep_catalog(log_directory: Path, catalog: Catalog) -> None:
    """Keep a catalog, synced to the disk; one that is kept already is left as it is.

    Raises:
        OSError: it cannot be written there; what was there is as it was.
    """
    path = _path(log_directory, catalog.version)
    if path.exists():
        return
    make_directory(path.parent)
    written = path.with_suffix(f".{os.getpid()}.new")
    try:
        written.write_bytes(msgspec.json.encode(catalog))
        sync(written)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    sync(path.parent)


def kept_catalog(log_directory: Path, version: str) -> Catalog | None:
    """The catalog of a version; None if it is not kept there.

    Raises:
        StoredDataError: its file is damaged.
    """
    path = _path(log_directory, version)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Catalog)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoredDataError(
            f"{path} is damaged; restore it, or move it away and read only what needs no definitions"
        ) from error


def _path(log_directory: Path, version: str) -> Path:
    return log_directory / _FOLDER / f"{version.removeprefix('sha256:')}.json"
