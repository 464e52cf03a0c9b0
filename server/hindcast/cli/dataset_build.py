"""`hindcast dataset build` and `from-lookups`: the two ways to a new version of a training set."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hindcast.cli import dataset_options, options
from hindcast.cli.dataset_json import set_json
from hindcast.cli.dataset_options import changed_sets, features_of, set_options
from hindcast.cli.dataset_progress import PhaseBars
from hindcast.cli.dataset_text import built_text
from hindcast.clock import from_micros

if TYPE_CHECKING:
    from hindcast.datasets import KeySplits, TimeSplits, TrainingSet


def _known_at_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | str | None:
    """A time where it is one, or else the name of a column."""
    if text is None:
        return None
    try:
        return options.instant(text)
    except ValueError:
        return text


def _length_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """How long: a number, 0 or more, with s, m, h or d behind it."""
    if text is None:
        return None
    try:
        length = timedelta(**{options.UNITS[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no length; write 90s, 15m, 2h or 7d") from error
    if length < timedelta(0):
        raise click.BadParameter(f"{text!r} is before the lookup; write 90s, 15m, 2h or 7d")
    return length


def _pairs_of(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> list[tuple[str, str]]:
    """NAME or NAME=VALUE each."""
    return [(text.partition("=")[0], text.partition("=")[2]) for text in texts]


_split_options = options.together(
    click.option(
        "--split-at",
        callback=_pairs_of,
        multiple=True,
        metavar="NAME=TIME",
        help="A split by time, and where it ends; the last one is only named. As often as needed, in their order.",
    ),
    click.option(
        "--split",
        callback=_pairs_of,
        multiple=True,
        metavar="NAME=PARTS",
        help="A split by key, and its share in whole parts, such as train=80. As often as needed.",
    ),
    click.option("--split-by", multiple=True, metavar="COLUMN", help="The key that --split hashes."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of --split."),
)
_build_options = options.together(
    set_options,
    click.option(
        "--sign", type=click.Path(path_type=Path), metavar="KEY", help="Sign the set by the Ed25519 key in this file."
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(["parquet", "delta"]),
        default="parquet",
        show_default=True,
        help="delta: the rows are a Delta table too, in `data` of the set's directory.",
    ),
    click.option(
        "--register/--no-register",
        default=True,
        show_default=True,
        help="List it in Feast's registry as a saved data set.",
    ),
    click.option(
        "--git/--no-git",
        default=True,
        show_default=True,
        help="Write down the repo's commit; without it a commit changes nothing.",
    ),
    dataset_options.threads,
)
"""How a set is built, and where it is told of, whatever its rows are of."""


@click.command()
@click.argument("name")
@dataset_options.features
@click.option("--entities", metavar="FILE", help="The entity frame: a Parquet file, a directory of them, or SQL text.")
@click.option(
    "--start", callback=options.time_of, metavar="TIME", help="With --end and without --entities: all keys between."
)
@click.option("--end", callback=options.time_of, metavar="TIME", help="See --start.")
@click.option(
    "--known-at",
    callback=_known_at_of,
    metavar="TIME",
    help="What could be known: up to a time, a column of the frame with a time per row, or `own` for each row's own time.  [default: now]",
)
@_split_options
@click.option("--full-feature-names", is_flag=True, help="Columns are called view__feature.")
@click.option("--snapshot", is_flag=True, help="Keep the sources' rows that answered with the set.")
@click.option(
    "--hash-sources",
    is_flag=True,
    help="Read all source files for their digests, also those that an earlier build read and that were not touched since.",
)
@_build_options
def build(
    name: str,
    features: tuple[str, ...],
    entities: str | None,
    start: datetime | None,
    end: datetime | None,
    known_at: datetime | str | None,
    split_at: list[tuple[str, str]],
    split: list[tuple[str, str]],
    split_by: tuple[str, ...],
    seed: int,
    full_feature_names: bool,  # noqa: FBT001 - click's
    snapshot: bool,  # noqa: FBT001
    sign: Path | None,
    form: str,
    register: bool,  # noqa: FBT001
    git: bool,  # noqa: FBT001
    hash_sources: bool,  # noqa: FBT001
    threads: int | None,
    repo_root: Path,
    directory: Path | None,
    output: str,
) -> None:
    """Build the next version of the training set NAME."""
    if entities is None and end is None:
        raise click.UsageError("give --entities, or --end (and --start) for all keys between two times")
    if entities is not None and (start or end):
        raise click.UsageError("--entities says which rows there are, and so do --start and --end; give one of them")
    if start and end and start > end:
        raise click.UsageError("--start is after --end")
    splits = _splits(split_at, split, split_by, seed)
    with changed_sets(repo_root, directory) as sets, PhaseBars() as bars:
        made = sets.build(
            name,
            features=features_of(features),
            entity_frame=entities,
            start=start,
            end=end,
            known_at=known_at,
            splits=splits,
            full_feature_names=full_feature_names,
            snapshot=snapshot,
            sign=sign,
            git=git,
            hash_sources=hash_sources,
            format=form,
            threads=threads,
            register=register,
            on_progress=bars,
        )
    _say_built(made, output)


@click.command("from-lookups")
@click.argument("name")
@click.option("--service", required=True, metavar="NAME", help="The feature service whose lookups it is made of.")
@options.since
@options.until
@click.option(
    "--labels", required=True, metavar="FILE", help="The labels: a Parquet file, a directory of them, or SQL text."
)
@click.option(
    "--on",
    multiple=True,
    metavar="COLUMN",
    help="What labels are joined by: lookup_id, request_id, or with --window columns of keys.  [default: the id that the labels have]",
)
@click.option(
    "--window",
    callback=_length_of,
    metavar="LENGTH",
    help="Labels by keys: how long after its lookup a label may be, such as 7d.",
)
@click.option(
    "--label-time", metavar="COLUMN", help="The time of each label.  [default: event_timestamp, or the only one]"
)
@click.option(
    "--pick",
    type=click.Choice(["first", "last"]),
    help="Of several labels.  [default: by keys the first, by an id the last]",
)
@click.option("--keep-unlabeled", is_flag=True, help="Keep rows that have no label, with nulls.")
@click.option(
    "--features", multiple=True, metavar="VIEW:FEATURE", help="As often as needed.  [default: what was served]"
)
@click.option(
    "--fill", type=click.Choice(["point-in-time"]), help="Read features that a lookup was answered without as of then."
)
@click.option("--statuses", is_flag=True, help="A column for the status of each feature.")
@click.option("--ages", is_flag=True, help="A column for the age of each view's row.")
@_split_options
@click.option("--full-feature-names", is_flag=True, help="Columns are called view__feature.")
@click.option("--snapshot", is_flag=True, help="With --fill: keep the sources' rows that answered with the set.")
@click.option("--no-seal", is_flag=True, help="Read only what is sealed already; otherwise the log is sealed first.")
@options.log_directory
@_build_options
def from_lookups(
    name: str,
    service: str,
    since: int | None,
    until: int | None,
    labels: str,
    on: tuple[str, ...],
    window: timedelta | None,
    label_time: str | None,
    pick: str | None,
    keep_unlabeled: bool,  # noqa: FBT001 - click's
    features: tuple[str, ...],
    fill: str | None,
    statuses: bool,  # noqa: FBT001
    ages: bool,  # noqa: FBT001
    split_at: list[tuple[str, str]],
    split: list[tuple[str, str]],
    split_by: tuple[str, ...],
    seed: int,
    full_feature_names: bool,  # noqa: FBT001
    snapshot: bool,  # noqa: FBT001
    no_seal: bool,  # noqa: FBT001
    log_directory: Path | None,
    sign: Path | None,
    form: str,
    register: bool,  # noqa: FBT001
    git: bool,  # noqa: FBT001
    threads: int | None,
    repo_root: Path,
    directory: Path | None,
    output: str,
) -> None:
    """Build the next version of the training set NAME from what a service served, joined to labels."""
    options.check_range(since, until)
    splits = _splits(split_at, split, split_by, seed)
    with changed_sets(repo_root, directory) as sets, PhaseBars() as bars:
        made = sets.from_lookups(
            name,
            service=service,
            labels=labels,
            since=None if since is None else from_micros(since),
            until=None if until is None else from_micros(until),
            on=on[0] if len(on) == 1 and window is None else list(on) or None,
            window=window,
            label_time=label_time,
            pick=pick,
            keep_unlabeled=keep_unlabeled,
            features=list(features) or None,
            fill=fill,
            statuses=statuses,
            ages=ages,
            full_feature_names=full_feature_names,
            splits=splits,
            snapshot=snapshot,
            sign=sign,
            git=git,
            format=form,
            log_dir=log_directory,
            seal=not no_seal,
            threads=threads,
            register=register,
            on_progress=bars,
        )
    _say_built(made, output)


def _say_built(made: "TrainingSet", output: str) -> None:
    place = made.manifest.git
    if place is not None and place.is_dirty:
        shown = ", ".join(place.changed[:3])
        click.echo(
            f"hindcast: the repo differs from commit {place.commit[:12]} ({shown}); commit it, so that Git has what the set was made of",
            err=True,
        )
    click.echo(json.dumps(set_json(made)) if output == "json" else built_text(made))


def _splits(
    at: Sequence[tuple[str, str]], parts: Sequence[tuple[str, str]], by: Sequence[str], seed: int
) -> "TimeSplits | KeySplits | None":
    from hindcast.datasets import KeySplits, TimeSplits  # noqa: PLC0415 - few commands need pyarrow

    if at and parts:
        raise click.UsageError("--split-at splits by time and --split by key; give one of them")
    if bool(parts) != bool(by):
        raise click.UsageError("--split says how much and --split-by by which column; give both")
    if seed and not parts:
        raise click.UsageError("--seed goes with --split")
    if len(dict(at or parts)) < len(at or parts):
        raise click.UsageError("two splits have one name; give each a name of its own")
    if at:
        return TimeSplits({name: _end_of(name, end) for name, end in at})
    return KeySplits({name: _share_of(name, share) for name, share in parts}, by, seed=seed) if parts else None


def _end_of(name: str, text: str) -> datetime | None:
    try:
        return options.instant(text) if text else None
    except ValueError as error:
        raise click.UsageError(
            f"--split-at {name}={text}: a split ends at a time, such as 2026-11-01, or has no `=`"
        ) from error


def _share_of(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise click.UsageError(f"--split {name}={text}: a share is a whole number of parts, such as 80") from error
