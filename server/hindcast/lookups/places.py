"""Where the tables of sealed lookups stand in a log's directory. Needs neither pyarrow nor deltalake.

tables/<service>/       Delta, a row per entity row
tables/_ad_hoc/         Delta, lists of references, a row per value
tables/_records/        Delta, a row per lookup, with its record
destinations/<service>-<digest>.json   the folders that feature services name for their logs
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hindcast.catalog import Logging
from hindcast.durable import make_directory, sync

RECORDS, AD_HOC = "\0records", "\0ad_hoc"
"""What the two tables that are of no feature service are called here, as no service is."""
_FOLDERS = {RECORDS: "_records", AD_HOC: "_ad_hoc"}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Destination(msgspec.Struct, frozen=True):
    """A folder that a feature service's logs go to."""

    service: str
    path: str


@dataclass(frozen=True, slots=True)
class TablePlaces:
    """The paths of a log's tables."""

    log_directory: Path

    @property
    def root(self) -> Path:
        """Where the Delta tables are."""
        return self.log_directory / "tables"

    def make_root(self) -> None:
        """Make the folder of the tables, for its owner alone: lookups are about people.

        Raises:
            OSError: it cannot be made.
        """
        if not self.root.is_dir():
            make_directory(self.root)
            self.root.chmod(0o700)

    def of(self, name: str) -> Path:
        """The table of a feature service that names no other place, or one of the two others."""
        return self.root / (_FOLDERS.get(name) or folder_of(name))

    def services(self) -> list[Path]:
        """The tables of services that there are."""
        try:
            folders = sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        return [folder for folder in folders if not folder.name.startswith(("_", "."))]

    def remember(self, destination: Destination) -> None:
        """Write down that there are logs in a folder, before there are any."""
        folder = self.log_directory / "destinations"
        path = folder / f"{folder_of(destination.service)}-{digest(destination.path)}.json"
        if path.exists():
            return
        make_directory(folder)
        written = path.with_suffix(f".{os.getpid()}.new")
        written.write_bytes(msgspec.json.encode(destination))
        sync(written)
        written.replace(path)
        sync(folder)

    def destinations(self) -> list[Destination]:
        """The folders that logs of services were written to."""
        paths = sorted((self.log_directory / "destinations").glob("*.json"))
        return [msgspec.json.decode(path.read_bytes(), type=Destination) for path in paths]


def destination_of(logging: Logging | None, *, repo_root: Path | None) -> Path | None:
    """The folder of this machine that a service's logging config names; None where it names none, or a place elsewhere.

    Args:
        repo_root: what relative paths begin at; None where it is not known.
    """
    if logging is None or logging.destination != "file" or not logging.path:
        return None
    if "://" in logging.path and not logging.path.startswith("file://"):
        return None
    path = Path(logging.path.removeprefix("file://"))
    if path.is_absolute():
        return path
    return None if repo_root is None else repo_root / path


def folder_of(service: str) -> str:
    """What the folder of a service is called: its name, or where that is no plain one, what is plain of it and a digest."""
    if _PLAIN_NAME.fullmatch(service):
        return service
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", service)[:60].lstrip("._-")
    return f"{plain or 'service'}-{digest(service)}"


def digest(text: str) -> str:
    """Eight digits that tell names apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
