"""A Feast repo as it lies on disk: its `feature_store.yaml`, read without importing Feast."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hindcast.errors import SHOWN_MAX, RepoError

CONFIG_NAME = "feature_store.yaml"


@dataclass(frozen=True, slots=True)
class FileRegistry:
    """A registry in one file on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class SqlRegistry:
    """A registry in a SQL database, by SQLAlchemy URL. The URL can hold a password: never print it."""

    url: str


@dataclass(frozen=True, slots=True)
class OtherRegistry:
    """A registry that only Feast can read: an object store, a remote server."""


@dataclass(frozen=True, slots=True)
class Repo:
    """What Hindcast reads of `feature_store.yaml`, environment variables expanded as Feast does.

    Attributes:
        root: absolute.
        online_store, offline_store: the block as written; Feast's default where it is missing.
        entity_key_version: Feast's `entity_key_serialization_version`.
        online_versioning: Feast's `registry.enable_online_feature_view_versioning`.
    """

    root: Path
    project: str
    registry: FileRegistry | SqlRegistry | OtherRegistry
    online_store: Mapping[str, Any]
    online_versioning: bool
    entity_key_version: object
    offline_store: Mapping[str, Any]


def read_repo(root: Path) -> Repo:
    """Read the repo at `root`.

    Raises:
        RepoError: it is not a Feast repo, or its configuration is not one that Feast would load.
    """
    try:
        root = root.expanduser().resolve()
        config_path = root / CONFIG_NAME
        is_directory, has_config = root.is_dir(), config_path.is_file()
    except (OSError, RuntimeError) as error:
        # A home of nobody's is a RuntimeError of pathlib's, and so is a link to itself.
        raise RepoError(
            f"{str(root)[:SHOWN_MAX]!r} cannot be looked into; give the directory that holds {CONFIG_NAME} as --repo"
        ) from error
    if not is_directory:
        raise RepoError(f"{root} is not a directory; give the directory that holds {CONFIG_NAME} as --repo")
    if not has_config:
        raise RepoError(
            f"{root} is not a Feast repo: it has no {CONFIG_NAME}. Give the directory that `feast apply` runs in "
            f"(after `feast init NAME` that is NAME/feature_repo) as --repo"
        )
    config = _load(config_path)
    if config.get("offline_store", ...) is None:
        del config["offline_store"]  # an empty block is Feast's default; an empty online_store is no store at all
    project = config.get("project")
    if not isinstance(project, str) or not project:
        raise RepoError(f"{config_path} names no project; add a line `project: NAME`")
    registry = config.get("registry", "data/registry.db")
    registry = {"path": registry} if isinstance(registry, str) else registry
    if not isinstance(registry, dict):
        raise RepoError(f"{config_path}: `registry` must be a path or a block with a line `path: …`")
    return Repo(
        root=root,
        project=project,
        registry=registry_of(root, registry),
        online_store=_block(config, "online_store", {"type": "sqlite"}, config_path),
        entity_key_version=config.get("entity_key_serialization_version", 3),
        offline_store=_offline_store(config),
        online_versioning=bool(registry.get("enable_online_feature_view_versioning", False)),
    )


def _load(config_path: Path) -> dict[str, Any]:
    try:
        text = config_path.read_text(encoding="utf-8")
        config = yaml.safe_load(os.path.expandvars(text))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        at = getattr(error, "problem_mark", None)
        where = f"{config_path}:{at.line + 1}" if at is not None else str(config_path)
        raise RepoError(f"{where} cannot be read as YAML; mend it and try `feast apply`") from error
    if not isinstance(config, dict):
        raise RepoError(f"{config_path} holds no settings; see `feast init` for an example")
    return config


def _block(config: Mapping[str, Any], name: str, default: Mapping[str, Any], config_path: Path) -> Mapping[str, Any]:
    block = config.get(name, default)
    if isinstance(block, str):
        return {"type": block}
    if not isinstance(block, dict) or not isinstance(block.get("type", default["type"]), str):
        raise RepoError(f"{config_path}: `{name}` must be a block with a line `type: …`")
    return {**default, **block}


def _offline_store(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The block as far as it can be read: a server that only answers lookups needs nothing of it."""
    block = config.get("offline_store")
    return {"type": "dask", **block} if isinstance(block, dict) else {"type": str(block or "dask")}


def registry_of(root: Path, block: Mapping[str, Any]) -> FileRegistry | SqlRegistry | OtherRegistry:
    """What a `registry` block of a repo at `root` names."""
    kind, path = block.get("registry_type", "file"), str(block.get("path", ""))
    if kind == "sql":
        # Feast's own rewriting: a bare `postgresql://` means psycopg 3, not SQLAlchemy's default.
        return SqlRegistry(url=re.sub("^postgresql://", "postgresql+psycopg://", path))
    if kind != "file" or block.get("registry_store_type") or ("://" in path and not path.startswith("file://")):
        return OtherRegistry()
    return FileRegistry(path=root / path.removeprefix("file://"))
