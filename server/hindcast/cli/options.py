"""Options that several commands have."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hindcast.clock import from_micros, system_clock, to_micros
from hindcast.settings import log_directory_of

SECONDS_MAX = 315_360_000.0
DAYS_MAX = 36_500
THREADS_MAX = 1_024
"""Far beyond any use, and far below what the clock, a lock or DuckDB overflow at."""

_TIME = "write 2026-11-01T12:00:00 (UTC where no zone is given)"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
"""Of a length of time, as `timedelta` calls them."""

repo = click.option(
    "--repo",
    "repo_root",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="this directory",
    help="The Feast repo: the directory that holds feature_store.yaml.",
)
output = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json is for machines."
)
log_directory = click.option(
    "--log-dir",
    "log_directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="As given to `hindcast serve`.  [default: lookups in the state directory, .hindcast in the repo]",
)


def together(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, in the order in which help has them."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorated


class Seconds(click.FloatRange):
    """A number of seconds. Neither NaN, which is in every range of click's, nor longer than ten years, which waits overflow at."""

    name = "seconds"

    def __init__(self, least: float = 0.0, most: float = SECONDS_MAX) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The number."""
        seconds = super().convert(value, parameter, context)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number", parameter, context)
        return seconds


def log_directory_in(repo_root: Path, given: Path | None) -> Path:
    """The log that is read: the one of `--log-dir`, or that of the repo.

    Raises:
        RepoError: none was given, and there is no repo. An empty list of lookups would say that nothing was served.
    """
    from hindcast.catalog import read_repo  # noqa: PLC0415 - protobuf, which no help needs

    if given is not None:
        return given
    return log_directory_of(read_repo(repo_root).root)


def time_of(_context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """An instant; without a zone it is UTC, as Feast reads it: an option's callback."""
    if text is None:
        return None
    try:
        return instant(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time; {_TIME}", param=parameter) from error


def instant(text: str) -> datetime:
    """An aware instant from ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: it is none, or outside the years 1 to 9999 in UTC.
    """
    try:
        return from_micros(to_micros(datetime.fromisoformat(text)))
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside the years 1 to 9999") from error


def instant_of(_context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A time, or how long ago, in microseconds since 1970: an option's callback."""
    if text is None:
        return None
    try:
        if text[-1:] in UNITS and text[:-1].isdecimal():
            return to_micros(from_micros(system_clock()) - timedelta(**{UNITS[text[-1]]: int(text[:-1])}))
        return to_micros(instant(text))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is no time; {_TIME}, or 15m, 2h, 3d for so long ago", param=parameter
        ) from error


since = click.option(
    "--since",
    callback=instant_of,
    metavar="TIME",
    help="Only lookups served then or later: a time (UTC), or 15m, 2h, 3d ago.",
)
until = click.option("--until", callback=instant_of, metavar="TIME", help="Only lookups served before that.")


def check_range(since: int | None, until: int | None) -> None:
    """Refuse a range of times in which nothing can be.

    Raises:
        click.UsageError: it ends before it begins.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")


def not_empty(_context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """A name or an id: an argument's callback. An empty one, of a variable that a script has not set, would fit anything."""
    if text is not None and not text.strip():
        raise click.BadParameter("it is empty", param=parameter)
    return text
