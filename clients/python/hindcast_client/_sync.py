"""The blocking client."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc

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
from hindcast_client._errors import HindcastError, error_of
from hindcast_client._info import ServerInfo, read_info
from hindcast_client._policy import RetryPolicy
from hindcast_client._push import Destination, PushResult, push_request, read_push_result
from hindcast_client._receipt import Receipt, ReceiptPage, list_request, read_page, read_receipt, receipt_request
from hindcast_client._request import ask
from hindcast_client._result import FeatureResult, read_result
from hindcast_client._stream import Asked, Lookup


class Client:
    """One connection to a Hindcast server. Safe to share between threads; not across a fork.

    Args:
        target: "host:port", or any gRPC target ("dns:///host:port", "unix:/path").
        tls: None speaks plain text.
        token: sent as `authorization: Bearer …` with every attempt; a callable is asked each time, so it can refresh.
            Without `tls` it travels in the clear: only do that on a network that encrypts by itself.
        timeout_seconds: the deadline of a call, retries included, unless the call has its own.
        retry: when to try again. Lookups only read and pushes carry an id, so a retry is safe; each attempt of a lookup that
            the server saw has its receipt.
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
        self._methods = Methods(self._channel)
        self._closed = False

    def get_online_features(
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
        """The newest known features of n entities, one row per entity row, in the order asked, duplicates kept.

        Args:
            features: the name of a feature service, or a list of `view:feature` references.
            entities: n rows, as columns (a dict of join key to n values), as rows (a list of dicts), or as a pandas
                DataFrame or an Arrow table. A null matches nothing.
            request_data: n rows of what on-demand views compute from, in any of the same forms.
            full_feature_names: name columns `view__feature` instead of `feature`.
            request_id: your own id of this request, kept in the receipt; 256 bytes at most.
            tags: kept in the receipt, such as the model's name and version; 32 at most.
            timeout_seconds: this call's deadline instead of the client's.

        Raises:
            ValueError, TypeError: the arguments cannot be sent; says which column and row. Nothing went out.
            HindcastError: the call failed; see the tree in this package's errors.
        """
        question = ask(
            features=features,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            request_id=request_id,
            tags=tags,
        )
        return read_result(question, self._call(self._methods.get_online_features, question.message, timeout_seconds))

    def stream_online_features(self, lookups: Iterable[Lookup]) -> Iterator[FeatureResult | HindcastError]:
        """Many lookups on one open call, which costs the server less for each than calls of their own.

        Args:
            lookups: taken as the server asks for more, some 64 ahead of the answers, in a thread of gRPC's.
        Yields:
            One outcome per lookup, in order: its result, or the error that it failed with. One that fails does not end the
            stream.
        Raises:
            ValueError, TypeError: a lookup cannot be sent; those before it may be without an outcome.
            HindcastError: the stream itself ended. `Unavailable` means that the server is stopping or gone: lookups without
                an outcome were not answered, and can be asked again on another stream. Nothing is retried here.
        """
        if self._closed:
            raise RuntimeError(f"{self!r} is closed; make a new one")
        asked = Asked()
        call = self._methods.stream_online_features(asked.requests(lookups), metadata=self._link.metadata())
        try:
            for response in call:
                yield asked.outcome(response)
        except grpc.RpcError as failure:
            raise asked.wrong or error_of(failure) from failure
        finally:
            call.cancel()

    def push(
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
        """Write n rows of a push source's views, or of one view. What is counted as written is stored when this returns.

        Args:
            push_source, feature_view: exactly one of them.
            rows: n rows, as columns (a dict of name to n values), as rows (a list of dicts), or as a pandas DataFrame or
                an Arrow table; 10,000 at most. Every join key and every feature of the views is a column; null is a
                value like others, but a row with a null join key is not stored.
            join_keys: which of the columns are join keys.
            event_timestamp: which column says when each row was true: datetimes, a naive one is UTC.
            created_timestamp: which column says when each became known; None means now.
            to: "online", "offline" or "online_and_offline".
            timeout_seconds: this call's deadline instead of the client's. After DeadlineExceeded the rows may be stored.

        Raises:
            ValueError, TypeError: the arguments cannot be sent; says which column and row. Nothing went out.
            HindcastError: the call failed. To push again is safe: newest wins, and a retry of this call appends nothing
                twice.
        """
        request = push_request(
            push_source=push_source,
            feature_view=feature_view,
            rows=rows,
            join_keys=join_keys,
            event_timestamp=event_timestamp,
            created_timestamp=created_timestamp,
            to=to,
        )
        return read_push_result(self._call(self._methods.push, request, timeout_seconds))

    def get_receipt(
        self, lookup_id: str | None = None, *, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> Receipt:
        """What one lookup asked and was answered, value by value, as soon as its answer is there.

        Args:
            lookup_id: of an answer, or of an error.
            request_id: instead: what the caller of the lookup called it. Of several, the newest.
            timeout_seconds: this call's deadline instead of the client's.

        Raises:
            ValueError: not exactly one of the two is given.
            HindcastError: the call failed; NotFound where this server's log has no such lookup.
        """
        request = receipt_request(lookup_id=lookup_id, request_id=request_id)
        return read_receipt(self._call(self._methods.get_receipt, request, timeout_seconds))

    def list_receipts(
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
        """The lookups that match, the newest first, a page at a time.

        Args:
            since, until: of when they were served; the first counts, the second does not. A naive time is UTC.
            feature_service: only lookups of this one.
            tags: that a lookup has, all of them.
            codes: one of which it ended with; empty means any.
            request_id: what its caller called it.
            page_size: 50 if not given, 500 at most.
            page_token: `next_page_token` of the page before.
            timeout_seconds: this call's deadline instead of the client's.

        Raises:
            TypeError: a time is none.
            HindcastError: the call failed; NotFound where no lookup matches and there never was such a feature service.
        """
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
        return read_page(self._call(self._methods.list_receipts, request, timeout_seconds))

    def get_server_info(self, *, timeout_seconds: float | None = None) -> ServerInfo:
        """Which server answers, and from which definitions. Raises HindcastError where the call fails."""
        return read_info(self._call(self._methods.get_server_info, GetServerInfoRequest(), timeout_seconds))

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
        return f"Client({self._link.target!r})"

    def _call(self, method: Any, request: Any, timeout_seconds: float | None) -> Any:
        attempts = self._link.attempts(timeout_seconds)
        while True:
            if self._closed:
                raise RuntimeError(f"{self!r} is closed; make a new one")
            try:
                response = method(request, timeout=attempts.seconds_left(), metadata=self._link.metadata())
            except grpc.RpcError as failure:
                wait_seconds = None if self._closed else attempts.wait_after(failure.code())
                if wait_seconds is None:
                    raise error_of(failure) from failure
            else:
                attempts.succeeded()
                return response
            time.sleep(wait_seconds)
