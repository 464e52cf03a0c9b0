"""The asyncio client of training sets: `TrainingSets` with `await`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from hindcast.v1 import training_sets_pb2 as pb
from hindcast_client._build import Order, Splits, frame_order, lookups_order
from hindcast_client._channel import DEFAULT_RETRY, NO_OPTIONS, TLS, ChannelOptions, Link, Token
from hindcast_client._ending import Ending
from hindcast_client._errors import Cancelled, error_of
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


class AsyncTrainingSets:
    """The training sets that a server builds and keeps, for one event loop. Arguments as for `TrainingSets`.

    It may be made outside of a loop; the first call ties it to the running one.
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
        self._channel: Any = None
        self._methods: SetMethods | None = None
        self._closed = False

    async def build(
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
    ) -> "AsyncTrainingSet":
        """As `TrainingSets.build`. Cancelling the task ends the build. `on_progress` is called on the loop, so it must not block."""
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
        call = self._open().build(_in_threads(order), **self._options())
        answer = await _result(call, on_progress, order)
        warn_if_unregistered(answer)
        return AsyncTrainingSet(self, answer.training_set)

    async def from_lookups(
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
    ) -> "AsyncTrainingSet":
        """As `TrainingSets.from_lookups`; see `build`."""
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
        call = self._open().from_lookups(_in_threads(order), **self._options())
        answer = await _result(call, on_progress, order)
        warn_if_unregistered(answer)
        return AsyncTrainingSet(self, answer.training_set)

    async def get(self, ref: str) -> "AsyncTrainingSet":
        """As `TrainingSets.get`."""
        answer = await self._call(self._open().get, pb.TrainingSetsGetRequest(ref=ref))
        return AsyncTrainingSet(self, answer.training_set)

    async def list(self) -> "list[AsyncTrainingSet]":
        """As `TrainingSets.list`."""
        found: Any = []
        token = ""
        while True:
            request = pb.TrainingSetsListRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self._call(self._open().list, request)
            found += [AsyncTrainingSet(self, one) for one in page.training_sets]
            token = page.next_page_token
            if not token:
                return found  # type: ignore[no-any-return]

    async def remove(self, ref: str) -> None:
        """As `TrainingSets.remove`."""
        warn_if_unregistered(await self._call(self._open().remove, pb.TrainingSetsRemoveRequest(ref=ref), once=True))

    async def rebuild(
        self,
        ref: str,
        *,
        as_recorded: bool = False,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Rebuild:
        """As `TrainingSets.rebuild`."""
        request = pb.TrainingSetsRebuildRequest(ref=ref, as_recorded=as_recorded, threads=threads or 0)
        call = self._open().rebuild(request, **self._options())
        return read_rebuild((await _result(call, on_progress)).report)

    async def verify(self, ref: str, *, key: Path | str | None = None) -> Verification:
        """As `TrainingSets.verify`."""
        request = pb.TrainingSetsVerifyRequest(ref=ref, public_key=key_bytes(key))
        return read_verification(await self._call(self._open().verify, request))

    async def diff(self, before: str, after: str) -> Diff:
        """As `TrainingSets.diff`."""
        request = pb.TrainingSetsDiffRequest(before=before, after=after)
        return read_diff(await self._call(self._open().diff, request))

    async def close(self) -> None:
        """Close the connection; calls in flight end with Cancelled. Closing twice is no error."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncTrainingSets({self._link.target!r})"

    async def _rows(self, request: pb.TrainingSetsReadRequest) -> Rows:
        call = self._open().read(request, **self._options())
        loop = asyncio.get_running_loop()

        async def take() -> bytes | None:
            try:
                piece = await call.read()
            except grpc.RpcError as failure:
                raise error_of(failure) from failure
            return None if piece is grpc.aio.EOF else piece.arrow_bytes

        # Arrow reads a file, and waits for it: in a thread, while the loop goes on.
        pieces = Pieces(lambda: asyncio.run_coroutine_threadsafe(take(), loop).result())
        return await _uncancelled(call, lambda: Rows(pieces))

    def _options(self) -> dict[str, Any]:
        return {"timeout": self._link.attempts(None).seconds_left(), "metadata": self._link.metadata()}

    def _open(self) -> SetMethods:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed; make a new one")
        if self._methods is None:
            self._channel = self._link.open(grpc.aio)
            self._methods = SetMethods(self._channel)
        return self._methods

    async def _call(self, method: Any, request: Any, *, once: bool = False) -> Any:
        attempts = self._link.attempts(None)
        while True:
            try:
                response = await method(request, timeout=attempts.seconds_left(), metadata=self._link.metadata())
            except grpc.RpcError as failure:
                wait_seconds = None if once or self._closed else attempts.wait_after(failure.code())
                if wait_seconds is None:
                    raise error_of(failure) from failure
            except asyncio.CancelledError:
                # grpc.aio tells a call that `close()` ended like a task that was cancelled; only the latter is.
                task = asyncio.current_task()
                if not self._closed or (task is not None and task.cancelling()):
                    raise
                raise Cancelled("this client was closed under the call", code=grpc.StatusCode.CANCELLED) from None
            else:
                attempts.succeeded()
                return response
            await asyncio.sleep(wait_seconds)


class AsyncTrainingSet(Described):
    """A version of a training set: `TrainingSet` with `await` where rows are read."""

    def __init__(self, sets: AsyncTrainingSets, message: pb.TrainingSet) -> None:
        super().__init__(message)
        self._sets = sets

    async def schema(self) -> "pa.Schema":
        """As `TrainingSet.schema`."""
        return (await self._rows()).schema

    async def to_arrow(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> "pa.Table":
        """As `TrainingSet.to_arrow`."""
        found = await self._rows(split=split, columns=columns)
        return await asyncio.to_thread(lambda: in_order(found.rest(), shuffle_seed))

    async def to_pandas(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """As `TrainingSet.to_pandas`."""
        return (await self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed)).to_pandas()

    async def to_polars(
        self, *, split: str | None = None, columns: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> Any:
        """As `TrainingSet.to_polars`."""
        import polars as pl  # noqa: PLC0415 - optional

        return pl.from_arrow(await self.to_arrow(split=split, columns=columns, shuffle_seed=shuffle_seed))

    async def batches(
        self, rows: int = BATCH_ROWS, *, split: str | None = None, columns: Sequence[str] | None = None
    ) -> AsyncIterator["pa.RecordBatch"]:
        """As `TrainingSet.batches`."""
        found = await self._rows(rows, split=split, columns=columns)
        while (batch := await asyncio.to_thread(found.next)) is not None:
            yield batch

    async def _rows(
        self, rows: int = BATCH_ROWS, *, split: str | None = None, columns: Sequence[str] | None = None
    ) -> Rows:
        return await self._sets._rows(read_request(self.ref, split=split, columns=columns, rows=rows))  # noqa: SLF001 - of one module


async def _in_threads(order: Order) -> AsyncIterator[Any]:
    """The messages of a build, each made beside the loop."""
    requests = order.requests()
    while (request := await asyncio.to_thread(next, requests, None)) is not None:
        yield request


async def _uncancelled(call: Any, work: Callable[[], Rows]) -> Rows:
    """What some work in a thread gives, which waits for a call; the call ends if this is cancelled."""
    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        call.cancel()
        raise


async def _result(call: Any, on_progress: OnProgress | None, order: Order | None = None) -> Any:
    """The last answer of a call; those before it are told."""
    ending = Ending(call)
    try:
        async for step in call:
            result = told(step, on_progress)
            if result is not None:
                return result
    except grpc.RpcError as failure:
        if order is not None and order.wrong is not None:
            raise order.wrong from failure
        raise error_of(await ending.failure(failure)) from failure
    except asyncio.CancelledError:
        # gRPC cancels a call whose requests fail, and tells its reader like a task that was cancelled.
        if order is None or order.wrong is None:
            raise
        raise order.wrong from None
    finally:
        call.cancel()
    raise broken_off()
