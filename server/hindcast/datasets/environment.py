"""What takes part in a build besides data and definitions: library versions, and where the repo is in Git."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from hindcast.datasets.manifest import GitRecord

_ALWAYS = ("hindcast", "feast", "duckdb", "pyarrow", "numpy")
_BY_MODE = {"pandas": ("pandas",), "polars": ("pandas", "polars"), "python": ("pandas",)}
"""What on-demand views are computed with; the answer is handed to all of them by way of pandas or Arrow."""
_GIT_SECONDS = 20
_CHANGED_MAX = 20
"""Names of changed files that a manifest keeps."""


def libraries(*, modes: Iterable[str] = (), has_delta: bool = False) -> Mapping[str, str]:
    """Name -> version of what takes part, Python among it.

    Args:
        modes: of the on-demand views.
        has_delta: whether a source is a Delta table.
    """
    names = [*_ALWAYS, *(name for mode in modes for name in _BY_MODE.get(mode, ("pandas",)))]
    if has_delta:
        names.append("deltalake")
    return {"python": platform.python_version(), **{name: version(name) for name in dict.fromkeys(names)}}


def git_record(repo_root: Path, *, but: Path) -> GitRecord | None:
    """The commit that a repo is at, and which of its files differ from it; None without Git, or outside of a work tree.

    Args:
        but: a folder whose files do not count: our own state.
    """
    commit = _git(repo_root, "rev-parse", "HEAD")
    if commit is None:
        return None
    # Renames would be two names on one line.
    status = _git(repo_root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", ".")
    top = _git(repo_root, "rev-parse", "--show-toplevel")
    if status is None or top is None:
        return None
    paths = [Path(top.strip()) / line[3:] for line in status.split("\0") if line]
    changed = sorted(os.path.relpath(path, repo_root) for path in paths if not path.is_relative_to(but))
    return GitRecord(commit=commit.strip(), is_dirty=bool(changed), changed=tuple(changed[:_CHANGED_MAX]))


def _git(repo_root: Path, *arguments: str) -> str | None:
    # Without optional locks: a build must not be in the way of somebody's commit.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(repo_root), *arguments],  # noqa: S607 - the user's own
            env=environment,
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
