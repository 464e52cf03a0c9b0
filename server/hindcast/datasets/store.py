"""Where training sets are: `<name>/v<N>/` under one directory, each whole or not there, and never changed once it is.

A set is written aside and moved into place in one step. Of two builders of one name that are done at once the second takes the next
number, and a number is not given twice, even when its set was removed.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hindcast.datasets.manifest import Manifest, decoded, id_of
from hindcast.datasets.sign import SigningKey, sign
from hindcast.durable import make_directory, sync
from hindcast.errors import DatasetError, InvalidArgument, UnknownName
from hindcast.offline.spill import spill_directory
from hindcast.spelling import hint_of

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"v([1-9][0-9]*)")
_REMOVED = re.compile(r"\.v([1-9][0-9]*)\.removed")
_ID_MIN = 6
"""Hex digits of an id that may stand for it."""
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSet:
    """A training set on disk.

    Attributes:
        path: of its directory.
        id: `sha256:` and 64 hex digits.
    """

    name: str
    version: int
    path: Path
    id: str
    manifest: Manifest

    @property
    def ref(self) -> str:
        """`name@vN`."""
        return f"{self.name}@v{self.version}"


class SetStore:
    """The training sets of one directory, which need not be there yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Of all sets, sorted.

        Raises:
            DatasetError: a directory cannot be read.
        """
        return sorted(name for name in _names(self.directory, _NAME) if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """The versions of a set that are there, ascending.

        Raises:
            DatasetError: its directory cannot be read.
        """
        return sorted(_numbers(self.directory / name, _VERSION))

    def find(self, ref: str) -> StoredSet:
        """The set that a text names: `name@vN`, `name` for its newest version, or the beginning of an id, 6 hex digits at least.

        Raises:
            UnknownName: there is none.
            InvalidArgument: several ids begin like this.
            DatasetError: its manifest is damaged.
        """
        name, at, version = ref.partition("@")
        found = self.versions(name) if _NAME.fullmatch(name) else []
        number = next((one for one in reversed(found) if not at or version == f"v{one}"), None)
        if number is not None:
            stored = self._read(name, number)
            # Where it was removed since it was listed, it is looked what there is now.
            return self.find(ref) if stored is None else stored
        if not at and not found:
            prefix = ref.removeprefix("sha256:").lower()
            if len(prefix) >= _ID_MIN and re.fullmatch("[0-9a-f]+", prefix):
                matching = [one for one in self.all() if one.id.removeprefix("sha256:").startswith(prefix)]
                # Two builds of the same are one set under two numbers.
                if len({one.id for one in matching}) > 1:
                    raise InvalidArgument.at("ref", f"{ref!r} is the beginning of several ids; give more of it")
                if matching:
                    return matching[-1]
        there = [f"{name}@v{number}" for number in found] or self.names()
        none = "there are none in this directory yet; build one first, or name the directory that has it"
        raise UnknownName("training set", ref, hint_of(ref, there, none=none))

    def all(self) -> Iterator[StoredSet]:
        """Every version of every set, by name and then by number. What killed removals left is removed."""
        for name in _names(self.directory, _NAME):
            self._sweep(name)
        for name in self.names():
            for version in self.versions(name):
                found = self._read(name, version)
                if found is not None:
                    yield found

    def _read(self, name: str, version: int) -> StoredSet | None:
        """A version; None where another process has removed it at this moment."""
        path = self.directory / name / f"v{version}"
        try:
            manifest_bytes = (path / MANIFEST).read_bytes()
        except OSError as error:
            if version not in self.versions(name):
                return None
            raise DatasetError(f"{path / MANIFEST} cannot be read; check its rights, or build the set anew") from error
        manifest = decoded(manifest_bytes, where=str(path / MANIFEST))
        return StoredSet(name=name, version=version, path=path, id=id_of(manifest_bytes), manifest=manifest)

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """An empty directory to build a set in; it is gone at the end, unless `publish` moved it. What killed builds left is swept.

        Raises:
            InvalidArgument: the name is not one.
            DatasetError: the directory cannot be made, or did not take something within the block.
        """
        check_name(name)
        try:
            make_directory(self.directory / name)
            self._sweep(name)
            with spill_directory(self.directory / name, prefix=".building-") as aside:
                built = aside / "set"
                built.mkdir()
                yield built
        except OSError as error:
            raise DatasetError(
                f"the directory {str(self.directory / name)!r} did not take the training set; check its rights and the space on its disk"
            ) from error

    def publish(self, name: str, built: Path, manifest: Manifest, *, key: SigningKey | None = None) -> StoredSet:
        """Write the manifest beside the rows of a set, and give it the next number; when this returns it survives a power cut.

        Args:
            key: that signs the manifest's id.
        Raises:
            OSError: the disk did not take it; nothing is visible then.
        """
        manifest_bytes = manifest.encoded()
        _write(built / MANIFEST, manifest_bytes)
        if key is not None:
            signature = sign(id_bytes(id_of(manifest_bytes)), key)
            _write(built / SIGNATURE, json.dumps(signature.to_json(), sort_keys=True).encode())
        for folder in [path for path in built.rglob("*") if path.is_dir()]:
            sync(folder)
        sync(built)
        place = self.directory / name
        while True:
            version = max([*_numbers(place, _VERSION), *_numbers(place, _REMOVED)], default=0) + 1
            try:
                built.rename(place / f"v{version}")
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue  # another builder was quicker
            break
        sync(place)
        return StoredSet(
            name=name, version=version, path=place / f"v{version}", id=id_of(manifest_bytes), manifest=manifest
        )

    def remove(self, ref: str) -> StoredSet:
        """Remove one version of a set, whose number is not given again.

        Raises:
            InvalidArgument: the text names no version.
            UnknownName: there is none.
            DatasetError: it cannot be removed.
        """
        if "@" not in ref:
            raise InvalidArgument.at(
                "ref", f"{ref!r} names no version, and only one version is removed at a time; write {ref}@vN"
            )
        found = self.find(ref)
        self._sweep(found.name)
        gone = found.path.with_name(f".v{found.version}.removed")
        try:
            found.path.rename(gone)
        except FileNotFoundError as error:
            raise UnknownName("training set", ref, "another process has removed it at this moment") from error
        except OSError as error:
            raise DatasetError(f"{str(found.path)!r} cannot be removed; check its rights") from error
        try:
            sync(gone.parent)
            _empty(gone)
        except OSError as error:
            raise DatasetError(
                f"{found.ref} is removed, and files of it are left in {str(gone)!r}; check its rights, and `hindcast dataset ls` "
                "removes them"
            ) from error
        return found

    def _sweep(self, name: str) -> None:
        """Remove what killed removals of a set left. Others may do so at the same time, and the one that removes may live yet."""
        for number in _numbers(self.directory / name, _REMOVED):
            # Who may only read the sets lists them all the same.
            with contextlib.suppress(OSError):
                _empty(self.directory / name / f".v{number}.removed")


def _empty(gone: Path) -> None:
    """Remove all that is in the folder of a removed version. The folder stays, so that its number is not given again.

    Raises:
        OSError: something cannot be removed; that somebody else was quicker is none.
    """
    for entry in gone.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir() and not entry.is_symlink():
                _empty(entry)
                entry.rmdir()
            else:
                entry.unlink()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def id_bytes(set_id: str) -> bytes:
    """The 32 bytes of an id."""
    return bytes.fromhex(set_id.removeprefix("sha256:"))


def check_name(name: str) -> None:
    """Refuse what is no name of a training set.

    Raises:
        InvalidArgument: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument.at(
            "name",
            f"is {name[:100]!r}; write up to 100 letters, digits, dots, dashes and underscores, a letter or digit first",
        )


def _names(place: Path, pattern: re.Pattern[str]) -> list[str]:
    """What is in a directory and called so; nothing where there is none.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return [entry.name for entry in place.iterdir() if pattern.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DatasetError(
            f"the directory {str(place)!r} cannot be read ({error.strerror}); check its rights"
        ) from error


def _numbers(place: Path, pattern: re.Pattern[str]) -> list[int]:
    return [int(pattern.sub(r"\1", name)) for name in _names(place, pattern)]
