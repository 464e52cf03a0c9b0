"""Real services for tests: Redis servers and Hindcast servers, on loopback or sockets, ended by process id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from hindcast.online.embedded import server_program

HINDCAST = Path(sys.executable).with_name("hindcast")
FEAST = Path(sys.executable).with_name("feast")
START_SECONDS = 120.0


def wait_for(condition: Callable[[], object], *, seconds: float = 120.0, what: str = "the condition") -> None:
    """Wait until a condition holds; fail the test when it does not in time: by default, when it looks as if it never will.

    A sealer and a server of training sets are nice: beside three other tests on two cores, what they import takes them half a minute.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {seconds} s"
        time.sleep(0.01)


class Stopwatch:
    """Time as a machine with nothing else to do would count it: without that in which this process, or one that is named, had work
    and no processor. A bound on it holds beside any other load, while the same bound on the clock would judge the machine.
    """

    def __init__(self, *process_ids: int) -> None:
        self._process_ids = (os.getpid(), *process_ids)
        self._starved = self._starved_by_thread()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        # A thread that has ended since takes what it had waited before with it.
        starved = sum(waited - self._starved.get(thread, 0.0) for thread, waited in self._starved_by_thread().items())
        return time.monotonic() - self._began - starved

    def _starved_by_thread(self) -> dict[str, float]:
        return {
            thread: waited
            for process_id in self._process_ids
            for thread, waited in _starved_by_thread(process_id).items()
        }


def starved_seconds(process_id: int) -> float:
    """How long the threads of a process have been ready to run and waited for a processor; 0 once it has ended."""
    return sum(_starved_by_thread(process_id).values())


def _starved_by_thread(process_id: int) -> dict[str, float]:
    waited = {}
    for task in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            waited[str(task)] = int(task.read_text().split()[1]) / 1e9
    return waited


@contextlib.contextmanager
def held_port(port: int = 0) -> Iterator[int]:
    """A TCP port that nothing listens on, and that nobody is given by chance while the block runs; who is told of it may listen there.

    Args:
        port: this one; 0 is a free one.
    Raises:
        OSError: that one is in use.
    """
    with socket.socket() as holder:
        # With these, others who have them too may bind it by its number until one listens, and one that is stopped may be started again.
        # Without a holder, of processes that start servers side by side two can be given one port before either listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", port))
        yield int(holder.getsockname()[1])


@dataclass
class RedisServer:
    """A Redis of a test's own, on a free loopback port."""

    port: int
    process: subprocess.Popen[bytes]
    command: list[str]
    folder: str

    @property
    def connection_string(self) -> str:
        """As `feature_store.yaml` wants it."""
        return f"127.0.0.1:{self.port}"

    def client(self, **options: object) -> Redis:
        """A blocking client."""
        return Redis(port=self.port, socket_timeout=5, **options)

    def pause(self) -> None:
        """Stop it from answering; `resume` lets it go on."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def unread_bytes(self) -> int:
        """How much it has been sent and, paused, has not read."""
        port = f":{self.port:04X}"
        sockets = [line.split()[1:5] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(queues.split(":")[1], 16) for local, _, _, queues in sockets if local.endswith(port))

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again after a kill, with what it has on disk; returns when it answers."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, cwd=self.folder)
        with contextlib.closing(self.client()) as client:
            wait_for(lambda: _answers(client), what="Redis")


@contextlib.contextmanager
def run_redis(*options: str, port: int | None = None) -> Iterator[RedisServer]:
    """Run a Redis server without persistence until the block ends.

    Args:
        port: one that the caller holds.
    """
    with contextlib.ExitStack() as stack:
        own_port = stack.enter_context(held_port()) if port is None else port
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        command = [
            *(str(server_program()), "--port", str(own_port), "--bind", "127.0.0.1", "--dir", folder),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning", *options),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        server = RedisServer(own_port, process, command, folder)
        try:
            wait_for(lambda: _listens(own_port), what="Redis")
            yield server
        finally:
            server.resume()
            server.kill()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class HindcastServer:
    """A running `hindcast serve`.

    Attributes:
        address: HOST:PORT.
        output: the lines it has printed, standard error included.
    """

    address: str
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)

    def worker_ids(self) -> list[int]:
        """Process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split() if b"hindcast.serving.worker" in _command_line(child)]

    def stopwatch(self) -> Stopwatch:
        """Of what this process and the server do."""
        return Stopwatch(self.process.pid, *self.worker_ids())

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def _command_line(process_id: str) -> bytes:
    """Of a process; nothing once it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    return b""


def run_hindcast(
    repo: Path, *options: str, env: dict[str, str] | None = None
) -> contextlib.AbstractContextManager[HindcastServer]:
    """Run `hindcast serve` on a free port until the block ends; the block begins when it serves."""
    return _run_server(["serve", "--repo", str(repo), *options], env=env)


def run_training_sets(
    repo: Path, *options: str, env: dict[str, str] | None = None
) -> contextlib.AbstractContextManager[HindcastServer]:
    """Run `hindcast dataset serve` on a free port until the block ends; the block begins when it serves."""
    return _run_server(["dataset", "serve", "--repo", str(repo), *options], env=env)


@contextlib.contextmanager
def _run_server(arguments: list[str], *, env: dict[str, str] | None) -> Iterator[HindcastServer]:
    command = [str(HINDCAST), *arguments, "--address", "127.0.0.1:0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",  # gRPC logs what it cannot read as it came
        env={**os.environ, **(env or {})},
    )
    server = HindcastServer("", process)
    serving = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.output.append(line.rstrip())
            if line.startswith("serving"):
                server.address = line.split(" on ")[1].split(" ")[0]
                serving.set()
        serving.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert serving.wait(START_SECONDS), "hindcast serve printed no line in time:\n" + "\n".join(server.output)
        assert server.address, "hindcast serve ended:\n" + "\n".join(server.output)
        yield server
    finally:
        for seconds in (2, 20):
            # A second one does not wait for callers.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.terminate()
                process.wait(seconds)
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def run_feast_listen(repo: Path) -> Iterator[str]:
    """Run Feast's own gRPC server on a free port until the block ends; its address, which may not answer yet."""
    with held_port() as port:
        address = f"127.0.0.1:{port}"
        process = subprocess.Popen(
            [FEAST, "listen", "--address", address], cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_feast(repo: Path, *arguments: str) -> str:
    """Run the real `feast` command in a repo; its output."""
    done = subprocess.run([FEAST, *arguments], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"feast {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
