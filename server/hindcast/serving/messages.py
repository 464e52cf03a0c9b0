"""Requests are parsed here, those of the services that come with grpcio (health, reflection) too: grpcio answers bytes that do not
parse with UNKNOWN and an exception's text, and logs a traceback per call.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from hindcast.errors import InvalidArgument
from hindcast.serving.status import abort

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


def parsed(
    handle: Callable[[Request, grpc.aio.ServicerContext], Awaitable[Response]], request_type: type[Request]
) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[Response]]:
    """A handler of one request's bytes, from one of the request."""

    async def handle_bytes(request: bytes, context: grpc.aio.ServicerContext) -> Response:
        return await handle(await _message(request, request_type, context), context)

    return handle_bytes


def parsed_stream(
    handle: Callable[[AsyncIterator[Request], grpc.aio.ServicerContext], AsyncIterator[Response]],
    request_type: type[Request],
) -> Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[Response]]:
    """A handler of a stream of requests' bytes, from one of the requests."""

    async def handle_bytes(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Response]:
        messages = (await _message(request, request_type, context) async for request in requests)
        async for response in handle(messages, context):
            yield response

    return handle_bytes


async def _message(request: bytes, request_type: type[Request], context: grpc.aio.ServicerContext) -> Request:
    try:
        return message_of(request_type, request)
    except InvalidArgument as error:
        await abort(context, error)


def message_of(request_type: type[Request], request: bytes, *, name: str | None = None) -> Request:
    """The request that these bytes are.

    Args:
        name: what its caller knows it by; None for the type's own name.
    Raises:
        InvalidArgument: they are none.
    """
    try:
        return request_type.FromString(request)
    except DecodeError as error:
        raise not_a_request(name or request_type.DESCRIPTOR.full_name) from error


def not_a_request(message_name: str) -> InvalidArgument:
    """The error for bytes that are not the message that a method takes."""
    return InvalidArgument.at("request", f"the bytes are not a {message_name}; check the client's protos")
