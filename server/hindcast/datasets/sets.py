"""Training sets of a Feast repo, on this machine."""

import warnings
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindcast.clock import Clock, system_clock
from hindcast.datasets.diff import Diff, diff
from hindcast.datasets.manifest import KnownAt
from hindcast.datasets.memory import memory_told
from hindcast.datasets.progress import OnProgress, silent
from hindcast.datasets.registration import NotRegistered, entry_of
from hindcast.datasets.sign import read_public_key, read_signing_key
from hindcast.datasets.splits import Splits, splits_record
from hindcast.datasets.store import SetStore, StoredSet, check_name
from hindcast.datasets.training_set import TrainingSet
from hindcast.datasets.verify import Verification, verify
from hindcast.errors import SHOWN_MAX, InvalidArgument, RepoError
from hindcast.settings import log_directory_of, state_dir

if TYPE_CHECKING:
    from hindcast.datasets.again import Rebuild
    from hindcast.datasets.definitions import Definitions
    from hindcast.datasets.retrieval import Repo

OWN_TIME = "own"
"""As `known_at`: what was known at each row's own time. Such a set leaks nothing."""


class TrainingSets:
    """The training sets of a Feast repo: built, listed, loaded, verified, made again and compared.

    Nothing is kept open between calls, and several threads and processes may use the same sets.
    """

    def __init__(
        self,
        repo: Path | str,
        dir: Path | str | None = None,  # noqa: A002 - the option's name
        *,
        clock: Clock = system_clock,
        on_unregistered: Callable[[str], None] | None = None,
    ) -> None:
        """Sets of a repo.

        Args:
            repo: the directory that holds feature_store.yaml.
            dir: where the sets are; None for `datasets` in the repo's state directory.
            on_unregistered: told what Feast's registry did not take, in words; None to warn by `NotRegistered`.
        """
        self._on_unregistered = on_unregistered
        self._root = Path(repo).expanduser().resolve()
        self._clock = clock
        self._store = SetStore(sets_directory(self._root, dir))

    @property
    def directory(self) -> Path:
        """Where the sets are."""
        return self._store.directory

    def build(
        self,
        name: str,
        *,
        features: str | Sequence[str],
        entity_frame: Any = None,
        start: datetime | date | None = None,
        end: datetime | date | None = None,
        known_at: datetime | date | str | None = None,
        splits: Splits | None = None,
        full_feature_names: bool = False,
        snapshot: bool = False,
        sign: Path | str | None = None,
        format: str = "parquet",  # noqa: A002 - the option's name
        git: bool = True,
        hash_sources: bool = False,
        threads: int | None = None,
        register: bool = True,
        on_progress: OnProgress | None = None,
    ) -> TrainingSet:
        """Build the next version of a set.

        Args:
            name: letters, digits, dots, dashes and underscores.
            features: the name of a feature service, or a list of `view:feature`.
            entity_frame: a pandas or Polars frame, Arrow data, the path of Parquet, or SQL text (docs/training.md). Its columns come first in
                the set, labels among them. None for all keys that have rows between `start` and `end`, both closed.
            known_at: what could be known: up to a time, the name of a column of the frame with a time for each row, or `"own"` for each
                row's own time. None for now, which is written down.
            splits: `TimeSplits` or `KeySplits`; the column `__split` says it of each row.
            full_feature_names: `view__feature` instead of `feature`.
            snapshot: keep the rows of the sources that answered, for sources that will not stay.
            sign: the file of an Ed25519 key, in PEM, that signs the set.
            format: `parquet`, or `delta` for rows that are a Delta table too, in `data` of the set's directory. They have the same digest.
            git: write down at which commit the repo is. Without it two builds of the same inputs are the same set after a commit, too.
            hash_sources: read all files of the sources for their digests, also those that an earlier build hashed and that nobody changed since, by
                their inodes and times. A rebuild always does.
            threads: of DuckDB; None as the repo's settings say.
            register: put it into Feast's registry as a saved data set. Where the registry does not take it, the set is there all the same,
                and a warning says so.
            on_progress: told how far it is; what it raises ends the build.
        Raises:
            RepoError: there is no such repo, or it has another offline store.
            InvalidArgument, UnknownName: what is asked for cannot be had; the message says what.
            SourceError: a source cannot be read as it is, or changed meanwhile.
            TransformError: the code of an on-demand view failed.
            StoreUnavailable, DatasetError: the disk did not take something.
            Overloaded: the process may have no more memory.
        """
        # Feast, which takes seconds: sets are listed, loaded, verified and compared without it.
        from hindcast.datasets.build import Order, build  # noqa: PLC0415 - see above
        from hindcast.datasets.retrieval import FrameCall, Repo, given_micros  # noqa: PLC0415 - see above
        from hindcast.datasets.told import told_build  # noqa: PLC0415 - see above

        check_name(name)
        if entity_frame is None and end is None:
            raise InvalidArgument.at(
                "entity_frame", "is not given; give one, or `end` (and `start`) for all keys between two times"
            )
        if entity_frame is not None and (start is not None or end is not None):
            raise InvalidArgument.at("entity_frame", "is given, and so are times for all keys; give one of them")
        order = Order(
            name=name,
            features=features,
            frame=FrameCall(entity_frame=entity_frame, start=start, end=end),
            known_at=self._known_at(known_at, given_micros),
            full_feature_names=full_feature_names,
            splits=None if splits is None else splits_record(splits, micros=given_micros),
            snapshot=snapshot,
            key=None if sign is None else read_signing_key(Path(sign)),
            is_delta=self._is_delta(format),
            has_git=git,
            hashes_sources=hash_sources,
        )
        repo = Repo(self._root, threads=threads)
        with memory_told(), told_build(repo, order, self._store) as told:
            made = build(order, repo, self._store, on_progress=on_progress or silent)
            told.made(made)
        return self._listed(made, repo) if register else TrainingSet(made, self._root)

    def definitions(self, features: str | Sequence[str], *, full_feature_names: bool = False) -> "Definitions":
        """What some features mean now, as a manifest would have it.

        Args:
            features: the name of a feature service, or a list of `view:feature`.
        Raises:
            RepoError: there is no such repo, or it has another offline store.
            UnknownName, InvalidArgument, SourceError: they cannot be had; the message says why.
        """
        from hindcast.datasets.retrieval import Repo  # noqa: PLC0415 - see `build`

        return Repo(self._root).definitions(features, full_feature_names=full_feature_names)

    def from_lookups(
        self,
        name: str,
        *,
        service: str,
        labels: Any,
        since: datetime | date | None = None,
        until: datetime | date | None = None,
        on: str | Sequence[str] | None = None,
        window: timedelta | None = None,
        label_time: str | None = None,
        pick: str | None = None,
        keep_unlabeled: bool = False,
        features: Sequence[str] | None = None,
        fill: str | None = None,
        statuses: bool = False,
        ages: bool = False,
        full_feature_names: bool = False,
        splits: Splits | None = None,
        snapshot: bool = False,
        sign: Path | str | None = None,
        format: str = "parquet",  # noqa: A002 - the option's name
        git: bool = True,
        log_dir: Path | str | None = None,
        seal: bool = True,
        threads: int | None = None,
        register: bool = True,
        on_progress: OnProgress | None = None,
    ) -> TrainingSet:
        """Build the next version of a set from what a feature service served, joined to labels.

        Rows are those of answered lookups, in the order of served_at, then of lookup ids, then of rows in a lookup; their values are bit for
        bit the ones served. The columns are `lookup_id`, `lookup_row`, `served_at`, (`request_id`,) what callers sent, the labels', the
        features, and those that are asked for.

        Args:
            name: letters, digits, dots, dashes and underscores.
            service: the feature service.
            labels: in any form of an entity frame; all of its columns but ids, row numbers and keys are columns of the set.
            since, until: of served_at; the first counts, the second does not. None: all; now, which is written down.
            on: `"lookup_id"` or `"request_id"`, or a list of columns of keys; None for the id that the labels have a column of. With a column
                `lookup_row` (or `hc_row`, or `row`) a label is for that row of its lookup, otherwise for all of them.
            window: for keys: a label is at most so long after served_at.
            label_time: the labels' column of times; None for keys: `event_timestamp`, or the only one.
            pick: of several labels that fit the `"first"` or the `"last"`, by time and then by position; None: by keys the first, by an id the last.
            keep_unlabeled: keep rows that have no label, with nulls; otherwise they are counted and left out.
            features: `view:feature` each; None for those that the lookups were answered with, and with `fill` those of the service now.
            fill: `"point-in-time"` reads what a row was not answered with as of served_at, by what was known then. A column `<feature>__origin`
                says of each cell whether it was `served` or read. None leaves nulls.
            statuses, ages: a column `<feature>__status` for each feature, `<view>__age_seconds` for each view.
            full_feature_names: `view__feature` instead of `feature`.
            splits, snapshot, sign, format, git, threads, register, on_progress: as `build`; splits by time go by served_at.
            log_dir: of the log; None for the server's own in the repo's state directory.
            seal: put what was answered into tables first, which writes to the log's directory. Otherwise only what is in tables is read, and
                what is not is counted.
        Raises:
            InvalidArgument, UnknownName: what is asked for cannot be had; the message says what.
            RepoError, SealError, StoredDataError: the repo cannot be opened, the log not sealed, or not read.
            SourceError, TransformError: as `build`, where cells are filled.
            StoreUnavailable, DatasetError: the disk did not take something.
            Overloaded: the process may have no more memory.
        """
        from hindcast.datasets.from_lookups import LookupsOrder, build_from_lookups  # noqa: PLC0415 - see `build`
        from hindcast.datasets.retrieval import Repo, given_micros  # noqa: PLC0415 - see `build`
        from hindcast.datasets.told import told_build  # noqa: PLC0415 - see `build`
        from hindcast.lookups.served_log import Range  # noqa: PLC0415 - see `build`

        check_name(name)
        order = LookupsOrder(
            name=name,
            service=service,
            during=Range(
                since_micros=None if since is None else given_micros("since", since),
                until_micros=self._clock() if until is None else given_micros("until", until),
            ),
            log_directory=log_directory_of(self._root) if log_dir is None else Path(log_dir).expanduser().resolve(),
            features=features,
            labels=labels,
            on=on,
            label_time=label_time,
            window_micros=None if window is None else window // timedelta(microseconds=1),
            pick=pick,
            keeps_unlabeled=keep_unlabeled,
            fill=fill,
            full_feature_names=full_feature_names,
            has_statuses=statuses,
            has_ages=ages,
            splits=None if splits is None else splits_record(splits, micros=given_micros),
            snapshot=snapshot,
            seals=seal,
            key=None if sign is None else read_signing_key(Path(sign)),
            is_delta=self._is_delta(format),
            has_git=git,
        )
        repo = Repo(self._root, threads=threads)
        with memory_told(), told_build(repo, order, self._store) as told:
            made = build_from_lookups(order, repo, self._store, on_progress=on_progress or silent)
            told.made(made)
        return self._listed(made, repo) if register else TrainingSet(made, self._root)

    def get(self, ref: str) -> TrainingSet:
        """A set that is there.

        Args:
            ref: `name@vN`, `name` for its newest version, or the beginning of an id.
        Raises:
            UnknownName: there is none.
            InvalidArgument: several ids begin like this.
            DatasetError: its manifest is damaged.
        """
        return TrainingSet(self._store.find(ref), self._root)

    def list(self) -> list[TrainingSet]:
        """All versions of all sets, by name and then by number.

        Raises:
            DatasetError: a manifest is damaged.
        """
        return [TrainingSet(stored, self._root) for stored in self._store.all()]

    def refs(self) -> Sequence[str]:
        """`name@vN` of all versions of all sets, in the order of `list`; nothing of them is read."""
        return [f"{name}@v{version}" for name in self._store.names() for version in self._store.versions(name)]

    def register(self, ref: str) -> None:
        """Put a set that is there into Feast's registry as a saved data set, or put it right there.

        Raises:
            UnknownName, DatasetError: there is no such set, or its manifest is damaged.
            RepoError: the registry does not take it, or has another data set of that name.
        """
        from hindcast.datasets.retrieval import Repo  # noqa: PLC0415 - see `build`

        Repo(self._root).register(entry_of(self._store.find(ref), root=self._root))

    def remove(self, ref: str) -> None:
        """Remove one version, `name@vN`, and what Feast's registry has of it; its number is not given again.

        Where the registry does not let its entry go, a warning says so.

        Raises:
            UnknownName: there is none.
            InvalidArgument: the text names no version.
            DatasetError: it cannot be removed.
        """
        from hindcast.datasets.retrieval import Repo  # noqa: PLC0415 - see `build`

        gone = self._store.remove(ref)
        try:
            Repo(self._root).unregister(entry_of(gone, root=self._root))
        except RepoError as error:
            self._say(
                f"{gone.ref} was removed, and Feast may still list it; `feast delete {gone.ref}` there ends that ({error})",
                steps=2,
            )

    def rebuild(
        self,
        ref: str,
        *,
        as_recorded: bool = False,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> "Rebuild":
        """Make a set again from its manifest, and compare; nothing of it stays.

        Args:
            as_recorded: with the manifest's definitions, and of its sources only the files that it names; what the repo defines now does
                not matter. Otherwise with what is there now (a Delta table at the version of the manifest).
            on_progress: as in `build`.
        Returns:
            Whether it is the same; if not, which inputs are other ones, and the rows and columns that each changed.
        Raises:
            UnknownName, DatasetError: there is no such set, or its own files are gone or damaged.
            HindcastError: as `build`, where no input of the set is at fault.
        """
        from hindcast.datasets.rebuild import rebuild  # noqa: PLC0415 - see `build`
        from hindcast.datasets.retrieval import Repo  # noqa: PLC0415 - see `build`

        stored = self._store.find(ref)
        repo = Repo(self._root, threads=threads)
        with memory_told():
            return rebuild(stored, repo, as_recorded=as_recorded, on_progress=on_progress or silent)

    def verify(self, ref: str, *, key: Path | str | None = None) -> Verification:
        """Read all files of a set and hold them against its manifest.

        Args:
            key: the file of the public key of whom you trust, as PEM or `ssh-ed25519 …`: the set must be signed by it.
        Raises:
            InvalidArgument: there is no such key in the file.
            UnknownName, DatasetError: there is no such set, or its manifest is damaged.
        """
        with memory_told():
            return verify(self._store.find(ref), key=None if key is None else read_public_key(Path(key)))

    def diff(self, before: str, after: str) -> Diff:
        """What differs between two sets: rows, cells, columns, and what they were made of.

        Raises:
            UnknownName, DatasetError: there is no such set, or its files are gone or damaged.
            InvalidArgument: they have no keys in common by which rows could be told apart.
        """
        with memory_told():
            return diff(self._store.find(before), self._store.find(after))

    def _is_delta(self, given: str) -> bool:
        if given not in {"parquet", "delta"}:
            raise InvalidArgument.at("format", f"is {given!r}; write parquet or delta")
        if given == "delta" and "%" in str(self.directory):
            raise InvalidArgument.at(
                "format", f"is delta, and Delta tables are not read where a path has a percent sign: {self.directory}"
            )
        return given == "delta"

    def _listed(self, made: StoredSet, repo: "Repo") -> TrainingSet:
        """A set that was built, put into the registry if that takes it."""
        try:
            repo.register(entry_of(made, root=self._root))
        except RepoError as error:
            self._say(f"{made.ref} was built, and {error}", steps=3)
        return TrainingSet(made, self._root)

    def _say(self, text: str, *, steps: int) -> None:
        """Args: steps: from here up to whoever asked for something."""
        if self._on_unregistered is not None:
            self._on_unregistered(text)
        else:
            warnings.warn(text, NotRegistered, stacklevel=steps + 1)

    def _known_at(self, given: datetime | date | str | None, micros: Callable[[str, Any], int]) -> KnownAt:
        if given is None:
            return KnownAt(kind="time", micros=self._clock())
        if given == "":
            raise InvalidArgument.at(
                "known_at", f"is empty; give a time, a column of the entity frame, or {OWN_TIME!r}"
            )
        if isinstance(given, str):
            return KnownAt(kind="own") if given == OWN_TIME else KnownAt(kind="column", column=given)
        return KnownAt(kind="time", micros=micros("known_at", given))


def sets_directory(repo_root: Path, given: Path | str | None) -> Path:
    """Where the sets of a repo are, unless another place is given.

    Raises:
        InvalidArgument: that is no path.
    """
    if given is None:
        return state_dir(repo_root) / "datasets"
    try:
        return Path(given).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidArgument.at("dir", f"is {str(given)[:SHOWN_MAX]!r}, which is no path here") from error
