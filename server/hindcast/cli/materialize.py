"""`hindcast materialize` and `hindcast generations`: fill a view's rows anew beside those that are served, switch, switch back."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from hindcast.catalog import Catalog, Repo, load_catalog, read_repo
from hindcast.cli import options
from hindcast.cli.runs import run_json
from hindcast.clock import from_micros, system_clock, uuid7
from hindcast.errors import NotWritable, RepoError
from hindcast.materialize.runs import Kind, Run
from hindcast.online.generations import (
    DEFAULT_KEEP_SECONDS,
    KEEP_SECONDS_MIN,
    GenerationsOf,
    ViewGenerations,
    generations_in,
)
from hindcast.spelling import hint_of


@click.command()
@options.repo
@click.option("--replace", metavar="VIEW", help="Fill this view's rows anew beside the served ones, then serve them.")
@click.option(
    "--start", metavar="TIME", callback=options.time_of, help="With --replace: rows from this time on.  [default: all]"
)
@click.option(
    "--end", metavar="TIME", callback=options.time_of, help="With --replace: rows up to this time.  [default: now]"
)
@click.option(
    "--keep-old-seconds",
    type=click.IntRange(KEEP_SECONDS_MIN, int(options.SECONDS_MAX)),
    default=DEFAULT_KEEP_SECONDS,
    show_default=True,
    help="With --replace: how long the old rows are kept for --rollback.",
)
@click.option("--take-over", is_flag=True, help="With --replace: put an end to another replace of the view.")
@click.option("--rollback", metavar="VIEW", help="Serve the rows from before the last replace again.")
@click.option("--drop-old", metavar="VIEW", help="Delete the rows from before the last replace now.")
@click.option("--abandon", metavar="VIEW", help="Give up a replace whose process has died.")
@options.output
def materialize(
    repo_root: Path,
    replace: str | None,
    start: datetime | None,
    end: datetime | None,
    keep_old_seconds: int,
    take_over: bool,  # noqa: FBT001 - a flag of the command line
    rollback: str | None,
    drop_old: str | None,
    abandon: str | None,
    output: str,
) -> None:
    """Replace the rows of a view as a whole, or go back to those before.

    Serving goes on meanwhile, and no answer mixes old rows and new ones. To add rows to what is there, run `feast materialize`.
    How to backfill: docs/operations.md. `hindcast generations` shows how things stand.
    """
    if sum(view is not None for view in (replace, rollback, drop_old, abandon)) != 1:
        raise click.UsageError("take one of --replace, --rollback, --drop-old and --abandon, with the name of a view")
    if replace is None and (start or end or take_over):
        raise click.UsageError("--start, --end and --take-over go with --replace")
    if start and end and start > end:
        raise click.UsageError("--start is after --end")
    if replace is not None:
        _packed_view(repo_root, replace)
        from hindcast.materialize.plugin import replace_view  # noqa: PLC0415 - Feast, which takes seconds to import
        from hindcast.materialize.progress import summary  # noqa: PLC0415

        run = replace_view(repo_root, replace, start=start, end=end, keep_seconds=keep_old_seconds, take_over=take_over)
        click.echo(json.dumps(run_json(run)) if output == "json" else summary(run))
    elif rollback is not None:
        generation = _roll_back(repo_root, rollback)
        text = f"view {rollback}: generation {generation} is served again"
        click.echo(json.dumps({"view": rollback, "serving": generation}) if output == "json" else text)
    elif drop_old is not None:
        with _generations(repo_root, drop_old) as (generations, stored_name):
            _drop_old(generations, drop_old, stored_name, output)
    elif abandon is not None:
        with _generations(repo_root, abandon) as (generations, stored_name):
            _abandon(generations, abandon, stored_name, output)


@click.command()
@options.repo
@click.option("--view", metavar="NAME", help="Only this view.")
@options.output
def generations(repo_root: Path, view: str | None, output: str) -> None:
    """Show which generation of each view's rows is served, built, kept and being deleted. Times are UTC."""
    repo, catalog = _packed(repo_root)
    if view is not None:
        _stored_name(catalog, view)
    with _connected(repo, catalog) as of_project:
        document = of_project.read()
    shown = {
        name: document.of(found.stored_name)
        for name, found in sorted(catalog.views.items())
        if view in {None, name} and found.name == name
    }
    if output == "json":
        click.echo(json.dumps([_as_json(name, entry) for name, entry in shown.items()]))
    else:
        click.echo(_table(shown))


def _roll_back(repo_root: Path, view: str) -> int:
    from hindcast.materialize.ledger import Ledger, recorded  # noqa: PLC0415 - deltalake, which few commands need

    repo, now = read_repo(repo_root), system_clock()
    with _generations(repo_root, view) as (generations, stored_name):
        run = Run(
            run_id=str(uuid7(now)),
            project=repo.project,
            view=view,
            kind=Kind.ROLLBACK,
            start=None,
            end=None,
            began_at=from_micros(now),
        )
        with recorded(run, Ledger.of_repo(repo), clock=system_clock):
            return generations.roll_back(stored_name)


def _drop_old(generations: GenerationsOf, view: str, stored_name: str, output: str) -> None:
    due_ms = generations.expire_previous(stored_name)
    if due_ms is not None:
        # At most 10 s, for lookups that began before the flip.
        while (left_micros := due_ms * 1000 - system_clock()) > 0:
            time.sleep(left_micros / 1_000_000)
    dropped = [one for one in generations.drop_due() if one.view == stored_name]
    # A server may have been the first to look once they were due.
    lines = [f"view {view}: generation {one.generation} is gone, with {one.rows:,} rows" for one in dropped]
    lines = lines or [f"view {view}: " + ("there are no old rows" if due_ms is None else "the old rows are gone")]
    gone = [{"generation": one.generation, "rows": one.rows} for one in dropped]
    click.echo(json.dumps({"view": view, "dropped": gone}) if output == "json" else "\n".join(lines))


def _abandon(generations: GenerationsOf, view: str, stored_name: str, output: str) -> None:
    building = generations.read().of(stored_name).building
    text, rows = f"view {view}: no replace is under way", 0
    if building is not None:
        generations.abandon(stored_name, building)
        rows = sum(one.rows for one in generations.drop_due() if one.view == stored_name and one.generation == building)
        text = f"view {view}: generation {building} is given up, and {rows:,} rows of it are deleted"
    click.echo(json.dumps({"view": view, "abandoned": building, "rows": rows}) if output == "json" else text)


@contextmanager
def _generations(repo_root: Path, view: str) -> Iterator[tuple[GenerationsOf, str]]:
    """The generations of a repo's project, and the name that a view's rows are stored under."""
    repo, catalog, stored_name = _packed_view(repo_root, view)
    with _connected(repo, catalog) as of_project:
        yield of_project, stored_name


def _packed_view(repo_root: Path, view: str) -> tuple[Repo, Catalog, str]:
    repo, catalog = _packed(repo_root)
    return repo, catalog, _stored_name(catalog, view)


def _packed(repo_root: Path) -> tuple[Repo, Catalog]:
    """A repo on packed rows, and its catalog.

    Raises:
        NotWritable: its rows are Feast's own.
    """
    from hindcast.online.layouts import LayoutName  # noqa: PLC0415 - asyncio and hiredis, which few commands need
    from hindcast.online.store import PACKED_STORE, layout_of  # noqa: PLC0415

    repo = read_repo(repo_root)
    if layout_of(repo) is not LayoutName.PACKED:
        raise NotWritable(
            f"{repo.root}/feature_store.yaml has online_store.type {str(repo.online_store['type'])!r}, whose rows have one "
            f"generation only; change it to {PACKED_STORE}, see docs/migration.md"
        )
    return repo, load_catalog(repo)


def _stored_name(catalog: Catalog, view: str) -> str:
    if view in catalog.unservable:
        raise RepoError(f"view {view!r} has no rows of its own: {catalog.unservable[view]}")
    if view not in catalog.views:
        raise RepoError(
            f"view {view!r} is not in the registry; {hint_of(view, catalog.views, none='run `feast apply` first')}"
        )
    return catalog.views[view].stored_name


@contextmanager
def _connected(repo: Repo, catalog: Catalog) -> Iterator[GenerationsOf]:
    from hindcast.online.store import layout_of, target_of  # noqa: PLC0415

    with generations_in(target_of(repo, layout_of(repo)), project=catalog.project) as of_project:
        yield of_project


def _as_json(view: str, entry: ViewGenerations) -> dict[str, Any]:
    return {
        "view": view,
        "serving": entry.serving,
        "since": _shown(entry.since_ms or None),
        "building": entry.building,
        "builder": entry.builder,
        "previous": entry.previous,
        "previous_until": _shown(entry.previous_until_ms),
        "going": [one.generation for one in entry.going],
    }


def _table(shown: Mapping[str, ViewGenerations]) -> str:
    """A line per view, columns two spaces apart."""
    rows = [("view", "serving", "since", "building", "previous", "kept until", "going")]
    rows += [
        (
            view,
            str(entry.serving),
            _shown(entry.since_ms or None) or "-",
            "-" if entry.building is None else f"{entry.building} (run {entry.builder})",
            "-" if entry.previous is None else str(entry.previous),
            _shown(entry.previous_until_ms) or "-",
            ", ".join(str(one.generation) for one in entry.going) or "-",
        )
        for view, entry in shown.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else from_micros(moment_ms * 1000).isoformat(timespec="seconds")
