"""Calls as gRPC's asyncio server hands them over, in bytes, and how they end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc

from hindcast.clock import Deadline

Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]
"""Of a unary RPC."""

UploadHandler = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], Awaitable[bytes]]
"""Of a client-streaming RPC."""

StreamHandler = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]
"""Of a bidirectional RPC."""

CALL_METADATA: ContextVar[Sequence[tuple[str, Any]]] = ContextVar("hindcast-call-metadata", default=())
"""The metadata of the call in whose task one is. gRPC's context makes it anew each time that it is asked for it."""


def deadline_of(context: grpc.aio.ServicerContext, *, timeout_ms: int) -> Deadline:
    """A call's own deadline, or one of `timeout_ms` where it brings none."""
    remaining = context.time_remaining()
    return Deadline(timeout_ms / 1000 if remaining is None else remaining)


class Caller(NamedTuple):
    """What the metadata of a call says of it: Feast's requests have no fields for that, and proxies can add it.

    Attributes:
        request_id: of `x-request-id`; empty where there is none.
        tags: of `hindcast-tag-<name>`, by name.
    """

    request_id: str
    tags: Mapping[str, str]


def caller_of_call() -> Caller:
    """Who calls the handler that runs; of an entry that is repeated, the last counts. Entries of bytes (`…-bin`) are left out."""
    request_id, tags = "", {}
    for key, value in CALL_METADATA.get():
        if key == _REQUEST_ID_KEY:
            request_id = value
        elif key.startswith(_TAG_PREFIX) and isinstance(value, str):
            tags[key.removeprefix(_TAG_PREFIX)] = value
    return Caller(request_id, tags)


NOBODY = Caller("", {})
"""A call that says nothing of itself."""

_REQUEST_ID_KEY = "x-request-id"
_TAG_PREFIX = "hindcast-tag-"


def code_of(error: BaseException, context: grpc.aio.ServicerContext) -> grpc.StatusCode:
    """The status with which a call ends whose handler has raised."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        # gRPC cancels the handler when the deadline has come, and when the caller has gone before that.
        expired = context.time_remaining() == 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
    # What `abort` was given; gRPC answers any other exception with UNKNOWN.
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK else grpc.StatusCode.UNKNOWN
