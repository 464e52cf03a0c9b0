"""The modules of a Feast repo, for functions of on-demand views that import them while they are loaded or run."""

import importlib
import sys
from pathlib import Path

_before: frozenset[str] = frozenset()
"""The modules that a process had before it let any be imported from a repo: its own."""


def let_import(repo_root: Path) -> None:
    """Let functions import a repo's modules, as Feast's own commands do; those that some have imported before are read anew.

    What has been loaded keeps the modules that it holds. Libraries come first: a repo's module of the same name is not seen.
    """
    global _before  # noqa: PLW0603 - a process has one path of imports
    root = repo_root.resolve()
    if str(root) not in sys.path:
        _before = _before or frozenset(sys.modules)
        sys.path.append(str(root))
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        if name not in _before and _is_of(root, getattr(module, "__file__", None)):
            del sys.modules[name]


def _is_of(root: Path, file: str | None) -> bool:
    if file is None:
        return False
    path = Path(file)
    return path.is_relative_to(root) and "site-packages" not in path.parts
