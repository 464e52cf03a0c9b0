"""Requests of the services that come with grpcio (health, reflection), parsed here: grpcio answers bytes that do not parse
with UNKNOWN and an exception's text, and logs a traceback per call.
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
        return request_type.FromString(request)
    except DecodeError:
        await abort(context, not_a_request(request_type.DESCRIPTOR.full_name))


def not_a_request(message_name: str) -> InvalidArgument:
    """The error for bytes that are not the message that a method takes."""
    return InvalidArgument.at("request", f"the bytes are not a {message_name}; check the client's protos")
