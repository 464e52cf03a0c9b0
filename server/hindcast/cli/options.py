"""Options that several commands have."""

from pathlib import Path

import click

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
