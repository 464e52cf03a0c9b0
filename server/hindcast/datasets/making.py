"""What all builds of sets have in common, whatever their rows are of: how they are asked for, what was written, and how a set is published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hindcast.datasets.canonical import TableDigest
from hindcast.datasets.definitions import Definitions
from hindcast.datasets.delta_form import delta_schema
from hindcast.datasets.environment import git_record, libraries
from hindcast.datasets.manifest import (
    Column,
    EvidenceRecord,
    FileRecord,
    FrameRecord,
    GitRecord,
    GroupRecord,
    KnownAt,
    LeakRecord,
    LookupsRecord,
    Manifest,
    ModuleRecord,
    SourceRecord,
    SplitsRecord,
)
from hindcast.datasets.sign import SigningKey
from hindcast.datasets.statistics import ColumnStatistics
from hindcast.datasets.store import SetStore, StoredSet
from hindcast.offline.asof.reading import Leaks
from hindcast.settings import state_dir

DATA = "data"
"""The folder of a set's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOrder:
    """What is to be built, but for its rows.

    Attributes:
        snapshot: whether the rows of the sources that answered are kept with the set.
        key: that signs the set; None for no signature.
        is_delta: whether the rows are a Delta table too.
        has_git: whether the manifest says at which commit the repo is.
    """

    name: str
    full_feature_names: bool
    splits: SplitsRecord | None
    snapshot: bool
    key: SigningKey | None
    is_delta: bool = False
    has_git: bool = True

    def git(self, repo_root: Path) -> GitRecord | None:
        """Where the repo is in Git, if the manifest is to say it. Asked before a build, which can take long: the repo may be edited meanwhile."""
        return git_record(repo_root, but=state_dir(repo_root)) if self.has_git else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeOf:
    """What the rows of a set were made of.

    Attributes:
        modules: of the repo that functions reach.
        leaks: view -> what it leaked.
        lookups: None for rows that are of no log.
    """

    features: tuple[str, ...]
    known_at: KnownAt
    frame: FrameRecord
    sources: tuple[SourceRecord, ...]
    definitions: Definitions
    modules: tuple[ModuleRecord, ...]
    git: GitRecord | None
    evidence: EvidenceRecord
    leaks: Mapping[str, Leaks]
    lookups: LookupsRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Rows that were written.

    Attributes:
        files: paths relative to the directory of the set.
        splits: with the numbers of rows.
    """

    schema: pa.Schema
    digest: TableDigest
    files: tuple[FileRecord, ...]
    splits: SplitsRecord | None
    statistics: tuple[ColumnStatistics, ...]

    @property
    def groups(self) -> tuple[GroupRecord, ...]:
        """The row groups, with their digests."""
        return tuple(GroupRecord(rows=group.rows, digest=sha256(group.root)) for group in self.digest.groups)


def sha256(digest_bytes: bytes) -> str:
    """A digest as manifests have it."""
    return f"sha256:{digest_bytes.hex()}"


def libraries_of(definitions: Definitions, *, has_log: bool = False) -> Mapping[str, str]:
    """The libraries that take part in reading some features.

    Args:
        has_log: whether rows are read from a log of lookups.
    """
    return libraries(
        modes=[view.mode for view in definitions.on_demand],
        has_delta=has_log or any(view.source.file_format == "delta" for view in definitions.views),
    )


def publish(order: SetOrder, made_of: MadeOf, written: Written, built: Path, store: SetStore) -> StoredSet:
    """Give a set whose rows are written its manifest, and the next version of its name.

    Args:
        built: the directory that it was built in.
    Raises:
        DatasetError: the disk did not take it.
    """
    definitions = made_of.definitions
    manifest = Manifest(
        name=order.name,
        features=made_of.features,
        known_at=made_of.known_at,
        splits=written.splits,
        frame=made_of.frame,
        sources=made_of.sources,
        definitions=definitions,
        definitions_digest=f"sha256:{definitions.digest()}",
        definition_digests={name: f"sha256:{digest}" for name, digest in definitions.digests().items()},
        code_digests={view.name: f"sha256:{view.code_sha256}" for view in definitions.on_demand},
        modules=made_of.modules,
        git=made_of.git,
        libraries=libraries_of(definitions, has_log=made_of.lookups is not None),
        columns=tuple(Column(name=field.name, type=str(field.type)) for field in written.schema),
        rows=written.digest.rows,
        digest=sha256(written.digest.root),
        groups=written.groups,
        files=written.files,
        delta_version=made_table(built, written.schema, name=order.name) if order.is_delta else None,
        evidence=made_of.evidence,
        leaks=tuple(
            LeakRecord(view=view, found=leak.found, rows=leak.rows, worst_micros=leak.worst_micros)
            for view, leak in sorted(made_of.leaks.items())
        ),
        statistics=written.statistics,
        lookups=made_of.lookups,
    )
    return store.publish(order.name, built, manifest, key=order.key)


def made_table(place: Path, schema: pa.Schema, *, name: str) -> int:
    """Make a Delta table of the parts of a set.

    Args:
        place: the directory of the set.
        schema: of its rows.
    Returns:
        Its version.
    """
    from hindcast.datasets.delta_table import make_table  # noqa: PLC0415 - deltalake, which few sets need

    return make_table(place / DATA, delta_schema(schema), name=name)
