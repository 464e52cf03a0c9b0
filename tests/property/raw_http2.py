"""HTTP/2 written by hand, so that what no client would send can be sent."""

import socket
import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as HPACK literals, never indexed; names and values under 127 bytes."""
    return b"".join(
        b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )


def call_headers(path: str, **others: str | None) -> dict[str, str]:
    """The headers of a gRPC call; `others` replace or, where None, remove some (`_` stands for `-`)."""
    headers: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    headers |= {name.replace("_", "-"): value for name, value in others.items()}
    return {name: value for name, value in headers.items() if value is not None}


def message(content: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message in its frame of five bytes, which may lie."""
    return struct.pack(">BI", flag, len(content) if length is None else length) + content


def connect(address: str) -> socket.socket:
    """A connection on which nothing has been said."""
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=5)


def exchange(address: str, sent: bytes, *, until: bytes, seconds: float = 5.0) -> bytes:
    """Send bytes after the preface, and give what came back until some bytes stood in it or the other side hung up.

    Raises:
        TimeoutError: neither happened in time.
    """
    with connect(address) as connection:
        connection.settimeout(seconds)
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + sent)
        received = b""
        while until not in received:
            try:
                chunk = connection.recv(65_536)
            except ConnectionError:
                break
            if not chunk:
                break
            received += chunk
        return received
