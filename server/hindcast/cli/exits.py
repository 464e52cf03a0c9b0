"""How a command ends: the one table from errors to exit codes, and the one place where an error becomes a line (docs/exit-codes.md)."""

import contextlib
import io
import os
import select
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from hindcast import errors

TRACEBACK_VARIABLE = "HINDCAST_TRACEBACK"
"""Set to anything, a defect of Hindcast is shown with where it came from."""


class Exit(IntEnum):
    """Exit codes of `hindcast`; those of signals are as a shell has them."""

    DONE = 0
    FAILED = 1
    """It failed, or there is no record of what was asked for."""
    USAGE = 2
    """What was given is wrong: the same command fails again."""
    DIFFERS = 3
    """Done, and what was compared or counted is not as it should be."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and SIGINT."""
    OUTPUT_CLOSED = 141
    """Who read the output has gone: 128 and SIGPIPE."""


CODES: Mapping[type[errors.HindcastError], Exit] = {
    errors.RepoError: Exit.USAGE,
    errors.InvalidArgument: Exit.USAGE,
    errors.UnknownName: Exit.USAGE,
    errors.NotWritable: Exit.USAGE,
    errors.CatalogError: Exit.FAILED,
    errors.Overloaded: Exit.FAILED,
    errors.StoreUnavailable: Exit.FAILED,
    errors.LogUnavailable: Exit.FAILED,
    errors.LookupTooLarge: Exit.FAILED,
    errors.StoredDataError: Exit.FAILED,
    errors.SourceError: Exit.FAILED,
    errors.GenerationConflict: Exit.FAILED,
    errors.DeadlineExceeded: Exit.FAILED,
    errors.TransformError: Exit.FAILED,
    errors.LedgerError: Exit.FAILED,
    errors.SealError: Exit.FAILED,
    errors.DatasetError: Exit.FAILED,
    errors.NotProven: Exit.FAILED,
    errors.ServerStartError: Exit.FAILED,
}

_KEPT = frozenset({"receipt", "run", "training set"})
"""Kinds of names that say whether something was kept. That there is none is an answer, where an unknown view is a mistake."""

_OPTIONS = {
    "dir": "--dir",
    "end": "--end",
    "end_date": "--end",
    "entity": "--entity",
    "entity_df": "--entities",
    "entity_frame": "--entities",
    "features": "--features",
    "fill": "--fill",
    "format": "--format",
    "known_at": "--known-at",
    "label_time": "--label-time",
    "labels": "--labels",
    "name": "NAME",
    "on": "--on",
    "out": "--out",
    "pick": "--pick",
    "ref": "REF",
    "service": "--service",
    "sign": "--sign",
    "splits": "--split",
    "stage": "--stage",
    "start": "--start",
    "threads": "--threads",
    "until": "--until",
    "window": "--window",
}
"""What the rooms call an argument -> what the command line calls it."""


_CHAIN_MAX = 20
_PACKAGE = Path(errors.__file__).parent


def exit_code_of(error: errors.HindcastError) -> Exit:
    """The exit code of a command that ends by an error of the tree."""
    if isinstance(error, errors.UnknownName) and error.kind in _KEPT:
        return Exit.FAILED
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), Exit.FAILED)


@contextmanager
def told(*, failed: Exit | None = None) -> Iterator[None]:
    """Whatever goes wrong in the block is one line on standard error and an exit code, and no traceback.

    Args:
        failed: the exit code of what fails, for a command whose 1 says something else; None as the table says.
    Raises:
        click.exceptions.Exit: something went wrong, and was told.
        click.ClickException, click.exceptions.Exit: as the block raised them.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - a defect of ours is told like all else
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            _let_go_of_output()
            raise click.exceptions.Exit(Exit.OUTPUT_CLOSED) from None
        code = _code_of(error)
        with contextlib.suppress(OSError):
            click.echo(f"hindcast: {_words_of(error)}", err=True)
        raise click.exceptions.Exit(failed if failed and code is Exit.FAILED else code) from None


def _code_of(error: BaseException) -> Exit:
    if _is_interrupt(error):
        return Exit.INTERRUPTED
    if isinstance(error, errors.HindcastError):
        return exit_code_of(error)
    return Exit.USAGE if _is_no_utf8(error) else Exit.FAILED


def _words_of(error: BaseException) -> str:
    match error:
        case _ if _is_interrupt(error):
            said = "interrupted"
        case errors.HindcastError():
            said = _sentence(error)
        case PermissionError():
            said = f"{error.filename} cannot be read or written; run this as the server's user"
        case OSError():
            said = f"{'' if error.filename is None else f'{error.filename}: '}{error.strerror or error}"
        case MemoryError():
            said = "there is not enough memory for this; ask for less at once, or give it more"
        case UnicodeEncodeError() if _is_no_utf8(error):
            said = f"{error.object!r} is no UTF-8, and so nothing that there can be"
        case ModuleNotFoundError() if (error.name or _PACKAGE.name).partition(".")[0] != _PACKAGE.name:
            said = f"the Python package {error.name!r} is not installed here; pip install 'hindcast[server]' has what most commands need"
        case _:
            said = _defect(error)
    return said


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, or what others made of it: DuckDB an error of its own, and a room one of ours of that."""
    seen = 0
    while error is not None and seen < _CHAIN_MAX:
        if isinstance(error, KeyboardInterrupt):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _is_no_utf8(error: BaseException) -> bool:
    """Whether it is Python's form of bytes in an argument that are no UTF-8."""
    return isinstance(error, UnicodeEncodeError) and "\udc80" <= error.object[error.start] <= "\udcff"


class Group(click.Group):
    """A group at the top of a command line: whatever its commands raise ends as `told` says."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """As click; the help is printed here."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Marks and arrows, names and values: what the terminal's encoding does not have is written as an escape.
            sys.stdout.reconfigure(errors="backslashreplace")
        with told():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """As click."""
        with told():
            return super().invoke(context)


def _sentence(error: errors.HindcastError) -> str:
    if isinstance(error, errors.InvalidArgument):
        return "; ".join(f"{_OPTIONS.get(one.field, one.field)}: {one.description}" for one in error.violations)
    # A user's own function failed: what it said is for the user to read.
    cause = error.__cause__ if isinstance(error, errors.TransformError) else None
    return f"{error}" if cause is None else f"{error} ({type(cause).__name__}: {cause})"


def _defect(error: BaseException) -> str:
    """A line to report, without what the error said: that may be another program's words, and a password among them."""
    if os.environ.get(TRACEBACK_VARIABLE):
        click.echo("".join(traceback.format_exception(error)), nl=False, err=True)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    at = f" at {Path(ours[-1].filename).relative_to(_PACKAGE)}:{ours[-1].lineno}" if ours else ""
    return f"a defect in Hindcast ({type(error).__name__}{at}); report this line. {TRACEBACK_VARIABLE}=1 shows where it came from"


def _has_no_reader() -> bool:
    """Whether who read standard output has gone; a pipe to a process of ours can break too."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def _let_go_of_output() -> None:
    """Send what is still in the buffer of standard output to nowhere, or Python complains of it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
