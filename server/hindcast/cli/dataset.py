"""`hindcast dataset`: training sets from the command line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hindcast.cli import options
from hindcast.cli.dataset_progress import PhaseBars
from hindcast.cli.dataset_text import built_text, diff_text, dvc_text, list_text, rebuild_text, show_text, verify_text
from hindcast.cli.exits import Exit
from hindcast.clock import from_micros
from hindcast.errors import DatasetError
from hindcast.settings import TrainingSetsSettings

if TYPE_CHECKING:
    from hindcast.datasets import Diff, KeySplits, Rebuild, TimeSplits, TrainingSet, TrainingSets
    from hindcast.datasets.causes import Change

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the sets are.  [default: datasets in the state directory, .hindcast in the repo]",
)


def _set_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return options.repo(_directory(options.output(command)))


def _known_at_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | str | None:
    """A time where it is one, or else the name of a column."""
    if text is None:
        return None
    try:
        return options.instant(text)
    except ValueError:
        return text


def _pairs_of(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> list[tuple[str, str]]:
    """NAME or NAME=VALUE each."""
    return [(text.partition("=")[0], text.partition("=")[2]) for text in texts]


_SPLITS = (
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


def _split_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SPLITS):
        command = option(command)
    return command


_KEPT = (
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
    click.option(
        "--threads",
        type=click.IntRange(1, options.THREADS_MAX),
        help="Of DuckDB.  [default: as the repo says, or one per core]",
    ),
)
"""How a set is built, and where it is told of, whatever its rows are of."""


def _build_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_KEPT):
        command = option(command)
    return _set_options(command)


def _length_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """How long: a number, 0 or more, with s, m, h or d behind it."""
    if text is None:
        return None
    try:
        length = timedelta(**{_UNITS[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no length; write 90s, 15m, 2h or 7d") from error
    if length < timedelta(0):
        raise click.BadParameter(f"{text!r} is before the lookup; write 90s, 15m, 2h or 7d")
    return length


@click.group()
def dataset() -> None:
    """Training sets that can be made again byte for byte, or that say which input has changed."""


@dataset.command()
@click.argument("name")
@click.option(
    "--features",
    multiple=True,
    required=True,
    metavar="SERVICE",
    help="A feature service; or view:feature, as often as needed.",
)
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
    unregistered: list[str] = []
    sets = _sets(repo_root, directory, on_unregistered=unregistered.append)
    with PhaseBars() as bars:
        made = sets.build(
            name,
            features=_features(features),
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
    _say_unregistered(unregistered)
    _say_built(made, output)


@dataset.command("from-lookups")
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
    unregistered: list[str] = []
    sets = _sets(repo_root, directory, on_unregistered=unregistered.append)
    with PhaseBars() as bars:
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
    _say_unregistered(unregistered)
    _say_built(made, output)


@dataset.command("ls")
@_set_options
def ls(repo_root: Path, directory: Path | None, output: str) -> None:
    """List all versions of all training sets."""
    sets = _sets(repo_root, directory)
    found = sets.list()
    if output == "json":
        click.echo(json.dumps([_as_json(one) for one in found]))
    else:
        none = f"no training sets in {sets.directory} yet; `hindcast dataset build` makes one"
        click.echo(list_text(found) if found else none)


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@_set_options
def show(ref: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Show a training set: REF is NAME@vN, NAME for its newest version, or the beginning of an id."""
    found = _sets(repo_root, directory).get(ref)
    if output == "json":
        click.echo(json.dumps({**_as_json(found), "manifest": json.loads(found.manifest.encoded())}))
    else:
        click.echo(show_text(found))


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@click.option(
    "--as-recorded",
    is_flag=True,
    help="With the manifest's definitions, and of the sources only the files that it names. Otherwise with what is there now.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, options.THREADS_MAX),
    help="Of DuckDB.  [default: as the repo says, or one per core]",
)
@_set_options
@click.pass_context
def rebuild(
    context: click.Context,
    ref: str,
    as_recorded: bool,  # noqa: FBT001 - click's
    threads: int | None,
    repo_root: Path,
    directory: Path | None,
    output: str,
) -> None:
    """Make a training set again and compare. Exit code 0 if it is the same, 3 if it is not; then the first changed input is named."""
    sets = _sets(repo_root, directory)
    with PhaseBars() as bars:
        report = sets.rebuild(ref, as_recorded=as_recorded, threads=threads, on_progress=bars)
    if output == "json":
        click.echo(json.dumps(_rebuild_json(report, sets.get(report.ref))))
    else:
        click.echo(rebuild_text(report))
    if not report.identical:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@click.option("--key", type=click.Path(path_type=Path), help="A public key: the set must be signed by it.")
@_set_options
@click.pass_context
def verify(
    context: click.Context, ref: str, key: Path | None, repo_root: Path, directory: Path | None, output: str
) -> None:
    """Hold the files of a training set against its manifest. Exit code 3 if one was changed, or the signature is not by --key."""
    found = _sets(repo_root, directory).verify(ref, key=key)
    if output == "json":
        click.echo(json.dumps({**asdict(found), "intact": found.intact}))
    else:
        click.echo(verify_text(found))
    if not found.intact:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("before", callback=options.not_empty)
@click.argument("after", callback=options.not_empty)
@_set_options
@click.pass_context
def diff(context: click.Context, before: str, after: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Compare two training sets. Exit code 3 if they differ."""
    found = _sets(repo_root, directory).diff(before, after)
    click.echo(json.dumps(_diff_json(found)) if output == "json" else diff_text(found))
    if not found.identical:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("refs", metavar="[REF]...", nargs=-1)
@_set_options
def register(refs: tuple[str, ...], repo_root: Path, directory: Path | None, output: str) -> None:
    """List training sets in Feast's registry as saved data sets: those named, or all that are there.

    For what `build` could not register, and for what a `feast apply` that had begun before wrote over.
    """
    sets = _sets(repo_root, directory)
    found = [sets.get(ref).ref for ref in refs] or [one.ref for one in sets.list()]
    for ref in found:
        sets.register(ref)
    click.echo(json.dumps({"registered": found}) if output == "json" else f"registered {', '.join(found) or 'nothing'}")


@dataset.command("rm")
@click.argument("ref", callback=options.not_empty)
@_set_options
def rm(ref: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Remove one version, NAME@vN. Its number is not given again."""
    unregistered: list[str] = []
    _sets(repo_root, directory, on_unregistered=unregistered.append).remove(ref)
    _say_unregistered(unregistered)
    click.echo(json.dumps({"removed": ref}) if output == "json" else f"removed {ref}")


@dataset.command()
@options.repo
@_directory
@click.option(
    "--address",
    default="127.0.0.1:50052",
    show_default=True,
    callback=options.checked_address,
    help="HOST:PORT; port 0 takes a free one.",
)
@click.option(
    "--entities-dir",
    "entity_directories",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Callers may name files in this directory as entity frames, beside the repo's file sources. As often as needed.",
)
@click.option(
    "--waiting-max",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Builds that wait for the one that runs; more are refused.",
)
@click.option(
    "--frame-max-mb",
    type=click.IntRange(1, 2**20),
    default=8_192,
    show_default=True,
    help="Of an entity frame that a caller sends, or whose SQL answers it, in MiB.",
)
@click.option(
    "--patience-seconds",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="For a caller to send the next piece of a frame, or to take the next of a set.",
)
@click.option(
    "--timeout-seconds",
    type=options.Seconds(1),
    default=3_600.0,
    show_default=True,
    help="For calls that bring none.",
)
@options.tls
def serve(
    repo_root: Path,
    directory: Path | None,
    address: str,
    entity_directories: tuple[Path, ...],
    waiting_max: int,
    frame_max_mb: int,
    patience_seconds: float,
    timeout_seconds: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> None:
    """Serve training sets over gRPC, for people without access to the sources, until Ctrl-C or SIGTERM, which give up what is built."""
    from hindcast.catalog import read_repo  # noqa: PLC0415 - see below
    from hindcast.datasets_server.process import end, run  # noqa: PLC0415 - pyarrow and gRPC

    settings = TrainingSetsSettings(
        repo_root=read_repo(repo_root).root,
        address=address,
        directory=directory.resolve() if directory else None,
        entity_directories=tuple(one.resolve() for one in entity_directories),
        tls=options.tls_files(tls_cert, tls_key, tls_client_ca),
        call_timeout_seconds=timeout_seconds,
        waiting_max=waiting_max,
        frame_max_bytes=frame_max_mb * 2**20,
        patience_seconds=patience_seconds,
    )
    run(settings, say=click.echo)
    end(0)


@dataset.command()
@click.option(
    "--features",
    multiple=True,
    required=True,
    metavar="SERVICE",
    help="A feature service; or view:feature, as often as needed.",
)
@click.option("--full-feature-names", is_flag=True, help="As of `build`.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write them there.  [default: print them]",
)
@options.repo
def definitions(features: tuple[str, ...], full_feature_names: bool, to: Path | None, repo_root: Path) -> None:  # noqa: FBT001 - click's
    """Say what features mean now, as JSON. It changes if and only if a training set of them might, so pipelines can depend on it."""
    text = _sets(repo_root, None).definitions(_features(features), full_feature_names=full_feature_names).as_text()
    if to is None:
        click.echo(text, nl=False)
        return
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{str(to)!r} cannot be written; check its rights") from error


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@click.option(
    "--file",
    "dvc_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The dvc.yaml.  [default: the one in the Feast repo]",
)
@click.option(
    "--out",
    default="training_sets",
    show_default=True,
    metavar="DIR",
    help="Where DVC builds its sets, each in a folder of its name; from the directory of dvc.yaml.",
)
@click.option("--stage", metavar="NAME", help="The name of the stage.  [default: the set's]")
@_set_options
def dvc(
    ref: str,
    dvc_file: Path | None,
    out: str,
    stage: str | None,
    repo_root: Path,
    directory: Path | None,
    output: str,
) -> None:
    """Write the stages that build a training set like REF into dvc.yaml, or bring them up to date.

    They have the features, entity frame, splits and the known-at time of REF. `dvc repro` then builds the set where a definition, the entity frame
    or a source has changed, and equal inputs give equal files.
    """
    from hindcast.catalog import read_repo  # noqa: PLC0415 - see `_sets`
    from hindcast.datasets.dvc import DVC_FILE, pipeline, write_stages  # noqa: PLC0415 - few commands need it

    repo = read_repo(repo_root)
    file = (repo.root / DVC_FILE if dvc_file is None else dvc_file).resolve()
    found = _sets(repo_root, directory).get(ref)
    made = pipeline(found.manifest, repo, file=file, out=out, stage=stage)
    is_changed = write_stages(file, made.stages)
    if output == "json":
        stages = [asdict(one) for one in made.stages]
        click.echo(
            json.dumps({"file": str(file), "changed": is_changed, "stages": stages, "unwatched": made.unwatched})
        )
    else:
        click.echo(dvc_text(made, file, is_changed=is_changed))


def _features(given: Sequence[str]) -> str | list[str]:
    """One name without a colon is that of a service."""
    return given[0] if len(given) == 1 and ":" not in given[0] else list(given)


def _sets(
    repo_root: Path, directory: Path | None, *, on_unregistered: Callable[[str], None] | None = None
) -> "TrainingSets":
    from hindcast.catalog import read_repo  # noqa: PLC0415 - see below
    from hindcast.datasets import TrainingSets  # noqa: PLC0415 - Feast, which takes a second

    return TrainingSets(read_repo(repo_root).root, directory, on_unregistered=on_unregistered)


def _say_unregistered(texts: Sequence[str]) -> None:
    for text in texts:
        click.echo(f"hindcast: {text}", err=True)


def _say_built(made: "TrainingSet", output: str) -> None:
    place = made.manifest.git
    if place is not None and place.is_dirty:
        shown = ", ".join(place.changed[:3])
        click.echo(
            f"hindcast: the repo differs from commit {place.commit[:12]} ({shown}); commit it, so that Git has what the set was made of",
            err=True,
        )
    click.echo(json.dumps(_as_json(made)) if output == "json" else built_text(made))


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


def _as_json(one: "TrainingSet") -> dict[str, Any]:
    manifest = one.manifest
    lookups = manifest.lookups
    return {
        "name": one.name,
        "version": one.version,
        "ref": one.ref,
        "id": one.id,
        "logical_digest": one.digest,
        "rows": one.rows,
        "delta_version": manifest.delta_version,
        "columns": [column.name for column in manifest.columns],
        "features": list(manifest.features),
        "known_at": asdict(manifest.known_at),
        "splits": one.splits,
        "leaks": {leak.view: leak.rows for leak in manifest.leaks},
        "git": None if manifest.git is None else asdict(manifest.git),
        "path": str(one.path),
        "lookups": None if lookups is None else asdict(lookups),
    }


def _rebuild_json(report: "Rebuild", one: "TrainingSet") -> dict[str, Any]:
    first = report.first_change
    return {
        "ref": report.ref,
        "id": report.id,
        "version": one.version,
        "identical": report.identical,
        "files_identical": report.files_identical,
        "logical_digest": report.digest,
        "expected_digest": report.expected,
        "rows": report.rows,
        "path": str(one.path),
        "as_recorded": report.as_recorded,
        "first_change": None if first is None else _change_json(first),
        "changes": [_change_json(change) for change in report.changes],
        "trouble": report.trouble,
    }


def _change_json(change: "Change") -> dict[str, Any]:
    return asdict(change)


def _diff_json(found: "Diff") -> dict[str, Any]:
    return asdict(found)
