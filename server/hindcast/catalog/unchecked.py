"""Feast without typeguard's checks, in processes that make no definitions. Imports neither until Feast is."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def leave_out_checks() -> None:
    """Have Feast, once this process imports it, cost 1.3 s of CPU in place of 3.6 s.

    typeguard parses and compiles each of Feast's modules again for every function in it that checks its arguments. Who writes definitions
    wants those checks, and `feast apply` makes them; a process that reads the registry does not. So this is for the start of workers and
    commands, and not for a library, whose caller may define a view next. What is not Feast's stays checked
    (docs/decisions/0037-feast-without-checks.md).
    """
    sys.meta_path.insert(0, _BeforeFeast())


class _BeforeFeast(MetaPathFinder):
    """Finds no module: it is told of Feast's import just before it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == "feast":
            sys.meta_path.remove(self)
            import typeguard  # noqa: PLC0415 - Feast would import it next

            typeguard.typechecked = partial(_checked, typeguard.typechecked)
        return None


def _checked(check: Callable[..., Any], target: Any = None, **options: object) -> Any:
    """What `@typechecked` does, with and without options, but to nothing of Feast's."""
    if target is None:
        return partial(_checked, check, **options)
    return target if target.__module__.partition(".")[0] == "feast" else check(target, **options)
