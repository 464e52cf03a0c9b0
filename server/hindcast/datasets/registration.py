"""Training sets in Feast's registry, where its CLI, its UI and `get_saved_dataset` find them: what is written of a set, and a registry file that is
replaced whole.

Feast keeps a file registry as one file, reads it once, and later writes back what it read, without a lock. So who registers a set reads the
file anew, changes that one entry, and puts the new file in the place of the old one in one step, unless somebody wrote meanwhile: then it
begins again. What it cannot keep is an entry that is written while a `feast apply` runs, which writes what it had read before.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from google.protobuf.message import DecodeError

from hindcast.clock import from_micros, to_micros
from hindcast.datasets.manifest import Manifest
from hindcast.datasets.pins import shown_path
from hindcast.datasets.store import StoredSet
from hindcast.durable import sync
from hindcast.errors import RepoError
from hindcast.file_lock import locked_within

ID = "hindcast.id"
DIGEST = "hindcast.logical_digest"
PATH = "hindcast.path"
FORM = "hindcast.format"

_TRIES = 100
_WAIT_SECONDS = 0.02
"""`feast apply` writes a registry of some megabytes in less than that."""
_LOCK_SECONDS = 10.0


class NotRegistered(UserWarning):
    """Feast's registry does not have of a training set what it should; the set itself is as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A training set as Feast's registry has it.

    Attributes:
        name: `name@vN`.
        features: `view:feature` each, on-demand ones too; of lookups under the views' names in the service.
        join_keys: columns of the set; of lookups their id and the number of the row.
        service: name of the feature service; empty for a list of features.
        data: where its rows are, relative to the repo where they are in it.
        is_delta: whether that is a Delta table; otherwise a directory of Parquet.
        first, last: the earliest and the latest time that a row asks about.
    """

    name: str
    features: tuple[str, ...]
    join_keys: tuple[str, ...]
    full_feature_names: bool
    service: str
    data: str
    is_delta: bool
    tags: Mapping[str, str]
    first: datetime
    last: datetime


def entry_of(stored: StoredSet, *, root: Path) -> Entry:
    """What is registered of a set.

    Args:
        root: of the repo.
    """
    manifest = stored.manifest
    definitions, lookups = manifest.definitions, manifest.lookups
    first, last = _times(manifest)
    if lookups is None:
        features = [f"{view.name}:{feature.name}" for view in definitions.views for feature in view.features]
        features += [f"{view.name}:{feature.name}" for view in definitions.on_demand for feature in view.features]
    else:
        features = [f"{one.view}:{one.feature}" for one in lookups.features]
    return Entry(
        name=stored.ref,
        features=tuple(features),
        join_keys=tuple(label for label in manifest.labels if label != manifest.frame.as_of),
        full_feature_names=definitions.full_feature_names,
        service=definitions.service if lookups is None else lookups.service,
        data=shown_path(stored.path / "data", root=root),
        is_delta=manifest.delta_version is not None,
        tags={
            ID: stored.id,
            DIGEST: manifest.digest,
            PATH: shown_path(stored.path, root=root),
            FORM: "parquet" if manifest.delta_version is None else "delta",
        },
        first=first,
        last=last,
    )


def _times(manifest: Manifest) -> tuple[datetime, datetime]:
    """The ends of the column with the times that rows ask about; of a set without any, whatever: Feast wants two."""
    found = next((column for column in manifest.statistics if column.name == manifest.frame.as_of), None)
    if found is None or found.minimum is None or found.maximum is None:
        return from_micros(0), from_micros(0)
    first, last = (from_micros(to_micros(datetime.fromisoformat(text))) for text in (found.minimum, found.maximum))
    return first, last


def replace_registry_file(path: Path, change: Callable[[bytes], bytes | None]) -> None:
    """Change a registry file, all of it or nothing, so that what others wrote before stays and who reads it meets no half of it.

    Args:
        change: the new content for what is there now; None to leave it. Is called again where somebody wrote meanwhile, and may raise
            DecodeError.
    Raises:
        RepoError: it is not there, or not whole for some seconds, or others write all the time.
        OSError: the file or its directory may not be written.
    """
    # A link stays one, and what it leads to is replaced.
    place = path.resolve()
    with _locked(place.parent):
        for _ in range(_TRIES):
            before = place.read_bytes()
            # Empty or torn while Feast writes it. An empty registry is a valid one too: nothing must be made of that.
            with contextlib.suppress(DecodeError):
                after = change(before) if before else b""
                if after is None or (after and _replaced(place, before, after)):
                    return
            time.sleep(_WAIT_SECONDS)
    raise RepoError(
        f"the registry {path} is empty or torn, or written all the time; run `feast apply`, and register again"
    )


def _replaced(place: Path, before: bytes, after: bytes) -> bool:
    aside = place.with_name(f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with aside.open("xb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(place, aside)
        if place.read_bytes() != before:
            return False
        aside.replace(place)
        sync(place.parent)
        return True
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One of us at a time, Feast asks nobody; whoever got no lock goes on without: the file is compared all the same."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            locked_within(handle, seconds=_LOCK_SECONDS)
        yield
    finally:
        os.close(handle)
