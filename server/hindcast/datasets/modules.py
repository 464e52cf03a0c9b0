"""The modules of a Feast repo that functions of on-demand views reach: what they import, and what these import, as far as it is in the repo.

Feast keeps a function, by its source text and as pickled bytes, and not the code that it imports. That is pinned here, by the files' SHA-256.
"""

import ast
import contextlib
import dis
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from textwrap import dedent
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from hindcast.catalog.repo_modules import is_of_repo, place_on_path
from hindcast.datasets.manifest import ModuleRecord

_CONTAINERS = (list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class _File:
    """A module's file in the repo."""

    name: str
    path: Path


class RepoModules:
    """The modules of a repo, as an import finds them in this process."""

    def __init__(self, root: Path) -> None:
        """Let functions import the repo's modules. Those that were pinned and are other ones by now are imported anew.

        Args:
            root: of the repo, resolved.
        """
        self._root = root
        place_on_path(root)
        _forget_changed(root)

    def reached(self, functions: Mapping[str, Any]) -> tuple[ModuleRecord, ...]:
        """The modules that some functions reach, by path. What is loaded after this imports them as they are in the records.

        Args:
            functions: on-demand view -> its function, or its source text where it cannot be loaded.
        """
        views: dict[_File, list[str]] = {}
        for view, function in sorted(functions.items()):
            for file in self._closure(_named_by(function)):
                views.setdefault(file, []).append(view)
        found = {file: digest for file in views if (digest := file_sha256(file.path))}
        if any(_known.get(file.name) != (file.path, digest) for file, digest in found.items()):
            # Whoever imported them before may have had another text of them.
            for file in found:
                sys.modules.pop(file.name, None)
        _known.update({file.name: (file.path, digest) for file, digest in found.items()})
        records = [
            ModuleRecord(path=str(file.path.relative_to(self._root)), sha256=digest, views=tuple(views[file]))
            for file, digest in found.items()
        ]
        return tuple(sorted(records, key=lambda record: record.path))

    def _closure(self, names: Iterator[str]) -> list[_File]:
        """The files of some modules in the repo, and of those that they import."""
        waiting, found = list(names), dict[str, _File]()
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for file in self._files(name):
                if file.name not in found:
                    found[file.name] = file
                    waiting += _imported_by(file)
        return list({file.path: file for file in found.values()}.values())

    def _files(self, name: str) -> Iterator[_File]:
        """The files of a module and of the packages that it is in, as far as they are in the repo."""
        places: list[str] | None = None
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            part = ".".join(parts[:count])
            try:
                spec = PathFinder.find_spec(part, places)
            except (ImportError, ValueError):
                return
            if spec is None:
                return
            if spec.origin is not None and spec.has_location:
                path = Path(spec.origin).resolve()
                if path.suffix == ".py" and is_of_repo(path, self._root):
                    yield _File(part, path)
            if spec.submodule_search_locations is None:
                return
            places = list(spec.submodule_search_locations)


_known: dict[str, tuple[Path, str]] = {}
"""Name of each module that was pinned in this process -> its file, and the SHA-256 that it was imported with at the earliest."""


def _forget_changed(root: Path) -> None:
    """Have the modules that were pinned imported anew where one is another one by now, or another repo's.

    All of them: a module that stayed may hold names of one that did not.
    """
    if any(not path.is_relative_to(root) or file_sha256(path) != digest for path, digest in _known.values()):
        for name in _known:
            sys.modules.pop(name, None)
        _known.clear()


def file_sha256(path: Path) -> str:
    """SHA-256 of a module's file, 64 hex digits; empty where it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _imported_by(file: _File) -> list[str]:
    """The modules that a file's text imports, wherever in it."""
    try:
        tree = ast.parse(file.path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    package = file.name if file.path.name == "__init__.py" else file.name.rpartition(".")[0]
    return list(_imports(tree, package=package))


def _imports(tree: ast.AST, *, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            if module:
                yield module
            # A name can be a module of a package.
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def _named_by(function: Any) -> Iterator[str]:
    """The modules that a function names: what it imports, and where the globals are from that it uses."""
    if isinstance(function, str):
        with contextlib.suppress(SyntaxError, ValueError):
            yield from _imports(ast.parse(dedent(function)), package="")
        return
    waiting, seen = [function], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, _CONTAINERS):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
        else:
            yield from _homes_of(value)
            waiting += _parts_of(value)
            if isinstance(value, FunctionType):
                yield from _imports_of(value.__code__)


def _homes_of(value: Any) -> Iterator[str]:
    """The modules that a value, or its class, was defined in. What Feast pickles with a function has none."""
    for owner in (value, type(value)):
        module = getattr(owner, "__module__", None)
        if isinstance(module, str) and module != "__main__":
            yield module


def _parts_of(value: Any) -> list[Any]:
    """What a function, or what wraps one, holds: the globals that it uses, its defaults and what it closes over."""
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if not isinstance(value, FunctionType):
        return []
    names = {name for code in _codes(value.__code__) for name in code.co_names}
    closed = []
    for cell in value.__closure__ or ():
        with contextlib.suppress(ValueError):  # of a name that has no value yet
            closed.append(cell.cell_contents)
    used = [value.__globals__[name] for name in sorted(names) if name in value.__globals__]
    return [*used, *closed, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _imports_of(code: CodeType) -> Iterator[str]:
    for one in _codes(code):
        module = ""
        for instruction in dis.get_instructions(one):
            if instruction.opname == "IMPORT_NAME":
                module = str(instruction.argval)
                yield module
            elif instruction.opname == "IMPORT_FROM":
                yield f"{module}.{instruction.argval}"
