"""Load: h2load, a compiled HTTP/2 generator, posts gRPC frames and times every request.

A generator in Python shares the cores with what it measures, and is slower than the server. h2load posts one body per run, so
the bodies of a measurement are posted in turn. It knows HTTP and not gRPC, where an error is HTTP 200 too: that every
reply was the answer is known by its length, since an error has none.
"""

import re
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from failure import BenchmarkFailed

CONNECTIONS = 4
STREAMS = 4
"""Of the closed loop, where nothing else is said: 16 requests are always under way."""

_FRAME_HEAD = struct.Struct(">BI")
"""Of a gRPC message on the wire: not compressed, and its length."""

_CLOSED_RUN_REQUESTS = 4 * CONNECTIONS * STREAMS
_OPEN_RUN_REQUESTS = 50
"""A run of one body is at least this long, or it would measure its own beginning and end."""

_STATUS = re.compile(r"(grpc-status|grpc-message): (.*)")
"""In h2load's verbose words; a success says it in trailers, which h2load does not print."""

_RUN_SECONDS_MAX = 120
_REQUESTS = re.compile(
    r"^requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$",
    re.MULTILINE,
)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Body:
    """One request as it is posted, and how long its answer is on the wire."""

    path: Path
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class Replies:
    """What became of some requests, all answered.

    Attributes:
        seconds: from the first request to the last answer, of each run and summed.
        latencies_us: one per request.
    """

    seconds: float
    latencies_us: Sequence[int]

    def percentile_us(self, share: float) -> int:
        """The latency that this share of requests did not exceed."""
        ordered = sorted(self.latencies_us)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def h2load_version() -> str:
    """What h2load says of itself.

    Raises:
        BenchmarkFailed: it is not installed.
    """
    return _run_h2load("--version").strip()


def ask(address: str, method: str, request: bytes) -> bytes:
    """One call by grpcio; the answer's bytes."""
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        return bytes(channel.unary_unary(method)(request, timeout=60, wait_for_ready=True))


def write_body(path: Path, request: bytes, *, answer: bytes) -> Body:
    """Keep a request as a file that h2load can post."""
    path.write_bytes(_FRAME_HEAD.pack(0, len(request)) + request)
    return Body(path, _FRAME_HEAD.size + len(answer))


def closed_loop(
    address: str,
    method: str,
    bodies: Sequence[Body],
    *,
    requests: int,
    connections: int = CONNECTIONS,
    streams: int = STREAMS,
) -> Replies:
    """Post that many requests, each as soon as another is answered.

    Args:
        streams: of each connection, requests that are under way at once.
    Raises:
        BenchmarkFailed: a call failed.
    """
    options = [f"--clients={connections}", f"--max-concurrent-streams={streams}"]
    runs = min(len(bodies), max(1, requests // _CLOSED_RUN_REQUESTS))
    per_run = max(connections * streams, requests // runs)
    return _joined([_post(address, method, body, per_run, options) for body in bodies[:runs]])


def open_loop(address: str, method: str, bodies: Sequence[Body], *, rate: int, seconds: float) -> Replies:
    """Post that many requests a second, answered or not, over one connection per body.

    The first request of a connection is not counted: it also waits for the connection, which a client makes once.

    Raises:
        BenchmarkFailed: a call failed.
    """
    options = ["--clients=1", "--max-concurrent-streams=100", f"--rps={rate}"]
    requests = round(rate * seconds)
    runs = min(len(bodies), max(1, requests // _OPEN_RUN_REQUESTS))
    replies = [_post(address, method, body, requests // runs + 1, options) for body in bodies[:runs]]
    return _joined([Replies(of_run.seconds, of_run.latencies_us[1:]) for of_run in replies])


def _joined(runs: Sequence[Replies]) -> Replies:
    return Replies(sum(run.seconds for run in runs), [latency for run in runs for latency in run.latencies_us])


def _post(address: str, method: str, body: Body, requests: int, options: Sequence[str]) -> Replies:
    arguments = [
        *options,
        f"--requests={requests}",
        f"--data={body.path}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://{address}{method}",
    ]
    with tempfile.NamedTemporaryFile(prefix="h2load-", suffix=".tsv") as log:
        printed = _run_h2load(f"--log-file={log.name}", *arguments)
        lines = [tuple(map(int, line.split("\t"))) for line in Path(log.name).read_text().splitlines()]
    counted, data = _REQUESTS.search(printed), _DATA.search(printed)
    if counted is None or data is None:
        raise BenchmarkFailed(f"h2load printed no summary that this benchmark can read:\n{printed}")
    total, done, succeeded, failed, errored, timeout = map(int, counted.groups())
    if not total == done == succeeded == len(lines) == requests or failed or errored or timeout:
        raise BenchmarkFailed(f"{method}: not all of {requests} requests were answered:\n{printed}")
    received, expected = int(data.group(1)), requests * body.answer_bytes
    if received != expected:
        raise BenchmarkFailed(
            f"{method}: {requests} answers have {received:,} bytes and should have {expected:,}. The same load once more "
            f"gives {_errors(arguments)}"
        )
    lines.sort()
    seconds = (max(began + took for began, _, took in lines) - lines[0][0]) / 1e6
    return Replies(seconds, [took for _, _, took in lines])


def _errors(arguments: Sequence[str]) -> str:
    """What a server says when a load fails, as far as it fails again."""
    printed = _run_h2load("--verbose", *arguments)
    said = Counter(f"{name} {value}" for name, value in _STATUS.findall(printed))
    return ", ".join(f"{count} x {words}" for words, count in said.most_common()) or "no gRPC error"


def _run_h2load(*arguments: str) -> str:
    program = shutil.which("h2load")
    if program is None:
        raise BenchmarkFailed(
            "h2load is not installed, and it is the load generator; install Debian's package nghttp2-client "
            "(elsewhere it is a part of nghttp2)"
        )
    command = [program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(f"{shlex.join(command)} did not end within {_RUN_SECONDS_MAX} s") from error
    if done.returncode != 0:
        raise BenchmarkFailed(f"{shlex.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
