"""The modules of a Feast repo, for functions of on-demand views that import them while they are loaded or run."""

import contextlib
import importlib
import sys
import sysconfig
from pathlib import Path

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Where libraries are, also where they are below a repo."""

_before: frozenset[str] = frozenset()
"""The modules that a process had before it let any be imported from a repo: its own."""
_placed: str | None = None
"""The repo that was put on the path of imports, in this process."""


def let_import(repo_root: Path) -> None:
    """Let functions import a repo's modules, and read those anew that some have imported before.

    What has been loaded keeps the modules that it holds.
    """
    place_on_path(repo_root)
    root = repo_root.resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name not in _before and file is not None and is_of_repo(Path(file), root):
            del sys.modules[name]


def place_on_path(repo_root: Path) -> None:
    """Let modules be imported from a repo, as Feast's own commands do, and from no other that was put there before.

    Libraries come first: a repo's module of the same name is not seen. Modules that were imported already stay.
    """
    global _before, _placed  # noqa: PLW0603 - a process has one path of imports
    _before = _before or frozenset(sys.modules)
    place = str(repo_root.resolve())
    if _placed is not None and _placed != place:
        with contextlib.suppress(ValueError):
            sys.path.remove(_placed)
        _placed = None
    if place not in sys.path:
        sys.path.append(place)
        _placed = place
    importlib.invalidate_caches()


def is_of_repo(file: Path, root: Path) -> bool:
    """Whether a module's file is a repo's own, and no library's.

    Args:
        root: of the repo, resolved.
    """
    # Asked of every module of a process, nearly all of which are elsewhere.
    if not file.is_relative_to(root):
        return False
    return "site-packages" not in file.parts and not any(file.is_relative_to(place) for place in _INSTALLED)
