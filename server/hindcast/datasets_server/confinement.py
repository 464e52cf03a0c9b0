"""Which files of this machine a caller elsewhere may name in a build: the repo's own file sources, and directories that the server was told of."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hindcast.catalog import load_catalog, read_repo
from hindcast.errors import InvalidArgument
from hindcast.offline.frames.query import ConfinedQuery
from hindcast.offline.location import is_pattern, local_path, parts_directory

_FIELD = "spec.text"


def entity_frame(
    text: str, *, repo_root: Path, directories: Sequence[Path], bytes_max: int, look: Callable[[], None]
) -> Path | ConfinedQuery:
    """What a caller's text names: a path that it may read, or SQL that can read nothing else.

    Args:
        text: a path if it ends in `.parquet`, has no space in it, or is a directory that may be read; relative ones begin at the repo. Else SQL.
        directories: absolute; files there may be read besides the sources.
        bytes_max, look: as of `ConfinedQuery`.
    Raises:
        InvalidArgument: it is a path that may not be read. Whether anything is there it does not say.
        RepoError, CatalogError: the repo's sources cannot be told.
    """
    allowed = [*_sources(repo_root), *directories]
    try:
        path = repo_root / text.removeprefix("file://")
        may_read = any(_is_within(path, one) for one in allowed)
        is_path = text.endswith(".parquet") or not any(map(str.isspace, text)) or (may_read and path.is_dir())
    except (OSError, ValueError):
        # SQL text may be longer than a path can be.
        is_path = False
    if not is_path:
        return ConfinedQuery(
            text=text,
            files=[one for one in allowed if not one.is_dir()],
            directories=[*(one for one in allowed if one.is_dir()), *map(parts_directory, allowed)],
            bytes_max=bytes_max,
            look=look,
        )
    if not may_read:
        raise InvalidArgument.at(
            _FIELD,
            f"is the path {text[:200]!r}, which callers may not read here: they may name file sources of the repo, and files in directories "
            "given to the server by --entities-dir. Send the rows themselves, or have the server's owner put the file there",
        )
    return path


def _is_within(path: Path, allowed: Path) -> bool:
    # Links are followed on both sides: one that leads out of a directory leads nowhere.
    return path.resolve().is_relative_to(allowed.resolve())


def _sources(repo_root: Path) -> Sequence[Path]:
    """The file sources of the repo's views on this machine, as they are declared now, but for patterns."""
    declared = dict.fromkeys(
        source.path
        for source in load_catalog(read_repo(repo_root)).sources.values()
        if source.path and not is_pattern(source.path)
    )
    found = (local_path(path, repo_root=repo_root) for path in declared)
    return [path for path in found if path is not None]
