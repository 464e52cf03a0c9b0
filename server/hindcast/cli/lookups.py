"""`hindcast lookups`: the log of lookups."""

import click

from hindcast.cli.seal import add_commands


@click.group()
def lookups() -> None:
    """The log of lookups: what was asked of the server, and how it ended."""


add_commands(lookups)
