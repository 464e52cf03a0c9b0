"""What several commands of `hindcast dataset` have: their options, and the sets that they open."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hindcast.catalog import read_repo
from hindcast.cli import options

if TYPE_CHECKING:
    from hindcast.datasets import TrainingSets

directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the sets are.  [default: datasets in the state directory, .hindcast in the repo]",
)
set_options = options.together(options.repo, directory, options.output)
features = click.option(
    "--features",
    multiple=True,
    required=True,
    metavar="SERVICE",
    help="A feature service; or view:feature, as often as needed.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(1, options.THREADS_MAX),
    help="Of DuckDB.  [default: as the repo says, or one per core]",
)


def features_of(given: Sequence[str]) -> str | list[str]:
    """What `--features` says: one name without a colon is that of a service."""
    return given[0] if len(given) == 1 and ":" not in given[0] else list(given)


def opened_sets(
    repo_root: Path, directory: Path | None, *, on_unregistered: Callable[[str], None] | None = None
) -> "TrainingSets":
    """The training sets of a repo, or in a directory of their own."""
    from hindcast.datasets import TrainingSets  # noqa: PLC0415 - Feast, which takes a second

    return TrainingSets(read_repo(repo_root).root, directory, on_unregistered=on_unregistered)


@contextmanager
def changed_sets(repo_root: Path, directory: Path | None) -> Iterator["TrainingSets"]:
    """The training sets, to add to or to take from; what the registry did not take is told when that is done."""
    unregistered: list[str] = []
    yield opened_sets(repo_root, directory, on_unregistered=unregistered.append)
    for text in unregistered:
        click.echo(f"hindcast: {text}", err=True)
