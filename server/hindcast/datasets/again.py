"""A training set that is made again from its manifest: a rebuild, which says which input changed where it comes out as another one.

By default the set is made of what is there now: the repo's definitions, the files of its sources (a Delta table at the version of the
manifest), the entity frame that was kept (or the files that it was read from). What the manifest says was used instead can be asked for.

Where more than one input is another one, they are changed one by one, in the order source, module, entity frame, definition, transform, library, and
each is put down for what differs between the table before it and the table after it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from hindcast.datasets.build import FRAME, write_rows
from hindcast.datasets.canonical import digest_of
from hindcast.datasets.causes import (
    Change,
    Provenance,
    Step,
    blamed_on,
    blamed_on_files,
    blamed_on_modules,
    file_change,
)
from hindcast.datasets.compare import Differences, Side, compare
from hindcast.datasets.inputs import Inputs, Move, State, is_suspect
from hindcast.datasets.making import Written, sha256
from hindcast.datasets.manifest import FrameRecord, Manifest
from hindcast.datasets.parts import Part, read_parts
from hindcast.datasets.pins import FileChange, absolute_path
from hindcast.datasets.progress import OnProgress, Progress
from hindcast.datasets.retrieval import FrameCall, Repo
from hindcast.datasets.store import StoredSet
from hindcast.datasets.verify import file_trouble
from hindcast.errors import DatasetError, HindcastError, InvalidArgument, SourceError, TransformError, UnknownName
from hindcast.offline.frames.frame import EntityFrame
from hindcast.offline.frames.held import READ_ROWS

NOW = "now"
"""The folder of the table that is made of what is there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """What came of making a set again.

    Attributes:
        ref, id: of the set that was made again.
        identical: whether it has the same logical digest.
        expected, digest: the logical digest of the manifest, and of what was made; empty where nothing could be made.
        files_identical: whether its files have the same bytes; None where that is not promised: the rows or the libraries are other ones.
        rows: that were made.
        changes: inputs that are other ones than they were: first those that changed rows, each kind in the order of the module's docstring,
            then those without effect.
        as_recorded: whether the manifest's definitions and files were used, not those of now.
        trouble: why nothing could be made; empty where it was.
    """

    ref: str
    id: str
    identical: bool
    expected: str
    digest: str
    files_identical: bool | None
    rows: int
    changes: tuple[Change, ...]
    as_recorded: bool
    trouble: str = ""

    @property
    def first_change(self) -> Change | None:
        """The first input that is another one: of those that changed rows, if any did."""
        return self.changes[0] if self.changes else None


@dataclass(frozen=True, slots=True)
class Made:
    """A table of a step.

    Attributes:
        written: None for the set itself.
    """

    side: Side
    digest: str
    provenance: Provenance | None
    written: Written | None = None


@dataclass(slots=True)
class Again:
    """One rebuild."""

    inputs: Inputs
    aside: Path
    on_progress: OnProgress = field(kw_only=True)

    @property
    def stored(self) -> StoredSet:
        """The set."""
        return self.inputs.stored

    @property
    def manifest(self) -> Manifest:
        """Of the set."""
        return self.stored.manifest

    @property
    def repo(self) -> Repo:
        """Where it is made again."""
        return self.inputs.repo

    def place_of(self, name: str) -> Path:
        """The directory of a table that was made."""
        plain = self.aside / name
        return plain if plain.exists() else self._delta_place(name)

    def _delta_place(self, name: str) -> Path:
        return self.aside / f"{name}-delta"

    def report(self) -> Rebuild:
        """Make it, and say what differs and why."""
        libraries = self.inputs.library_changes()
        pinned, files = self.inputs.sources()
        try:
            moves = self.inputs.moves(pinned, files)
            made = self._run(moves[-1].state if moves else self.inputs.recorded(pinned), NOW)
        except (SourceError, UnknownName, InvalidArgument, TransformError) as error:
            return self._failed(error, files, libraries)
        changes = self._without_effect(moves)
        if made.digest == self.manifest.digest:
            assert made.written is not None  # noqa: S101 - for the type
            files_identical = made.written.files == self.manifest.files if not libraries else None
            return self._report(made, [*changes, *libraries], files_identical=files_identical)
        try:
            found = self._explained(moves, made, libraries) if moves else self._unexplained(made, libraries)
        except DatasetError:
            # The set's own rows are gone: it can be said what changed, and not what that did.
            found = [replace(change, has_effect=None) for change in (*changes, *libraries)]
            if not found:
                raise
        return self._report(made, found, files_identical=None)

    def _report(self, made: Made, changes: Sequence[Change], *, files_identical: bool | None) -> Rebuild:
        effective = [change for change in changes if change.has_effect]
        others = [change for change in changes if not change.has_effect]
        assert made.written is not None  # noqa: S101 - for the type
        return Rebuild(
            ref=self.stored.ref,
            id=self.stored.id,
            identical=made.digest == self.manifest.digest,
            expected=self.manifest.digest,
            digest=made.digest,
            files_identical=files_identical,
            rows=made.written.digest.rows,
            changes=(*effective, *others),
            as_recorded=self.inputs.as_recorded,
        )

    def _failed(
        self,
        error: HindcastError,
        files: Sequence[FileChange],
        libraries: Sequence[Change],
        *,
        first: Sequence[Change] = (),
    ) -> Rebuild:
        """Something that was asked for cannot be had any more: what changed is what can be said."""
        changes = [
            *first,
            *map(file_change, files),
            *self.inputs.module_changes(),
            *filter(None, [self.inputs.frame_change()]),
            *self.inputs.changed_definitions(),
            *libraries,
        ]
        changes = [replace(change, has_effect=None) for change in changes]
        if isinstance(error, UnknownName):
            changes.insert(0, Change(kind="definition", name=error.name, what="removed", has_effect=None))
        if not changes:
            raise error
        return Rebuild(
            ref=self.stored.ref,
            id=self.stored.id,
            identical=False,
            expected=self.manifest.digest,
            digest="",
            files_identical=None,
            rows=0,
            changes=tuple(changes),
            as_recorded=self.inputs.as_recorded,
            trouble=str(error),
        )

    def _without_effect(self, moves: Sequence[Move]) -> list[Change]:
        changes = [file_change(file) for move in moves for file in move.files]
        changes += [module for move in moves for module in move.modules]
        return [*changes, *(move.change for move in moves if move.change is not None and not is_suspect(move.change))]

    def _explained(self, moves: Sequence[Move], last: Made, libraries: Sequence[Change]) -> list[Change]:
        """The changes of the moves, each with what it did."""
        before = self._itself()
        found: list[Change] = []
        waiting: list[Move] = []
        for number, move in enumerate(moves):
            waiting.append(move)
            if number == len(moves) - 1:
                after = last
            else:
                try:
                    after = self._run(move.state, f"step-{number}")
                except HindcastError:
                    # It cannot be made by itself, as of a source that was moved while its definition followed.
                    continue
            found += self._blamed(before, after, waiting)
            before, waiting = after, []
        return [change for change in found if change.has_effect or not is_suspect(change)] + list(libraries)

    def _blamed(self, before: Made, after: Made, moves: Sequence[Move]) -> list[Change]:
        """What some moves did together: it is put down to the first of them."""
        first, *rest = moves
        later = self._without_effect(rest)
        if before.digest == after.digest:
            return [*self._without_effect([first]), *later]
        keys = self.manifest.labels if _is_of_frame(moves) else ()
        step = Step(
            differences=self._differences(before, after, keys),
            before=before.side,
            after=after.side,
            definitions=self.manifest.definitions,
            labels=self.manifest.labels,
        )
        if first.change is not None:
            reason = {"definition": "definition", "transform": "code"}.get(first.change.kind, "entity frame")
            return [blamed_on(first.change, step, reason), *later]
        provenance = None
        if before.provenance is not None and after.provenance is not None and not rest:
            provenance = before.provenance, after.provenance
        if first.modules:
            return [*self._blamed_on_code(first, step, provenance), *later]
        return [*_blamed_on_files(first.files, step, provenance), *later]

    def _blamed_on_code(
        self, move: Move, step: Step, provenance: tuple[Provenance, Provenance] | None
    ) -> Sequence[Change]:
        """What modules did, and files of sources with them: computed cells are put down to the modules, and others to the files."""
        modules, rest = blamed_on_modules(move.modules, step)
        if not rest.differences.are_there:
            return [*map(file_change, move.files), *modules]
        if move.files:
            return [*_blamed_on_files(move.files, rest, provenance), *modules]
        return [*modules, blamed_on(Change(kind="unknown", name="rows", what="not the same twice"), rest, "unknown")]

    def _unexplained(self, made: Made, libraries: Sequence[Change]) -> list[Change]:
        """No input is another one, but a library may be."""
        before = self._itself()
        step = Step(
            differences=self._differences(before, made, ()),
            before=before.side,
            after=made.side,
            definitions=self.manifest.definitions,
            labels=self.manifest.labels,
        )
        if not step.differences.are_there:
            raise DatasetError(
                f"the rows of {self.stored.ref} are made again as they are stored, and its manifest has another digest: the manifest was changed, "
                "and `hindcast dataset verify` says what else"
            )
        if libraries:
            return [blamed_on(libraries[0], step, "library"), *libraries[1:]]
        computed = {
            feature.column: view.name for view in self.manifest.definitions.on_demand for feature in view.features
        }
        names = {computed.get(column, "") for column in step.differences.cells}
        name = names.pop() if len(names) == 1 else ""
        unknown = Change(kind="unknown", name=name or "rows", what="not the same twice")
        return [blamed_on(unknown, step, "function gives something else" if name else "unknown")]

    def _differences(self, before: Made, after: Made, keys: Sequence[str]) -> Differences:
        """What of a step is to be explained."""
        return compare(before.side, after.side, keys=keys)

    def _itself(self) -> Made:
        """The set, as it is stored.

        Raises:
            DatasetError: its rows are gone, or other ones than they were: what they differ in is nobody's change of an input.
        """
        trouble = next(filter(None, (file_trouble(self.stored.path, file) for file in self.manifest.files)), None)
        if trouble is not None:
            raise DatasetError(
                f"{trouble}; {self.stored.ref} was changed, and `hindcast dataset verify` says all of it"
            )
        side = Side.of(self.stored.path, self.manifest)
        try:
            provenance = Provenance.of_set(self.stored.path, self.manifest)
        except DatasetError:
            provenance = None
        return Made(side, self.manifest.digest, provenance)

    def _run(self, state: State, name: str) -> Made:
        """A table made of a state."""
        if self.manifest.delta_version is not None:
            # In Delta's types, so that files can be the same; rows that do not fit into them are other ones, and compared all the same.
            with suppress(InvalidArgument):
                return self._run_into(self._delta_place(name), state, is_delta=True)
        return self._run_into(self.aside / name, state, is_delta=False)

    def _run_into(self, place: Path, state: State, *, is_delta: bool) -> Made:
        """A table made of a state, in a directory that is not there yet.

        Raises:
            InvalidArgument: it is to be in Delta's types, and does not fit into them.
        """
        place.mkdir()
        lacking = [view for view in state.definitions.views if view.name not in state.sources]
        sources = {**state.sources, **{view.name: self.repo.pinned(view.source) for view in lacking}}
        with ExitStack() as stack:
            frame = stack.enter_context(self._frame(is_new=state.has_new_frame))
            self.on_progress(Progress("read", 0, frame.rows))
            reading = stack.enter_context(self.repo.reading(state.definitions, sources, frame, self.manifest.known_at))
            written = write_rows(
                reading, frame, self.manifest.splits, place, is_delta=is_delta, on_progress=self.on_progress
            )
            provenance = Provenance.read(reading.origins, root=self.repo.root)
        side = Side(directory=place, files=written.files, groups=written.groups, schema=written.schema)
        return Made(side, sha256(written.digest.root), provenance, written)

    @contextmanager
    def _frame(self, *, is_new: bool) -> Iterator[EntityFrame]:
        """The entity frame: the one that was kept, the files that it was read from, or the columns of the set that it gave.

        Raises:
            DatasetError: the kept one is damaged.
        """
        record = self.manifest.frame
        given: object
        if record.is_kept:
            given = self.stored.path / FRAME
            if not given.is_dir():
                raise DatasetError(
                    f"the entity frame of {self.stored.ref} is gone from {self.stored.path}; `hindcast dataset verify` says what else is, and without it "
                    "nothing can be made again"
                )
        elif is_new or self.inputs.frame_change() is None:
            given = absolute_path(record.text, root=self.repo.root)
        else:
            given = _columns_of_set(self.stored)
        call = FrameCall(entity_frame=given, start=None, end=None)
        with self.repo.frame(call, self.manifest.definitions, {}) as frame:
            if (record.is_kept or not is_new) and not has_rows_of(record, frame):
                raise DatasetError(
                    f"the entity frame of {self.stored.ref} is not the one that its manifest names; the files in {self.stored.path} "
                    "were changed, and `hindcast dataset verify` says which"
                )
            yield frame


def has_rows_of(record: FrameRecord, frame: EntityFrame) -> bool:
    """Whether a frame has the rows that a manifest names."""
    return sha256(digest_of(frame.schema, frame.batches(READ_ROWS)).root) == record.digest


def _blamed_on_files(
    files: Sequence[FileChange], step: Step, provenance: tuple[Provenance, Provenance] | None
) -> Sequence[Change]:
    """What files did: each of them where it is known which rows answered, then and now; otherwise the first did all of it."""
    if provenance is not None:
        return blamed_on_files(files, step, *provenance)
    first, *more = [file_change(file, has_effect=None) for file in files]
    return [blamed_on(first, step, "source"), *more]


def _is_of_frame(moves: Sequence[Move]) -> bool:
    return any(move.change is not None and move.change.kind == "entity_frame" for move in moves)


def _columns_of_set(stored: StoredSet) -> pa.RecordBatchReader:
    """The entity frame as its columns in the set have it."""
    columns = list(stored.manifest.frame.columns)
    with Part(stored.path / stored.manifest.files[0].path) as part:
        schema = part.read([], columns=columns).schema
    tables = read_parts(stored.path, stored.manifest.files, columns=columns)
    return pa.RecordBatchReader.from_batches(schema, (batch for table in tables for batch in table.to_batches()))
