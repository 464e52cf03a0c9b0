"""`hindcast dataset`: training sets from the command line."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from hindcast.catalog import read_repo
from hindcast.cli import dataset_options, options
from hindcast.cli.dataset_build import build, from_lookups
from hindcast.cli.dataset_json import rebuild_json, set_json
from hindcast.cli.dataset_options import changed_sets, features_of, opened_sets, set_options
from hindcast.cli.dataset_progress import PhaseBars
from hindcast.cli.dataset_text import diff_text, dvc_text, list_text, rebuild_text, show_text, verify_text
from hindcast.cli.exits import Exit
from hindcast.cli.serve import serve_sets
from hindcast.errors import DatasetError


@click.group()
def dataset() -> None:
    """Training sets that can be made again byte for byte, or that say which input has changed."""


dataset.add_command(build)
dataset.add_command(from_lookups)
dataset.add_command(serve_sets)


@dataset.command("ls")
@set_options
def ls(repo_root: Path, directory: Path | None, output: str) -> None:
    """List all versions of all training sets."""
    sets = opened_sets(repo_root, directory)
    found = sets.list()
    if output == "json":
        click.echo(json.dumps([set_json(one) for one in found]))
    else:
        none = f"no training sets in {sets.directory} yet; `hindcast dataset build` makes one"
        click.echo(list_text(found) if found else none)


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@set_options
def show(ref: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Show a training set: REF is NAME@vN, NAME for its newest version, or the beginning of an id."""
    found = opened_sets(repo_root, directory).get(ref)
    if output == "json":
        click.echo(json.dumps({**set_json(found), "manifest": json.loads(found.manifest.encoded())}))
    else:
        click.echo(show_text(found))


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@click.option(
    "--as-recorded",
    is_flag=True,
    help="With the manifest's definitions, and of the sources only the files that it names. Otherwise with what is there now.",
)
@dataset_options.threads
@set_options
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
    sets = opened_sets(repo_root, directory)
    with PhaseBars() as bars:
        report = sets.rebuild(ref, as_recorded=as_recorded, threads=threads, on_progress=bars)
    if output == "json":
        click.echo(json.dumps(rebuild_json(report, sets.get(report.ref))))
    else:
        click.echo(rebuild_text(report))
    if not report.identical:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("ref", callback=options.not_empty)
@click.option("--key", type=click.Path(path_type=Path), help="A public key: the set must be signed by it.")
@set_options
@click.pass_context
def verify(
    context: click.Context, ref: str, key: Path | None, repo_root: Path, directory: Path | None, output: str
) -> None:
    """Hold the files of a training set against its manifest. Exit code 3 if one was changed, or the signature is not by --key."""
    found = opened_sets(repo_root, directory).verify(ref, key=key)
    if output == "json":
        click.echo(json.dumps({**asdict(found), "intact": found.intact}))
    else:
        click.echo(verify_text(found))
    if not found.intact:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("before", callback=options.not_empty)
@click.argument("after", callback=options.not_empty)
@set_options
@click.pass_context
def diff(context: click.Context, before: str, after: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Compare two training sets. Exit code 3 if they differ."""
    found = opened_sets(repo_root, directory).diff(before, after)
    click.echo(json.dumps(asdict(found)) if output == "json" else diff_text(found))
    if not found.identical:
        context.exit(Exit.DIFFERS)


@dataset.command()
@click.argument("refs", metavar="[REF]...", nargs=-1)
@set_options
def register(refs: tuple[str, ...], repo_root: Path, directory: Path | None, output: str) -> None:
    """List training sets in Feast's registry as saved data sets: those named, or all that are there.

    For what `build` could not register, and for what a `feast apply` that had begun before wrote over.
    """
    sets = opened_sets(repo_root, directory)
    found = [sets.get(ref).ref for ref in refs] or [one.ref for one in sets.list()]
    for ref in found:
        sets.register(ref)
    click.echo(json.dumps({"registered": found}) if output == "json" else f"registered {', '.join(found) or 'nothing'}")


@dataset.command("rm")
@click.argument("ref", callback=options.not_empty)
@set_options
def rm(ref: str, repo_root: Path, directory: Path | None, output: str) -> None:
    """Remove one version, NAME@vN. Its number is not given again."""
    with changed_sets(repo_root, directory) as sets:
        sets.remove(ref)
    click.echo(json.dumps({"removed": ref}) if output == "json" else f"removed {ref}")


@dataset.command()
@dataset_options.features
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
    text = (
        opened_sets(repo_root, None).definitions(features_of(features), full_feature_names=full_feature_names).as_text()
    )
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
@set_options
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
    from hindcast.datasets.dvc import DVC_FILE, pipeline, write_stages  # noqa: PLC0415 - few commands need it

    repo = read_repo(repo_root)
    file = (repo.root / DVC_FILE if dvc_file is None else dvc_file).resolve()
    found = opened_sets(repo_root, directory).get(ref)
    made = pipeline(found.manifest, repo, file=file, out=out, stage=stage)
    is_changed = write_stages(file, made.stages)
    if output == "json":
        stages = [asdict(one) for one in made.stages]
        click.echo(
            json.dumps({"file": str(file), "changed": is_changed, "stages": stages, "unwatched": made.unwatched})
        )
    else:
        click.echo(dvc_text(made, file, is_changed=is_changed))
