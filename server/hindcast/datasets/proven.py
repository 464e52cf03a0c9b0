"""A training set for whoever was told its digest somewhere else: loaded only if it is proven to be that one, and made again if its files are gone."""

import atexit
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hindcast.datasets.manifest import FileRecord
from hindcast.datasets.store import MANIFEST, SetStore, StoredSet
from hindcast.datasets.training_set import TrainingSet
from hindcast.datasets.verify import file_trouble, wrong_rows
from hindcast.errors import DatasetError, HindcastError, InvalidArgument, NotProven, UnknownName

if TYPE_CHECKING:
    from hindcast.datasets.rebuild import Rebuild

_kept = ExitStack()
"""Folders of sets that were made again, for as long as this process lives."""
atexit.register(_kept.close)
_made: dict[tuple[Path, str], StoredSet] = {}
"""Where a set was, and its id -> the set in such a folder."""


def proven(ref: str, *, set_id: str, digest: str, directory: Path, repo: Path | None) -> TrainingSet:
    """The set of that id, if its rows have that digest.

    Args:
        ref: `name@vN`, where it was.
        directory: where the sets are.
        repo: the Feast repo, from which rows that are gone are made again; None where it is not known.
    Returns:
        The set as it is stored. Where files of its rows are gone, one that was made again, in a folder that is removed when this process ends.
    Raises:
        DatasetError: the set is not there, or a file was changed, or files are gone and cannot be made again.
        NotProven: what is there, or was made again, has another digest.
    """
    stored = _found(ref, set_id, directory)
    if stored.manifest.digest != digest:
        raise NotProven(
            f"the manifest of {ref} says that its rows have the digest {stored.manifest.digest}, and they were logged with {digest}; one of them was changed"
        )
    gone = [file for file in stored.manifest.files if not (stored.path / file.path).is_file()]
    troubles = [
        trouble
        for file in stored.manifest.files
        if file not in gone and (trouble := file_trouble(stored.path, file)) is not None
    ]
    if troubles:
        raise DatasetError(f"{stored.ref} in {stored.path} is not what was logged: {'; '.join(troubles)}")
    if gone:
        key = stored.path.resolve(), stored.id
        made = _made.get(key)
        if made is None or any(file_trouble(made.path, file) for file in made.manifest.files):
            made = _made[key] = _made_again(stored, repo, gone)
        return TrainingSet(made, repo, directory)
    wrong = next(wrong_rows(stored), None)
    if wrong is not None:
        raise NotProven(f"{stored.ref} in {stored.path} is not what was logged: {wrong}")
    return TrainingSet(stored, repo)


def _found(ref: str, set_id: str, directory: Path) -> StoredSet:
    store = SetStore(directory)
    for name in (ref, set_id):
        try:
            found = store.find(name)
        except (UnknownName, InvalidArgument):
            continue
        # Another set may have the name by now, and the same set another number.
        if found.id == set_id:
            return found
    raise DatasetError(
        f"no training set in {str(directory)!r} has the id {set_id}, by which {ref} was logged: it was removed, its manifest was changed, or it is "
        "elsewhere; say where by load(repo=…) or load(directory=…)"
    )


def _made_again(stored: StoredSet, root: Path | None, gone: list[FileRecord]) -> StoredSet:
    # Feast, which takes seconds.
    from hindcast.datasets.making import DATA  # noqa: PLC0415 - see above
    from hindcast.datasets.pins import file_record  # noqa: PLC0415 - see above
    from hindcast.datasets.rebuild import rebuild  # noqa: PLC0415 - see above
    from hindcast.datasets.retrieval import Repo  # noqa: PLC0415 - see above
    from hindcast.offline.sources.source import FilePin  # noqa: PLC0415 - see above
    from hindcast.offline.spill import spill_directory  # noqa: PLC0415 - see above

    said = f"{gone[0].path} of {stored.ref} in {stored.path} is gone"
    if root is None:
        raise DatasetError(
            f"{said}, and it was not logged from which Feast repo it can be made again; say so by load(repo=…)"
        )
    with ExitStack() as stack:
        try:
            repo = Repo(root)
            place = stack.enter_context(spill_directory(repo.spill_dir, prefix="proven-"))
            report = rebuild(stored, repo, as_recorded=True, keep=place)
        except HindcastError as error:
            raise DatasetError(f"{said}, and cannot be made again: {error}") from error
        if not report.identical:
            raise NotProven(f"{said}, and what its manifest gives now is another table{_why(report)}")
        (place / MANIFEST).write_bytes((stored.path / MANIFEST).read_bytes())
        _kept.push(stack.pop_all())
    if report.files_identical:
        return replace(stored, path=place)
    # Other libraries write the same rows as other bytes.
    files = tuple(file_record(FilePin.of(path), root=place) for path in sorted((place / DATA).glob("part-*.parquet")))
    return replace(stored, path=place, manifest=replace(stored.manifest, files=files))


def _why(report: "Rebuild") -> str:
    """What a set that was made again says of its difference, behind a sentence that tells of it."""
    change = report.first_change
    named = "" if change is None else f"; the first input that changed is {change.kind} {change.name} ({change.what})"
    return f"{named}{report.trouble and '. '}{report.trouble}"
