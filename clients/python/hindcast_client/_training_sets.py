"""The blocking client of training sets."""

import time
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client._build import Order, Splits, frame_order, lookups_order
from hindcast_client._channel import DEFAULT_RETRY, NO_OPTIONS, TLS, ChannelOptions, Link, Token
from hindcast_client._errors import error_of
from hindcast_client._policy import RetryPolicy
from hindcast_client._reports import (
    Diff,
    OnProgress,
    Rebuild,
    Verification,
    read_diff,
    read_rebuild,
    read_verification,
)
from hindcast_client._rows import BATCH_ROWS, Pieces, Rows, in_order, read_request
from hindcast_client._sets_channel import (
    PAGE_SIZE,
    TIMEOUT_SECONDS,
    Described,
    SetMethods,
    broken_off,
    key_bytes,
    told,
    warn_if_unregistered,
)

if TYPE_CHECKING:
    import pyarrow as pa


class TrainingSets:
    """The training sets that a server (`hindcast dataset serve`) builds and keeps: `hindcast.datasets.TrainingSets` from elsewhere.

    Safe to share between threads; not across a fork. What reads or sends rows needs pyarrow.

    Args:
        target: "host:port", or any gRPC target.
        tls: None speaks plain text.
        token: sent as `authorization: Bearer …`; a callable is asked each time.
        timeout_seconds: the deadline of a call, waiting for other builds included.
        retry: when to try again, of calls that only read and give one answer; others are never repeated.
        options: further gRPC channel options; they win over this client's own.

    Raises:
        ValueError: a target or timeout that cannot work.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: TLS | None = None,
        token: Token | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry: RetryPolicy = DEFAULT_RETRY,
        options: ChannelOptions = NO_OPTIONS,
    ) -> None:
        self._link = Link(target, tls=tls, token=token, timeout_seconds=timeout_seconds, retry=retry, options=options)
        self._channel = self._link.open(grpc)
        self._methods = SetMethods(self._channel)
        self._closed = False

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
        format: str = "parquet",  # noqa: A002 - the option's name
        git: bool = True,
        threads: int | None = None,
        register: bool = True,
        on_progress: OnProgress | None = None,
    ) -> "TrainingSet":
        """Build the next version of a set.

        Args:
            name: letters, digits, dots, dashes and underscores.
            features: the name of a feature service, or a list of `view:feature`.
            entity_frame: a pandas or Polars frame or Arrow data, which are sent; or a text: the path of Parquet files on the server, or SQL, which
                both may read the repo's file sources and the directories that the server was told of. Its columns come first in the set.
                None for all keys that have rows between `start` and `end`, both closed.
            known_at: what could be known: up to a time, the name of a column of the frame with a time for each row, or `"own"` for each
                row's own time. None for now, which is written down.
            splits: `TimeSplits` or `KeySplits`; the column `__split` says it of each row.
            full_feature_names: `view__feature` instead of `feature`.
            snapshot: keep the rows of the sources that answered.
            format: `parquet`, or `delta` for rows that are a Delta table on the server too. They have the same digest.
            git: write down at which commit the server's repo is.
            threads: of DuckDB, one per core of the server at most.
            register: put it into Feast's registry as a saved data set. Where the registry does not take it, the set is there all the same, and a
                warning (`NotRegistered`) says so.
            on_progress: told how far it is; what it raises ends the build.
        Raises:
            ValueError, TypeError: the arguments cannot be sent. Nothing went out.
            HindcastError: the call failed. After Unavailable, Cancelled or DeadlineExceeded nothing half built is left; whether a build was
                done just before, `list` says.
        """
        order = frame_order(
            name,
            features=features,
            entity_frame=entity_frame,
            start=start,
            end=end,
            known_at=known_at,
            splits=splits,
            full_feature_names=full_feature_names,
            snapshot=snapshot,
            format=format,
            git=git,
            threads=threads,
            register=register,
        )
        self._check_open()
        call = self._methods.build(
            order.requests(), timeout=self._link.attempts(None).seconds_left(), metadata=self._link.metadata()
        )
        answer = _result(call, on_progress, order)
        warn_if_unregistered(answer)
        return TrainingSet(self, answer.training_set)

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
        format: str = "parquet",  # noqa: A002 - the option's name
        git: bool = True,
        seal: bool = True,
        threads: int | None = None,
        register: bool = True,
        on_progress: OnProgress | None = None,
    ) -> "TrainingSet":
        """Build the next version of a set from what a feature service served, joined to labels, out of the server's log of lookups.

        Args:
            name: letters, digits, dots, dashes and underscores.
            service: the feature service.
            labels: what came of it, in any form of an entity frame.
            since, until: of served_at; the first counts, the second does not. None: all; now, which is written down.
            on: `"lookup_id"` or `"request_id"`, or a list of columns of keys; None for the id that the labels have a column of.
            window: for keys: a label is at most so long after served_at.
            label_time: the labels' column of times; None for keys: `event_timestamp`, or the only one.
            pick: of several labels that fit the `"first"` or the `"last"`; None: by keys the first, by an id the last.
            keep_unlabeled: keep rows that have no label, with nulls; otherwise they are counted and left out.
            features: `view:feature` each; None for those that the lookups were answered with, and with `fill` those of the service now.
            fill: `"point-in-time"` reads what a row was not answered with as of served_at; None leaves nulls.
            statuses, ages: a column `<feature>__status` for each feature, `<view>__age_seconds` for each view.
            full_feature_names, splits, snapshot, format, git, threads, register, on_progress: as `build`; splits by time go by served_at.
            seal: put what was answered into tables first. Otherwise only what is in tables is read, and what is not is counted.
        Raises:
            ValueError, TypeError, HindcastError: as `build`.
        """
        order = lookups_order(
            name,
            service=service,
            labels=labels,
            since=since,
            until=until,
            on=on,
            window=window,
            label_time=label_time,
            pick=pick,
            keep_unlabeled=keep_unlabeled,
            features=features,
            fill=fill,
            statuses=statuses,
            ages=ages,
            full_feature_names=full_feature_names,
            splits=splits,
            snapshot=snapshot,
            format=format,
            git=git,
            seal=seal,
            threads=threads,
            register=register,
        )
        self._check_open()
        call = self._methods.from_lookups(
            order.requests(), timeout=self._link.attempts(None).seconds_left(), metadata=self._link.metadata()
        )
        answer = _result(call, on_progress, order)
        warn_if_unregistered(answer)
        return TrainingSet(self, answer.training_set)

    def get(self, ref: str) -> "TrainingSet":
        """A set that is there: `name@vN`, `name` for its newest version, or the beginning of an id.

        Raises:
            HindcastError: the call failed; NotFound where there is none.
        """
        return TrainingSet(self, self._call(self._methods.get, pb.TrainingSetsGetRequest(ref=ref)).training_set)

    def list(self) -> "list[TrainingSet]":
        """All versions of all sets, by name and then by number. Raises HindcastError where the call fails."""
        found: Any = []
        token = ""
        while True:
            page = self._call(self._methods.list, pb.TrainingSetsListRequest(page_size=PAGE_SIZE, page_token=token))
            found += [TrainingSet(self, one) for one in page.training_sets]
            token = page.next_page_token
            if not token:
                return found  # type: ignore[no-any-return]

    def remove(self, ref: str) -> None:
        """Remove one version, `name@vN`, and what Feast's registry has of it; its number is not given again.

        Where the registry does not let its entry go, a warning (`NotRegistered`) says so. Raises HindcastError where the call fails.
        """
        warn_if_unregistered(self._call(self._methods.remove, pb.TrainingSetsRemoveRequest(ref=ref), once=True))

    def rebuild(
        self,
        ref: str,
        *,
        as_recorded: bool = False,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Rebuild:
        """Make a set again from its manifest, and compare; nothing of it stays.

        Args:
            as_recorded: with the manifest's definitions, and of its sources only the files that it names. Otherwise with what is there now.
            threads, on_progress: as in `build`.
        Returns:
            Whether it is the same; if not, which inputs are other ones, and the rows and columns that each changed.
        Raises:
            HindcastError: the call failed.
        """
        self._check_open()
        request = pb.TrainingSetsRebuildRequest(ref=ref, as_recorded=as_recorded, threads=threads or 0)
        call = self._methods.rebuild(
            request, timeout=self._link.attempts(None).seconds_left(), metadata=self._link.metadata()
        )
        return read_rebuild(_result(call, on_progress).report)

    def verify(self, ref: str, *, key: Path | str | None = None) -> Verification:
        """Read all files of a set and hold them against its manifest.

        Args:
            key: the file, here, of the public key of whom you trust: the set must be signed by it.
        Raises:
            OSError: the file of the key cannot be read.
            HindcastError: the call failed.
        """
        request = pb.TrainingSetsVerifyRequest(ref=ref, public_key=key_bytes(key))
        return read_verification(self._call(self._methods.verify, request))

    def diff(self, before: str, after: str) -> Diff:
        """What differs between two sets: rows, cells, columns, and what they were made of. Raises HindcastError where the call fails."""
        return read_diff(self._call(self._methods.diff, pb.TrainingSetsDiffRequest(before=before, after=after)))

    def close(self) -> None:
        """Close the connection; calls in flight end with Cancelled. Closing twice is no error."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TrainingSets({self._link.target!r})"

    def _rows(self, request: pb.TrainingSetsReadRequest) -> Rows:
        self._check_open()
        call = self._methods.read(
            request, timeout=self._link.attempts(None).seconds_left(), metadata=self._link.metadata()
        )

        def take() -> bytes | None:
            try:
                piece = next(call, None)
            except grpc.RpcError as failure:
                raise error_of(failure) from failure
            return None if piece is None else piece.arrow_bytes

        return Rows(Pieces(take))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed; make a new one")

    def _call(self, method: Any, request: Any, *, once: bool = False) -> Any:
        attempts = self._link.attempts(None)
        while True:
            self._check_open()
            try:
                response = method(request, timeout=attempts.seconds_left(), metadata=self._link.metadata())
            except grpc.RpcError as failure:
                wait_seconds = None if once or self._closed else attempts.wait_after(failure.code())
                if wait_seconds is None:
                    raise error_of(failure) from failure
            else:
                attempts.succeeded()
                return response
            time.sleep(wait_seconds)


class TrainingSet(Described):
    """A version of a training set. None of its rows are read before they are asked for, and nothing of it ever changes."""

    def __init__(self, sets: TrainingSets, message: pb.TrainingSet) -> None:
        super().__init__(message)
        self._sets = sets

    @property
    def schema(self) -> "pa.Schema":
        """Of its rows, the column of splits among them. Raises HindcastError where the call fails."""
        return self._rows().schema

    def to_arrow(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> "pa.Table":
        """All rows, or those of a split, in the order of the entity frame or shuffled.

        Args:
            split: its name; the column of splits is left out then.
            columns: which; None for all.
            shuffle_seed: the same seed gives the same order on every machine; None for the frame's order.
        Raises:
            HindcastError: the call failed; NotFound where there is no such split or column.
        """
        return in_order(self._rows(split=split, columns=columns).rest(), shuffle_seed)

    def to_pandas(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """What `to_arrow` gives, as a pandas data frame."""
        return self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed).to_pandas()

    def to_polars(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """What `to_arrow` gives, as a Polars data frame.

        Raises:
            ImportError: Polars is not installed.
        """
        import polars as pl  # noqa: PLC0415 - optional

        return pl.from_arrow(self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed))

    def batches(
        self, rows: int = BATCH_ROWS, *, split: str | None = None, columns: Sequence[str] | None = None
    ) -> Iterator["pa.RecordBatch"]:
        """The rows in batches of `rows` rows but for the last, in the order of the frame; the server sends them as they are taken.

        Args:
            rows: 1,048,576 at most; more are as many.
        Raises:
            ValueError: `rows` is no number above 0.
            HindcastError: as `to_arrow`, here or on the way.
        """
        found = self._rows(rows, split=split, columns=columns)
        return iter(found.next, None)

    def _rows(self, rows: int = BATCH_ROWS, *, split: str | None = None, columns: Sequence[str] | None = None) -> Rows:
        return self._sets._rows(read_request(self.ref, split=split, columns=columns, rows=rows))  # noqa: SLF001 - of one module


def _result(call: Any, on_progress: OnProgress | None, order: Order | None = None) -> Any:
    """The last answer of a call; those before it are told."""
    try:
        for step in call:
            result = told(step, on_progress)
            if result is not None:
                return result
    except grpc.RpcError as failure:
        raise (order.wrong if order is not None and order.wrong is not None else error_of(failure)) from failure
    finally:
        call.cancel()
    raise broken_off()
