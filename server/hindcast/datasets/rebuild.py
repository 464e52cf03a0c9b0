"""Making a training set again, whatever its rows are of: the one door to `again` and to `lookup_rebuild`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hindcast.datasets.again import NOW, Again, Rebuild
from hindcast.datasets.inputs import Inputs
from hindcast.datasets.lookup_inputs import LookupInputs
from hindcast.datasets.lookup_rebuild import AgainFromLookups
from hindcast.datasets.making import DATA, made_table
from hindcast.datasets.parts import Part
from hindcast.datasets.progress import OnProgress, silent
from hindcast.datasets.retrieval import Repo
from hindcast.datasets.served_rows import log_connection
from hindcast.datasets.store import StoredSet
from hindcast.offline.spill import spill_directory

__all__ = ["Rebuild", "rebuild"]


def rebuild(
    stored: StoredSet,
    repo: Repo,
    *,
    as_recorded: bool = False,
    keep: Path | None = None,
    on_progress: OnProgress = silent,
) -> Rebuild:
    """Make a set again and compare.

    Args:
        as_recorded: with the manifest's definitions, and of its sources only the files that it names; what the repo defines now does not matter.
        keep: a directory that gets `data` with the rows if they are identical, a Delta table if the set is one, on the disk of the repo's
            spill directory; None to keep nothing.
    Raises:
        DatasetError: the set's own files are gone or damaged, where they are needed.
        HindcastError: as of a build, where it is not an input of the set that is at fault.
    """
    with (
        spill_directory(repo.spill_dir, prefix="rebuild-") as aside,
        _again(stored, repo, aside, as_recorded=as_recorded, on_progress=on_progress) as again,
    ):
        report = again.report()
        if keep is not None and report.identical:
            _keep(again.place_of(NOW), keep, stored)
        return report


@contextmanager
def _again(
    stored: StoredSet, repo: Repo, aside: Path, *, as_recorded: bool, on_progress: OnProgress
) -> Iterator[Again]:
    if stored.manifest.lookups is None:
        yield Again(Inputs(stored, repo, as_recorded=as_recorded), aside, on_progress=on_progress)
        return
    with (
        log_connection(memory_bytes=repo.memory_bytes, threads=repo.threads, spill_dir=repo.spill_dir) as connection,
        ExitStack() as stack,
    ):
        inputs = LookupInputs(stored, repo, as_recorded=as_recorded, connection=connection)
        yield AgainFromLookups(inputs, aside, on_progress=on_progress, stack=stack)


def _keep(place: Path, keep: Path, stored: StoredSet) -> None:
    (place / DATA).rename(keep / DATA)
    if stored.manifest.delta_version is not None:
        with Part(min((keep / DATA).glob("part-*.parquet"))) as part:
            made_table(keep, part.schema, name=stored.name)
