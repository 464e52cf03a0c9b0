"""The inputs of a set that is made again: what its manifest says of them, what is there now, and the way from the one to the other."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hindcast.datasets.build import source_records
from hindcast.datasets.causes import Change, module_changes
from hindcast.datasets.definitions import (
    PICKLED,
    DefinitionChange,
    Definitions,
    SourceDefinition,
    SourceTitle,
    definition_changes,
    place_of,
)
from hindcast.datasets.making import libraries_of
from hindcast.datasets.manifest import FrameRecord, Manifest, ModuleRecord, SourceRecord
from hindcast.datasets.pins import FileChange, file_changes, found_elsewhere, only_pinned
from hindcast.datasets.retrieval import Repo
from hindcast.datasets.store import StoredSet
from hindcast.errors import HindcastError, SourceError
from hindcast.offline.sources.source import DeltaTable, FilePin, SourceFile, SourceFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a table is made of.

    Attributes:
        sources: by view; a view that has none is asked about its source anew when the table is made.
    """

    definitions: Definitions
    sources: Mapping[str, SourceFiles | DeltaTable]
    has_new_frame: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step from the state before: what is changed by it, and the state after."""

    files: tuple[FileChange, ...] = ()
    modules: tuple[Change, ...] = ()
    change: Change | None = None
    state: State


@dataclass(slots=True)
class Inputs:
    """What one set was made of, and can be made of again.

    Attributes:
        as_recorded: whether the manifest's definitions and files are wanted, not those of now.
    """

    stored: StoredSet
    repo: Repo
    as_recorded: bool = field(kw_only=True)

    @property
    def manifest(self) -> Manifest:
        """Of the set."""
        return self.stored.manifest

    def sources(self) -> tuple[dict[str, SourceFiles | DeltaTable], tuple[FileChange, ...]]:
        """The sources of the manifest where they were, as they are now, and what has become of their files."""
        pinned: dict[str, SourceFiles | DeltaTable] = {}
        changes: list[FileChange] = []
        for record in self.manifest.sources:
            definition = self._source_of(record.views[0])
            try:
                found = self.repo.pinned(definition, version=record.version)
                (now,) = source_records(
                    {record.views[0]: found},
                    [SourceTitle(name=record.name, path=record.path, views=record.views)],
                    self.repo.root,
                )
            except SourceError:
                changes += found_elsewhere(file_changes(record, None), record, root=self.repo.root)
                pinned |= self._snapshots(record)
                continue
            changed = list(file_changes(record, now))
            if self.as_recorded and isinstance(found, SourceFiles):
                found = only_pinned(found, record, changed, root=self.repo.root)
                changed = [change for change in changed if change.how != "appended"]
            changes += changed
            pinned |= dict.fromkeys(record.views, found)
            if changed:
                pinned |= self._snapshots(record)
        return pinned, tuple(changes)

    def moves(self, pinned: Mapping[str, SourceFiles | DeltaTable], files: tuple[FileChange, ...]) -> list[Move]:
        """From what the manifest says to what is there now, an input at a time."""
        definitions = self.manifest.definitions
        moves: list[Move] = []
        modules = self.module_changes()
        if files or modules:
            moves.append(Move(files=files, modules=modules, state=self.recorded(pinned)))
        frame = self.frame_change()
        if frame is not None:
            moves.append(
                Move(
                    change=frame,
                    state=replace(
                        self.recorded(pinned), has_new_frame=frame.what != "removed" and not self.as_recorded
                    ),
                )
            )
        if self.as_recorded:
            return moves
        for change in definition_changes(definitions, self.definitions_now()):
            state = State(
                definitions=change.result,
                sources=self._sources_for(change.result, pinned),
                has_new_frame=moves[-1].state.has_new_frame if moves else False,
            )
            moves.append(Move(change=_of_definition(change), state=state))
        return moves

    def library_changes(self) -> list[Change]:
        """The libraries that have other versions, came, or are gone."""
        before = self.manifest.libraries
        now = libraries_of(self.manifest.definitions, has_log=self.manifest.lookups is not None)
        return [
            Change(kind="library", name=name, what="version", before=before.get(name, ""), after=now.get(name, ""))
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]

    def module_changes(self) -> tuple[Change, ...]:
        """The repo's modules that are other ones; functions of the manifest import those of now, too."""
        if not self.manifest.definitions.on_demand:
            return ()
        reached: tuple[ModuleRecord, ...] = ()
        # Where a function cannot be had any more, what is gone is told by what was reached.
        with suppress(HindcastError):
            reached = self.repo.modules(self.manifest.definitions if self.as_recorded else self.definitions_now())
        if self.manifest.modules is None:
            return ()
        return tuple(module_changes(self.manifest.modules, self.repo.module_sha256, reached))

    def changed_definitions(self) -> list[Change]:
        """The definitions that are other ones now, where nothing can be made of them: none where they cannot be had at all."""
        if self.as_recorded:
            return []
        try:
            found = map(_of_definition, definition_changes(self.manifest.definitions, self.definitions_now()))
            return [change for change in found if not is_suspect(change)]
        except HindcastError:
            return []

    def definitions_now(self) -> Definitions:
        """What the features mean in the repo.

        Raises:
            UnknownName: they are not there any more.
        """
        definitions = self.manifest.definitions
        return self.repo.definitions(
            self.manifest.features[0] if definitions.service else self.manifest.features,
            full_feature_names=definitions.full_feature_names,
        )

    def frame_change(self) -> Change | None:
        """What has become of the entity frame, where it was read from files."""
        return self.given_change("entity_frame", self.manifest.frame)

    def given_change(self, kind: str, record: FrameRecord) -> Change | None:
        """What has become of a frame that was read from files; None where it is as it was, and where it was kept."""
        if record.is_kept:
            return None
        change = Change(kind=kind, name=record.text)
        try:
            now = self.repo.frame_files(record.text)
        except HindcastError:
            return replace(change, what="removed")
        return None if now == record.files else change

    def recorded(self, pinned: Mapping[str, SourceFiles | DeltaTable]) -> State:
        """What the manifest says, over the sources as they are."""
        return State(
            definitions=self.manifest.definitions,
            sources=self._sources_for(self.manifest.definitions, pinned),
            has_new_frame=False,
        )

    def _sources_for(
        self, definitions: Definitions, pinned: Mapping[str, SourceFiles | DeltaTable]
    ) -> Mapping[str, SourceFiles | DeltaTable]:
        """The sources of all views: where the manifest has them, or where a definition has them now. One that cannot be read is lacking.

        On the way from one definition to another a source may be none: its path is of a database already, and its format still Parquet.
        """
        places = {view.name: place_of(view.source) for view in self.manifest.definitions.views}
        found = {}
        for view in definitions.views:
            if view.name in pinned and places.get(view.name) == place_of(view.source):
                found[view.name] = pinned[view.name]
            else:
                with suppress(SourceError):
                    found[view.name] = self.repo.pinned(view.source)
        return found

    def _snapshots(self, record: SourceRecord) -> Mapping[str, SourceFiles]:
        """View -> the rows that were kept of its source; only where what is there now is not asked for."""
        if not self.as_recorded:
            return {}
        kept = {view: self.manifest.evidence.snapshots.get(view) for view in record.views}
        found = {}
        for view, file in kept.items():
            path = self.stored.path / file.path if file is not None else None
            if path is not None and path.is_file():
                found[view] = SourceFiles(name=f"the snapshot of {view}", files=(SourceFile(FilePin.of(path)),))
        return found

    def _source_of(self, view: str) -> SourceDefinition:
        return next(one.source for one in self.manifest.definitions.views if one.name == view)


def _of_definition(change: DefinitionChange) -> Change:
    return Change(kind=change.kind, name=change.name, what=change.attribute, before=change.before, after=change.after)


def is_suspect(change: Change) -> bool:
    """Whether it may be no change at all: a function was pickled again, which does not give the same bytes."""
    return change.what == PICKLED
