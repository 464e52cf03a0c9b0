"""The sockets of a worker's server. gRPC makes them and does not hand them out, so they are found among the descriptors."""

import asyncio
import contextlib
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_QUEUE_SECONDS = 2.0
"""For gRPC's thread to accept who has connected already; on a busy machine it waits for a processor."""

_LOOK_SECONDS = 0.0005
_TCP_INFO_ACCEPT_QUEUE = struct.Struct("=24xI")
"""Of a listening socket, `tcpi_unacked` counts the connections that nobody has accepted yet."""

_CONNECTIONS_BELOW = 4096
_SPARE = 32
"""Descriptors that stay free for what is opened above the connections."""


@contextlib.contextmanager
def above_connections() -> Iterator[None]:
    """Give what the block opens, which is the listening socket, a higher descriptor than connections will have.

    The kernel closes the descriptors of a killed process from the highest down. Below its connections, a listening socket
    outlives them by a moment: callers whose connection breaks connect anew to the dying process, are reset (25 times of 60
    on loopback, and never from above), and gRPC lets all their calls fail for a second.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < min(limit, _CONNECTIONS_BELOW) - _SPARE:
            taken.append(os.dup(taken[0]))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


async def stop_listening(port: int) -> None:
    """Take the process's listening sockets out of the port, as gRPC cannot before it stops.

    The kernel resets connections that are made and not yet accepted, so a moment is awaited when there is none.
    """
    deadline = time.monotonic() + _QUEUE_SECONDS
    for listener in _sockets(port, _listens):
        while _accept_queue(listener) and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(_LOOK_SECONDS)
        # gRPC sees a listener that fails, says so in its log, and lets go of it.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RD)


def connections(port: int) -> int:
    """How many callers are connected to the port of this process."""
    return sum(1 for _ in _sockets(port, _is_connected))


def _sockets(port: int, wanted: Callable[[socket.socket], bool]) -> Iterator[socket.socket]:
    """Sockets of this process that are bound to a port. gRPC made them, and does not hand them out.

    Each is a duplicate, closed when the next one is asked for.
    """
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if not str(descriptor.readlink()).startswith("socket:"):
                continue
            duplicate = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            continue  # gRPC has closed it meanwhile
        with duplicate:
            if duplicate.family in {socket.AF_INET, socket.AF_INET6} and _is_on(duplicate, port) and wanted(duplicate):
                yield duplicate


def _is_on(one: socket.socket, port: int) -> bool:
    try:
        return bool(one.getsockname()[1] == port)
    except OSError:
        return False


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def _accept_queue(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_ACCEPT_QUEUE.size)
    (waiting,) = _TCP_INFO_ACCEPT_QUEUE.unpack(info)
    return int(waiting)
