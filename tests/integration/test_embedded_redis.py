"""The embedded Redis: one per repo, whoever starts it first, however deep or odd the repo's path is."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from commands import run_command
from hindcast.errors import StoreUnavailable
from hindcast.online import embedded as embedded_module
from hindcast.online.embedded import EmbeddedRedis
from hindcast.settings import state_dir
from services import HINDCAST, wait_for

CONFIG = "project: p\nprovider: local\nonline_store:\n  type: hindcast.online.plugin.PackedRedisOnlineStore\n"
MakeRepo = Callable[..., Path]


@pytest.fixture
def make_repo(tmp_path, monkeypatch) -> Iterator[MakeRepo]:
    """Makes repos whose embedded Redis, should one run, ends with the test."""
    monkeypatch.delenv("HINDCAST_STATE_DIR", raising=False)
    made: list[EmbeddedRedis] = []

    def make(*parts: str) -> Path:
        root = tmp_path.joinpath(*(parts or ("repo",)))
        root.mkdir(parents=True)
        (root / "feature_store.yaml").write_text(CONFIG)
        made.append(EmbeddedRedis.of_repo(root))
        return root

    yield make
    for server in made:
        end(server)


def end(server: EmbeddedRedis) -> None:
    """End a server that runs, at once, and remove its socket where that lies outside the test's folder."""
    process_id = server.process_id()
    if process_id is not None:
        kill(process_id)
    if server.home != server.socket.parent:
        shutil.rmtree(server.socket.parent, ignore_errors=True)


def kill(process_id: int) -> None:
    """End a process that is no child of ours, as a crash would, and wait until it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(process_id)
        process.send_signal(signal.SIGCONT)
        process.kill()
        wait_for(lambda: not is_alive(process_id), what="the end of the process")


def is_alive(process_id: int) -> bool:
    """Whether a process runs; one that nobody waits for yet does not."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hindcast(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return run_command("hindcast", *arguments, env=env)


def appended(server):
    """What the server has appended its writes to: one file, or since Redis 7 some in a directory."""
    files = sorted(path for path in server.home.rglob("*.aof") if path.is_file())
    assert files
    return files


def client(server: EmbeddedRedis) -> contextlib.closing[Redis]:
    """A client of a running server."""
    return contextlib.closing(Redis(unix_socket_path=str(server.socket), socket_timeout=5))


def servers_in(folder: Path) -> list[int]:
    """Process ids of the servers that work in a folder."""
    found = []
    for process in psutil.process_iter(["name", "status", "cwd"]):
        info = process.info
        if info["name"] == "redis-server" and info["status"] != psutil.STATUS_ZOMBIE and info["cwd"] == str(folder):
            found.append(process.pid)
    return found


def test_racing_starters_get_one_server(make_repo):
    """Eight processes that start it at once get the same server, and only one runs."""
    repo = make_repo()
    server = EmbeddedRedis.of_repo(repo)
    command = [HINDCAST, "redis", "start", "--repo", repo]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    outcomes = [(*process.communicate(timeout=60), process.returncode) for process in racing]
    assert [(f"{server.socket}\n", "", 0)] * 8 == outcomes
    assert [server.process_id()] == servers_in(server.home)


def test_data_is_kept_across_a_stop(make_repo):
    """What was written before `hindcast redis stop` is there after the next start."""
    repo = make_repo()
    server = EmbeddedRedis.of_repo(repo)
    server.ensure_running()
    with client(server) as redis:
        redis.mset({f"key {at}": f"value {at}" for at in range(1000)})
    before = server.process_id()
    stopped = hindcast("redis", "stop", "--repo", repo)
    assert ("stopped\n", "", 0) == (stopped.stdout, stopped.stderr, stopped.returncode)
    assert before is not None
    assert not is_alive(before)
    assert server.process_id() is None
    assert 0 == hindcast("redis", "start", "--repo", repo).returncode
    with client(server) as redis:
        assert 1000 == redis.dbsize()
        assert b"value 999" == redis.get("key 999")


def test_stop_of_a_server_that_does_not_run_says_so(make_repo):
    """Stopping twice is no error, and says what was the case."""
    stopped = hindcast("redis", "stop", "--repo", make_repo())
    assert ("it was not running\n", "", 0) == (stopped.stdout, stopped.stderr, stopped.returncode)


def test_two_repos_never_share_one(make_repo):
    """Each repo has a server and data of its own, although both projects have one name."""
    one, two = EmbeddedRedis.of_repo(make_repo("one")), EmbeddedRedis.of_repo(make_repo("two"))
    one.ensure_running()
    two.ensure_running()
    assert one.process_id() != two.process_id()
    with client(one) as redis:
        redis.set("key", "one")
    with client(two) as redis:
        assert redis.get("key") is None


def test_two_repos_with_one_state_directory_never_share_one(make_repo, tmp_path, monkeypatch):
    """HINDCAST_STATE_DIR holds the state of several repos side by side, and nothing lands beside the repos."""
    repos = make_repo("one"), make_repo("two")
    monkeypatch.setenv("HINDCAST_STATE_DIR", str(tmp_path / "state"))
    one, two = (EmbeddedRedis.of_repo(repo) for repo in repos)
    try:
        assert 0 == hindcast("redis", "start", "--repo", repos[0]).returncode
        assert 0 == hindcast("redis", "start", "--repo", repos[1]).returncode
        assert one.process_id() is not None
        assert one.process_id() != two.process_id()
        assert tmp_path / "state" == one.home.parent.parent == two.home.parent.parent
        assert [["feature_store.yaml"]] * 2 == [sorted(path.name for path in repo.iterdir()) for repo in repos]
    finally:
        end(one)
        end(two)


def test_relative_state_directory_is_one_place(make_repo, tmp_path, monkeypatch):
    """A relative HINDCAST_STATE_DIR works, although the server changes its directory."""
    repo = make_repo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HINDCAST_STATE_DIR", "state")
    server = EmbeddedRedis.of_repo(repo)
    try:
        server.ensure_running()
        assert tmp_path / "state" in server.home.parents
        assert [server.process_id()] == servers_in(server.home)
    finally:
        end(server)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("with space", "and 'quotes' \"both\""), id="spaces-and-quotes"),
        pytest.param(("маг азин", "特徴量", "é\u0301"), id="unicode"),
        pytest.param(("$HOME", "a;b", "#c", "%s", "*"), id="shell-characters"),
        pytest.param(("deep" * 30, "deeper" * 30, "deepest" * 30), id="longer-than-a-socket-path"),
        pytest.param(("-rf", "--port 7"), id="options"),
    ],
)
def test_any_repo_path_works(make_repo, parts):
    """A repo lies where its owner wants it to: the server starts, is found and ends there."""
    repo = make_repo(*parts)
    server = EmbeddedRedis.of_repo(repo)
    started = hindcast("redis", "start", "--repo", repo)
    assert (f"{server.socket}\n", "", 0) == (started.stdout, started.stderr, started.returncode)
    assert [server.process_id()] == servers_in(server.home)
    with client(server) as redis:
        assert redis.set("key", "value")
    assert "stopped\n" == hindcast("redis", "stop", "--repo", repo).stdout
    assert any(path.stat().st_size > 0 for path in appended(server))


def test_repo_is_the_same_by_any_way_to_it(make_repo, tmp_path, monkeypatch):
    """A symbolic link and a relative path lead to the one server of a repo."""
    repo = make_repo()
    (tmp_path / "link").symlink_to(repo)
    monkeypatch.chdir(tmp_path)
    ways = [repo, tmp_path / "link", Path("repo"), Path("link") / ".." / "repo"]
    assert {EmbeddedRedis.of_repo(repo)} == {EmbeddedRedis.of_repo(way) for way in ways}
    assert {state_dir(repo)} == {state_dir(way) for way in ways}


def test_killed_server_is_replaced_with_its_data(make_repo):
    """After a kill, the socket and process id that lie around stop nobody, and acknowledged data is back."""
    server = EmbeddedRedis.of_repo(make_repo())
    server.ensure_running()
    with client(server) as redis:
        redis.set("key", "value")
    first = server.process_id()
    assert first is not None
    kill(first)
    assert server.socket.exists()
    assert str(first) == (server.home / "redis.pid").read_text().strip()
    assert server.process_id() is None
    server.ensure_running()
    assert first != server.process_id()
    with client(server) as redis:
        assert b"value" == redis.get("key")


def test_process_id_of_another_program_is_left_alone(make_repo):
    """A stale process id file that now names another program neither hinders a start nor harms that program."""
    repo = make_repo()
    server = EmbeddedRedis.of_repo(repo)
    server.home.mkdir(parents=True)
    (server.home / "redis.pid").write_text(f"{os.getpid()}\n")
    assert not server.stop()
    server.ensure_running()
    assert os.getpid() != server.process_id()


def test_server_that_is_paused_is_not_doubled(make_repo, monkeypatch):
    """While the server does not answer, nobody starts a second one on its data; the message names the process."""
    server = EmbeddedRedis.of_repo(make_repo())
    server.ensure_running()
    process_id = server.process_id()
    assert process_id is not None
    monkeypatch.setattr(embedded_module, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(embedded_module, "_START_SECONDS", 0.3)
    os.kill(process_id, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable) as caught:
            server.ensure_running()
        assert (
            f"the embedded Redis of {server.home} runs but does not answer; let process {process_id} go on, or end it"
        ) == str(caught.value)
        assert process_id == server.process_id()
        assert [process_id] == servers_in(server.home)
    finally:
        os.kill(process_id, signal.SIGCONT)
    server.ensure_running()
    assert [process_id] == servers_in(server.home)


def test_data_is_private(make_repo):
    """No other user of the machine can enter the directory, and the socket is its owner's alone."""
    mask = os.umask(0)
    try:
        server = EmbeddedRedis.of_repo(make_repo())
        server.ensure_running()
    finally:
        os.umask(mask)
    assert 0o700 == stat.S_IMODE(server.home.stat().st_mode)
    assert 0 == stat.S_IMODE(server.socket.stat().st_mode) & 0o077
    assert os.getuid() == server.home.stat().st_uid


def test_directory_that_was_open_is_closed(make_repo):
    """A directory that an earlier version left open to others is closed at the next start."""
    server = EmbeddedRedis.of_repo(make_repo())
    server.home.mkdir(parents=True, mode=0o777)
    server.ensure_running()
    assert 0o700 == stat.S_IMODE(server.home.stat().st_mode)


def test_server_listens_on_its_socket_alone(make_repo):
    """No TCP port is opened, so no other machine or user can reach the data."""
    server = EmbeddedRedis.of_repo(make_repo())
    server.ensure_running()
    process_id = server.process_id()
    assert process_id is not None
    assert [] == psutil.Process(process_id).net_connections(kind="inet")
    with client(server) as redis:
        assert {"port": "0"} == redis.config_get("port")


def test_status_for_machines(make_repo):
    """`hindcast redis status --output json` tells the process id and the socket, and null when none runs."""
    repo = make_repo()
    server = EmbeddedRedis.of_repo(repo)
    before = hindcast("redis", "status", "--repo", repo, "--output", "json")
    assert {"process_id": None, "socket": str(server.socket)} == json.loads(before.stdout)
    server.ensure_running()
    after = hindcast("redis", "status", "--repo", repo, "--output", "json")
    assert {"process_id": server.process_id(), "socket": str(server.socket)} == json.loads(after.stdout)
    assert (0, 0, "", "") == (before.returncode, after.returncode, before.stderr, after.stderr)


def test_status_for_people(make_repo):
    """`hindcast redis status` says in words whether it runs."""
    repo = make_repo()
    assert "it is not running\n" == hindcast("redis", "status", "--repo", repo).stdout
    server = EmbeddedRedis.of_repo(repo)
    server.ensure_running()
    assert f"process {server.process_id()} on {server.socket}\n" == hindcast("redis", "status", "--repo", repo).stdout


def test_state_directory_that_is_a_file_is_refused_in_words(make_repo):
    """Where no directory can be made, the command says so and what to do, with exit code 1."""
    repo = make_repo()
    (repo / ".hindcast").write_text("in the way")
    done = hindcast("redis", "start", "--repo", repo)
    assert (
        f"hindcast: the embedded Redis cannot keep its data in {repo}/.hindcast/redis; make it a directory that you may "
        "write, or set HINDCAST_STATE_DIR to another place\n"
    ) == done.stderr
    assert ("", 1) == (done.stdout, done.returncode)


def test_damaged_data_is_reported_and_not_dropped(make_repo):
    """Data that Redis cannot read back stops the start, with a pointer to the log; the files stay as they were."""
    repo = make_repo()
    server = EmbeddedRedis.of_repo(repo)
    hindcast("redis", "start", "--repo", repo)
    with client(server) as redis:
        redis.set("key", "value")
    hindcast("redis", "stop", "--repo", repo)
    damaged = b"*3\r\n$3\r\nSET\r\nthis is no append-only file" * 10
    files = appended(server)
    for file in files:
        file.write_bytes(damaged)

    done = hindcast("redis", "start", "--repo", repo)

    assert 1 == done.returncode
    assert done.stderr.startswith("hindcast: the embedded Redis does not start: ")
    assert done.stderr.endswith(f"(log: {server.home}/redis.log)\n")
    assert 1 == done.stderr.count("\n")
    assert [damaged] * len(files) == [file.read_bytes() for file in files]
    assert [] == servers_in(server.home)
