"""The asyncio client: `Client` with `await`. Only the call loop and the life of the channel are written again."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from hindcast.v1.feature_service_pb2 import GetServerInfoRequest
from hindcast_client._channel import (
    DEFAULT_RETRY,
    NO_OPTIONS,
    TIMEOUT_SECONDS,
    TLS,
    ChannelOptions,
    Link,
    Methods,
    Token,
)
from hindcast_client._columns import Table
from hindcast_client._ending import Ending
from hindcast_client._errors import Cancelled, HindcastError, error_of
from hindcast_client._info import ServerInfo, read_info
from hindcast_client._policy import RetryPolicy
from hindcast_client._push import Destination, PushResult, push_request, read_push_result
from hindcast_client._receipt import Receipt, ReceiptPage, list_request, read_page, read_receipt, receipt_request
from hindcast_client._request import ask
from hindcast_client._result import FeatureResult, read_result
from hindcast_client._stream import Asked, Lookup


class AsyncClient:
    """One connection to a Hindcast server, for one event loop. Arguments as for `Client`.

    It may be made outside of a loop; the first call ties it to the running one. A callable `token` is called on the
    loop, so it must not block.
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
        # A grpc.aio channel belongs to the loop that is current when it is made, so it is made by the first call.
        self._channel: Any = None
        self._methods: Methods | None = None
        self._closed = False

    async def get_online_features(
        self,
        *,
        features: str | Sequence[str],
        entities: Table,
        request_data: Table | None = None,
        full_feature_names: bool = False,
        request_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureResult:
        """As `Client.get_online_features`. Cancelling the task cancels the call; nothing is retried then."""
        question = ask(
            features=features,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            request_id=request_id,
            tags=tags,
        )
        method = self._open().get_online_features
        return read_result(question, await self._call(method, question.message, timeout_seconds))

    async def stream_online_features(
        self, lookups: AsyncIterator[Lookup]
    ) -> AsyncIterator[FeatureResult | HindcastError]:
        """As `Client.stream_online_features`."""
        asked = Asked()
        method = self._open().stream_online_features
        call = method(asked.async_requests(lookups), metadata=self._link.metadata())
        ending = Ending(call)
        try:
            async for response in call:
                yield asked.outcome(response)
        except grpc.RpcError as failure:
            raise asked.wrong or error_of(await ending.failure(failure)) from failure
        except asyncio.CancelledError:
            # gRPC cancels a call whose requests fail, and tells its reader like a task that was cancelled.
            if asked.wrong is None:
                raise
            raise asked.wrong from None
        finally:
            call.cancel()

    async def push(
        self,
        *,
        rows: Table,
        join_keys: Sequence[str],
        event_timestamp: str,
        push_source: str | None = None,
        feature_view: str | None = None,
        created_timestamp: str | None = None,
        to: Destination = "online",
        timeout_seconds: float | None = None,
    ) -> PushResult:
        """As `Client.push`. Cancelling the task cancels the call; the rows may be stored then."""
        request = push_request(
            push_source=push_source,
            feature_view=feature_view,
            rows=rows,
            join_keys=join_keys,
            event_timestamp=event_timestamp,
            created_timestamp=created_timestamp,
            to=to,
        )
        return read_push_result(await self._call(self._open().push, request, timeout_seconds))

    async def get_receipt(
        self, lookup_id: str | None = None, *, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> Receipt:
        """As `Client.get_receipt`."""
        request = receipt_request(lookup_id=lookup_id, request_id=request_id)
        return read_receipt(await self._call(self._open().get_receipt, request, timeout_seconds))

    async def list_receipts(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        feature_service: str | None = None,
        tags: Mapping[str, str] | None = None,
        codes: Sequence[grpc.StatusCode] = (),
        request_id: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ReceiptPage:
        """As `Client.list_receipts`."""
        request = list_request(
            since=since,
            until=until,
            feature_service=feature_service,
            tags=tags,
            codes=codes,
            request_id=request_id,
            page_size=page_size,
            page_token=page_token,
        )
        return read_page(await self._call(self._open().list_receipts, request, timeout_seconds))

    async def get_server_info(self, *, timeout_seconds: float | None = None) -> ServerInfo:
        """As `Client.get_server_info`."""
        return read_info(await self._call(self._open().get_server_info, GetServerInfoRequest(), timeout_seconds))

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
        return f"AsyncClient({self._link.target!r})"

    def _open(self) -> Methods:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed; make a new one")
        if self._methods is None:
            self._channel = self._link.open(grpc.aio)
            self._methods = Methods(self._channel)
        return self._methods

    async def _call(self, method: Any, request: Any, timeout_seconds: float | None) -> Any:
        attempts = self._link.attempts(timeout_seconds)
        while True:
            if self._closed:
                raise RuntimeError(f"{self!r} is closed; make a new one")
            try:
                response = await method(request, timeout=attempts.seconds_left(), metadata=self._link.metadata())
            except grpc.RpcError as failure:
                wait_seconds = None if self._closed else attempts.wait_after(failure.code())
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
