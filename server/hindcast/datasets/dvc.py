"""A training set as stages of a DVC pipeline: `dvc.yaml` says what it is built of, and `dvc repro` builds it where something of that has changed.

Two stages. The first writes the definitions of the features as JSON, from the registry: its bytes change with every `feast apply` and every
materialization, and the definitions do not. The second builds the set of these, the entity frame and the sources, in a folder that DVC empties before
each run, so that its version is 1 each time and its bytes depend on its inputs alone (docs/decisions/0034-mlflow-and-dvc.md).
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hindcast.catalog import Repo
from hindcast.catalog.repo import CONFIG_NAME, FileRegistry
from hindcast.clock import from_micros
from hindcast.datasets.manifest import KnownAt, Manifest, SplitsRecord
from hindcast.datasets.pins import absolute_path
from hindcast.errors import DatasetError, InvalidArgument
from hindcast.offline.location import fixed_names, is_pattern, local_path, parts_name

DVC_FILE = "dvc.yaml"
OUT = "training_sets"
_COMMAND = "hindcast dataset"
_STAGE = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, with paths as seen from its dvc.yaml.

    Attributes:
        command: of the shell.
        deps, outs: what it reads and writes.
        is_cached: whether DVC keeps the outs; otherwise they are for Git.
        is_always_run: whether it runs each time, since what it reads is no file.
    """

    name: str
    command: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    is_cached: bool = True
    is_always_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The stages of a set.

    Attributes:
        unwatched: what the set is built of and DVC cannot see, in words; a change of it is not noticed.
    """

    stages: tuple[Stage, ...]
    unwatched: tuple[str, ...]


def pipeline(manifest: Manifest, repo: Repo, *, file: Path, out: str = OUT, stage: str | None = None) -> Pipeline:
    """The stages that build a set like one that is there, for a dvc.yaml.

    Args:
        file: the dvc.yaml; paths are relative to its directory.
        out: the directory that gets a folder for the set, from there.
        stage: the name of the stage that builds; None for the set's, with dashes for dots.
    Raises:
        InvalidArgument: DVC takes no stage of that name, or the directory has none; or the set cannot be built again by a command: its entity frame was no path, SQL text or times; its rows are a Delta
            table; or they are of a log of lookups.
    """
    if manifest.lookups is not None:
        raise InvalidArgument.at(
            "ref",
            "was made of lookups, and its input is their log, which a server writes and seals on and a stage of DVC cannot watch; "
            "build it by `hindcast dataset from-lookups`, and let `hindcast dataset rebuild` say whether it is still the same",
        )
    if manifest.delta_version is not None:
        raise InvalidArgument.at(
            "ref",
            "is a Delta table, whose log says when it was written, so that no two runs of a pipeline would give one hash; build the set "
            "as Parquet, and call this for that one",
        )
    if not out:
        raise InvalidArgument.at(
            "out", "is empty; name the directory that gets the set, from the directory of dvc.yaml"
        )
    if stage is not None and not _STAGE.fullmatch(stage):
        raise InvalidArgument.at("stage", f"is {stage!r}; DVC takes letters, digits, dashes and underscores")
    base = file.parent
    place = _Place(base=base, root=_dvc_root(base), repo=repo.root)
    name = manifest.name.replace(".", "-") if stage is None else stage
    definitions_file = f"{out}/{manifest.name}.definitions.json"
    at_repo = place.seen(repo.root)
    of_repo = [] if at_repo == "." else ["--repo", at_repo]
    features = [word for feature in manifest.features for word in ("--features", feature)]
    if manifest.definitions.full_feature_names:
        features.append("--full-feature-names")
    registry = repo.registry.path if isinstance(repo.registry, FileRegistry) else None
    frame, frame_deps, unwatched = _frame_words(manifest, place)
    sources, unseen = _sources(manifest, place)
    build = [
        *features,
        *frame,
        *_known_at_words(manifest.known_at),
        *_splits_words(manifest.splits),
        *(["--snapshot"] if manifest.evidence.snapshots else []),
        "--no-git",
        "--no-register",
        *of_repo,
        "--dir",
        out,
    ]
    modules = [place.seen(absolute_path(module.path, root=repo.root)) for module in manifest.modules or ()]
    return Pipeline(
        stages=(
            Stage(
                name=f"{name}-definitions",
                command=_shell("definitions", *features, *of_repo, "--to", definitions_file),
                deps=tuple(map(place.seen, [repo.root / CONFIG_NAME, *([registry] if registry is not None else [])])),
                outs=(definitions_file,),
                is_cached=False,
                is_always_run=registry is None,
            ),
            Stage(
                name=name,
                command=_shell("build", manifest.name, *build),
                deps=tuple(dict.fromkeys([definitions_file, *frame_deps, *sources, *modules])),
                outs=(f"{out}/{manifest.name}",),
            ),
        ),
        unwatched=(*unwatched, *unseen),
    )


def write_stages(file: Path, stages: Sequence[Stage]) -> bool:
    """Write stages into a dvc.yaml, or bring those that are there up to date. All else in the file stays, comments too.

    Of a stage that is there `cmd`, `deps`, `outs` and `always_changed` are set, and its other settings (`desc`, `meta`, `frozen`, …) stay. It is
    written as DVC itself writes the file, and only if something is to be changed.

    Returns:
        Whether something was changed.
    Raises:
        InvalidArgument: the file is no dvc.yaml, has a stage of such a name that is another one, or ruamel.yaml is not installed.
        DatasetError: it cannot be read or written.
    """
    yaml = _yaml()
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        content = _parsed(yaml, text, file)
        is_new = [_set_stage(content["stages"], stage, file) for stage in stages]
        if not any(is_new):
            return False
        _replace(file, yaml, content)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read or written; check its rights, and that it is UTF-8") from error
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where paths are seen from.

    Attributes:
        base: the directory of dvc.yaml.
        root: of the DVC repo; what is outside of it is named by its absolute path, as DVC asks.
        repo: the Feast repo.
    """

    base: Path
    root: Path
    repo: Path

    def seen(self, path: Path) -> str:
        """A path, as dvc.yaml should have it."""
        full = os.path.normpath(path)
        return os.path.relpath(full, self.base) if Path(full).is_relative_to(self.root) else full


def _dvc_root(base: Path) -> Path:
    """The DVC repo that a directory is in, or where there is none yet, the Git repo."""
    for mark in (".dvc", ".git"):
        found = next((place for place in (base, *base.parents) if (place / mark).exists()), None)
        if found is not None:
            return found
    return base


def _shell(*words: str) -> str:
    # DVC fills in ${…} before the shell sees it.
    return f"{_COMMAND} {shlex.join(words)}".replace("${", "\\${")


def _frame_words(manifest: Manifest, place: _Place) -> tuple[list[str], list[str], list[str]]:
    """The options for the entity frame, its files, and what of it DVC cannot see."""
    frame = manifest.frame
    if frame.form == "path":
        path = absolute_path(frame.text, root=place.repo)
        if not (path.suffix == ".parquet" or path.is_dir()):
            raise InvalidArgument.at(
                "ref",
                f"was built from {frame.text!r}, and the command line knows Parquet files by .parquet; rename it and build again",
            )
        # Seen from the Feast repo the path is in the manifest the same way on every machine; the command looks there second.
        shown = place.seen(path)
        from_repo = os.path.relpath(path, place.repo)
        if not Path(shown).is_absolute() and not (place.base / from_repo).exists():
            return ["--entities", from_repo], [_watched(path, place)], []
        return ["--entities", shown], [_watched(path, place)], []
    if frame.form == "sql":
        return ["--entities", frame.text], [], ["files that the SQL text of the entity frame reads"]
    if frame.form == "keys":
        start, _, end = frame.text.partition("/")
        return [*(["--start", start] if start else []), "--end", end], [], []
    raise InvalidArgument.at(
        "ref",
        "was built from rows in memory, and a pipeline needs them in a file; write the entity frame as Parquet, build the set from its path, and call this again",
    )


def _known_at_words(known_at: KnownAt) -> list[str]:
    if known_at.micros is not None:
        return ["--known-at", from_micros(known_at.micros).isoformat()]
    return ["--known-at", known_at.column or known_at.kind]


def _splits_words(splits: SplitsRecord | None) -> list[str]:
    if splits is None:
        return []
    if splits.kind == "time":
        ends = [f"={from_micros(end).isoformat()}" for end in splits.ends] + [""]
        return [word for name, end in zip(splits.names, ends, strict=True) for word in ("--split-at", f"{name}{end}")]
    shares = [
        word for name, parts in zip(splits.names, splits.parts, strict=True) for word in ("--split", f"{name}={parts}")
    ]
    return [*shares, *(word for key in splits.keys for word in ("--split-by", key)), "--seed", str(splits.seed)]


def _sources(manifest: Manifest, place: _Place) -> tuple[list[str], list[str]]:
    """The files of all sources, and those sources that are not on this machine."""
    watched: list[str] = []
    unseen: list[str] = []
    for source in dict.fromkeys(view.source.path for view in manifest.definitions.views):
        path = local_path(source, repo_root=place.repo)
        if path is None:
            unseen.append(f"the source {source}")
            continue
        watched.append(_watched(path, place))
        parts = path.with_name(parts_name(path.name))
        if parts.is_dir():
            watched.append(place.seen(parts))
    return watched, unseen


def _watched(path: Path, place: _Place) -> str:
    """A path as a dependency; of a pattern the folder that it begins with."""
    if is_pattern(str(path)):
        path = Path(*path.parts[: fixed_names(path.parts)])
    return place.seen(path)


def _yaml() -> Any:
    try:
        from ruamel.yaml import YAML  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        raise InvalidArgument.at("dvc", "needs the dvc extra: pip install 'hindcast[server,dvc]'") from error
    # As DVC itself has it, so that its next change of the file changes no other line.
    yaml = YAML()
    yaml.default_flow_style = False
    return yaml


def _replace(file: Path, yaml: Any, content: Any) -> None:
    """Write the file in one step, so that a process that is killed leaves it as it was."""
    place = file.resolve()
    aside = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        with aside.open("w", encoding="utf-8") as written:
            yaml.dump(content, written)
        if place.exists():
            shutil.copymode(place, aside)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def _parsed(yaml: Any, text: str, file: Path) -> Any:
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415 - optional
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - optional

    try:
        content = yaml.load(text)
        if content is None:
            # Comments at most, which hang on what follows them.
            content = yaml.load(f"{text.rstrip()}\nstages:\n")
    except YAMLError as error:
        raise InvalidArgument.at(
            "file", f"{str(file)!r} cannot be read as YAML; mend it, `dvc repro` says where"
        ) from error
    if isinstance(content, dict) and content.get("stages") is None:
        content["stages"] = CommentedMap()
    if not isinstance(content, dict) or not isinstance(content["stages"], dict):
        raise InvalidArgument.at(
            "file", f"{str(file)!r} is no dvc.yaml: its stages are no names with settings; name another one"
        )
    return content


def _set_stage(stages: Any, stage: Stage, file: Path) -> bool:
    """Bring a stage up to date; whether something was to be changed."""
    wanted: dict[str, Any] = {"cmd": stage.command, "deps": list(stage.deps), "outs": _outs(stage)}
    if stage.is_always_run:
        wanted["always_changed"] = True
    there = stages.get(stage.name)
    if there is None:
        stages[stage.name] = wanted
        return True
    if not isinstance(there, dict) or not str(there.get("cmd", "")).startswith(
        f"{_COMMAND} {stage.command.split()[2]} "
    ):
        raise InvalidArgument.at(
            "stage",
            f"{stage.name!r} is in {str(file)!r} already, and it is no stage of `{_COMMAND}`; give another name by --stage",
        )
    changed = {key: value for key, value in wanted.items() if not _is_same(there.get(key), value)}
    there.update(changed)
    has_lost = "always_changed" not in wanted and there.pop("always_changed", None) is not None
    return bool(changed) or has_lost


def _outs(stage: Stage) -> list[Any]:
    return [out if stage.is_cached else {out: {"cache": False}} for out in stage.outs]


def _is_same(there: Any, wanted: Any) -> bool:
    """Whether a setting says the same; what the user said of an output besides its path (a remote, `persist`) is theirs."""
    if isinstance(there, list) and isinstance(wanted, list):
        return [_path_of(one) for one in there] == [_path_of(one) for one in wanted]
    return bool(there == wanted)


def _path_of(entry: Any) -> Any:
    return next(iter(entry), None) if isinstance(entry, Mapping) else entry
