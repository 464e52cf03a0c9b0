"""What is told of a build as OpenLineage events: the sources, and the entity frame or the log and its labels, that it read, and the set that it made."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hindcast.datasets.build import Order
from hindcast.datasets.definitions import Definitions, source_titles
from hindcast.datasets.making import SetOrder
from hindcast.datasets.manifest import FrameRecord, Manifest, SourceRecord
from hindcast.datasets.pins import absolute_path
from hindcast.datasets.retrieval import Repo
from hindcast.datasets.store import SetStore, StoredSet
from hindcast.lineage import Dataset, LineageRun, Sender
from hindcast.offline.sources.objects import shown


@dataclass(slots=True)
class ToldBuild:
    """A build that is told of.

    Attributes:
        run: None where nobody wants to know.
    """

    repo: Repo
    run: LineageRun | None

    def made(self, stored: StoredSet) -> None:
        """The set is there."""
        if self.run is None:
            return
        manifest = stored.manifest
        self.run.inputs = (
            *_sources(manifest.definitions, {source.path: source for source in manifest.sources}),
            *_frame(manifest.frame, manifest, self.repo.root, title="entity frame"),
            *_lookups(manifest, self.repo.root),
        )
        self.run.outputs = (
            Dataset(
                name=_name(stored.name),
                fields={column.name: column.type for column in manifest.columns},
                source=("training set", stored.path.as_uri()),
                version=manifest.digest,
                tags={"hindcast.id": stored.id, "hindcast.ref": stored.ref},
                rows=manifest.rows,
                bytes=sum(file.bytes for file in manifest.files),
                files=len(manifest.files),
            ),
        )


@contextmanager
def told_build(repo: Repo, order: SetOrder, store: SetStore) -> Iterator[ToldBuild]:
    """Tell that a build begins, and how it ends, if the repo or the environment wants that.

    Raises:
        UnknownName, InvalidArgument, SourceError: the features cannot be had, and nothing was begun.
    """
    settings = repo.lineage
    if settings is None:
        yield ToldBuild(repo, None)
        return
    # Of lookups it is known only with the set what is read: the log is sealed first, and the cells to be filled are found in it.
    inputs: tuple[Dataset, ...] = ()
    if isinstance(order, Order):
        definitions = repo.definitions(order.features, full_feature_names=order.full_feature_names)
        inputs = tuple(_sources(definitions, {}))
    place = (store.directory / order.name).as_uri()
    run = LineageRun(
        job=f"build_{_name(order.name)}",
        kind="TRAINING_SET",
        inputs=inputs,
        outputs=(Dataset(name=_name(order.name), fields={}, source=("training set", place)),),
    )
    with Sender(settings).told(run):
        yield ToldBuild(repo, run)


def _name(name: str) -> str:
    """Not the bare name: a source or a view can be called like the set, and they are of one namespace."""
    return f"training_set_{name}"


def _sources(definitions: Definitions, records: Mapping[str, SourceRecord]) -> Iterator[Dataset]:
    for title in source_titles(definitions):
        fields: dict[str, str] = {}
        for view in definitions.views:
            if view.name in title.views:
                fields |= {key.name: key.value_type for key in view.keys}
                fields |= {feature.name: feature.value_type for feature in view.features}
        address = shown(title.path)
        yield Dataset(
            name=title.name, fields=fields, source=(title.name, address), version=_version(records.get(title.path))
        )


def _version(record: SourceRecord | None) -> str:
    """A Delta table has a number, and files are their digests."""
    if record is None:
        return ""
    if record.version is not None:
        return str(record.version)
    return f"sha256:{hashlib.sha256(msgspec.json.encode(record.files, order='sorted')).hexdigest()}"


def _frame(frame: FrameRecord, manifest: Manifest, root: Path, *, title: str) -> Iterator[Dataset]:
    """An entity frame or labels, where they are somebody's files and not rows that were handed over."""
    if frame.form == "path":
        place = absolute_path(frame.text, root=root)
        types = {column.name: column.type for column in manifest.columns}
        yield Dataset(
            namespace="file",
            name=str(place),
            # The set has not all columns of labels.
            fields={name: types[name] for name in frame.columns if name in types},
            source=(title, place.as_uri()),
            version=frame.digest,
        )


def _lookups(manifest: Manifest, root: Path) -> Iterator[Dataset]:
    """The tables of the log that were read, at their versions, and the labels."""
    if manifest.lookups is None:
        return
    for table in manifest.lookups.log.tables:
        place = absolute_path(table.path, root=root)
        yield Dataset(
            namespace="file",
            name=str(place),
            fields={},
            source=("log of lookups", place.as_uri()),
            version=str(table.version),
        )
    yield from _frame(manifest.lookups.labels.frame, manifest, root, title="labels")
