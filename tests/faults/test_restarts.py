"""Workers that are killed, replaced and stopped under load: what it costs callers, by a record of every call."""

import contextlib
import os
import pty
import shutil
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
import yaml

from faults.cycles import CYCLES
from faults.deployments import Certificates, make_certificates
from faults.load import client_load, fill, raw_load
from faults.repos import make_repo
from hindcast.errors import ServerStartError
from hindcast.serving.preflight import reserved
from services import (
    HINDCAST,
    HindcastServer,
    RedisServer,
    held_port,
    run_hindcast,
    run_redis,
    starved_seconds,
    wait_for,
)

AGE = ("--max-connection-age-seconds", "0.5")
NO_AGE = ("--max-connection-age-seconds", "3600", "--drain-seconds", "3600")
END_SECONDS = 60.0
"""For an end that waits for nothing; one that waited for what it should not would take the hour above."""
BACK_SECONDS = 1.5
STEADY_SECONDS = 5.5
"""A worker that dies younger is replaced after a pause."""


@pytest.fixture
def redis(redis_server) -> RedisServer:
    """A Redis with the rows of all drivers."""
    fill(redis_server)
    return redis_server


@pytest.fixture
def repo(tmp_path, redis) -> Path:
    """A repo on that Redis."""
    return make_repo(tmp_path / "repo", redis.connection_string)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory) -> list[Certificates]:
    """Two authorities, each with a server's certificate."""
    return [make_certificates(tmp_path_factory.mktemp("tls")) for _ in range(2)]


def credentials(certificates: Certificates) -> grpc.ChannelCredentials:
    """A caller's who trusts one authority."""
    return grpc.ssl_channel_credentials(certificates.ca.read_bytes())


def connections(worker: int, server: HindcastServer, status: str = psutil.CONN_ESTABLISHED) -> int:
    """How many sockets of a worker are on the server's port, in some state."""
    port = int(server.address.rpartition(":")[2])
    with contextlib.suppress(psutil.NoSuchProcess):
        sockets = psutil.Process(worker).net_connections()
        return sum(one.laddr.port == port and one.status == status for one in sockets)
    return 0


def listening(server: HindcastServer) -> list[int]:
    """Workers that take connections."""
    return [worker for worker in server.worker_ids() if connections(worker, server, psutil.CONN_LISTEN)]


def age_seconds(worker: int) -> float:
    """How long a worker has been there, by the kernel's own clock: its time of day is rounded to seconds."""
    started_ticks = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[19])
    up_seconds = float(Path("/proc/uptime").read_text().split()[0])
    return up_seconds - started_ticks / os.sysconf("SC_CLK_TCK")


def said(server: HindcastServer, words: str) -> int:
    """How many lines hold some words."""
    return sum(words in line for line in server.output)


def replace_workers(server: HindcastServer, *, seconds: float = 60.0) -> None:
    """SIGHUP, and wait until it is done."""
    before = said(server, "all workers are replaced")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: said(server, "all workers are replaced") > before, seconds=seconds, what="all workers' successors")


def test_killed_worker_costs_the_calls_in_flight_at_most(repo):
    """A worker killed under load fails at most one call of each raw caller it served and none of our client's, and is
    back in time.
    """
    with (
        run_hindcast(repo, "--workers", "2", *NO_AGE) as server,
        raw_load(server.address) as raw,
        client_load(server.address) as ours,
    ):
        for cycle in range(CYCLES):
            if cycle > 1:
                wait_for(lambda: max(map(age_seconds, server.worker_ids())) > STEADY_SECONDS, what="a steady worker")
            before = set(server.worker_ids())
            victim = max(before, key=age_seconds)
            failed = len(raw.failures)
            served = connections(victim, server)
            os.kill(victim, signal.SIGKILL)
            killed_at = time.monotonic()
            wait_for(lambda victim=victim: not psutil.pid_exists(victim), what="the end of the worker")
            gone_at = time.monotonic()
            wait_for(lambda: len(listening(server)) == 2, what="another worker")
            took = time.monotonic() - killed_at
            (replacement,) = set(server.worker_ids()) - before
            assert took - starved_seconds(replacement) < BACK_SECONDS
            raw.wait_until_good()
            ours.wait_until_good()
            lost = raw.failures[failed:]
            assert len(lost) <= served
            assert set(Counter(call.caller for call in lost).values()) <= {1}
            assert [] == [call for call in lost if call.sent_at > gone_at + 0.5]
    for load in (raw, ours):
        load.judge()
    assert [] == ours.failures
    assert CYCLES == said(server, "ended with code -9")


def test_killed_worker_stops_listening_first(repo):
    """A worker's listening socket has the highest descriptor, which the kernel closes first, so that no caller comes back."""
    with run_hindcast(repo) as server, raw_load(server.address):
        (worker,) = server.worker_ids()
        port = int(server.address.rpartition(":")[2])
        sockets = [one for one in psutil.Process(worker).net_connections() if one.laddr.port == port]
        connected = [one.fd for one in sockets if one.status == psutil.CONN_ESTABLISHED]
        assert len(connected) > 1
        assert min(one.fd for one in sockets if one.status == psutil.CONN_LISTEN) > max(connected)


@pytest.mark.parametrize("workers", [1, 2])
def test_replacing_the_workers_fails_no_call(repo, workers):
    """SIGHUP replaces every worker under load, and no call of a raw caller fails."""
    with run_hindcast(repo, "--workers", str(workers), *AGE) as server, raw_load(server.address) as load:
        for _ in range(CYCLES):
            before = server.worker_ids()
            replace_workers(server)
            after = server.worker_ids()
            assert workers == len(after)
            assert set() == {*before} & {*after}
            load.wait_until_good()
    load.judge()
    assert [] == load.failures
    assert 0 == said(server, "ended with code")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_stop_loses_no_call(repo, authorities, tls):
    """A server stopped under load answers every call of a raw caller, until that caller finds nobody listening."""
    # Lost is a call that fails in any other way than by a connection that could not be made: that one was never sent.
    (ours, _) = authorities
    options = ("--tls-cert", str(ours.server), "--tls-key", str(ours.server_key)) if tls else ()
    for _ in range(CYCLES):
        with (
            run_hindcast(repo, "--workers", "2", *AGE, *options) as server,
            raw_load(server.address, credentials=credentials(ours) if tls else None, until_refused=True) as load,
        ):
            told_at = time.monotonic()
            assert 0 == server.stop()
            wait_for(load.has_ended, what="the end of all callers")
        load.judge()
        assert [] == [call for call in load.failures if not call.is_without_connection]
        # Answers were given while it stopped, and each caller was refused in the end.
        assert any(call.sent_at > told_at and call.code is None for call in load.calls)
        assert dict.fromkeys(range(len(load.callers)), 1) == Counter(call.caller for call in load.failures)


def test_stop_without_callers_is_immediate(repo):
    """A server that nobody is connected to stops at once, whatever age its connections may reach."""
    with run_hindcast(repo, "--workers", "2", *NO_AGE) as server:
        assert 0 == server.stop()


def test_stop_ends_when_the_last_caller_has_gone(repo):
    """A stop waits for a connected caller, and not a moment longer than it stays."""
    with run_hindcast(repo, *NO_AGE) as server:
        with raw_load(server.address, callers=1) as load:
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: said(server, "connections are served until they have gone"), what="the drain")
            load.wait_until_good()
            assert server.process.poll() is None
        assert 0 == server.process.wait(END_SECONDS)
    assert [] == load.failures


def test_second_signal_ends_at_once(repo):
    """A second SIGTERM ends a server that waits for its callers, with exit code 0."""
    # So many that each of the two workers has one: the kernel deals connections by chance.
    load = {"callers": 16, "until_refused": True}
    with run_hindcast(repo, "--workers", "2", *NO_AGE) as server, raw_load(server.address, **load):
        workers = server.worker_ids()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: said(server, "connections are served until they have gone") == 2, what="the drain")
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(END_SECONDS)
        assert [] == [worker for worker in workers if psutil.pid_exists(worker)]


def test_stop_wins_over_a_replacement(repo):
    """SIGTERM while the workers are being replaced ends old and new ones, and loses no call either."""
    with run_hindcast(repo, "--workers", "2", *AGE) as server, raw_load(server.address, until_refused=True) as load:
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: said(server, "takes the place of"), what="a successor")
        workers = server.worker_ids()
        assert 3 == len(workers)
        assert 0 == server.stop()
        wait_for(load.has_ended, what="the end of all callers")
        assert [] == [worker for worker in workers if psutil.pid_exists(worker)]
    load.judge()
    assert [] == [call for call in load.failures if not call.is_without_connection]
    assert 0 == said(server, "all workers are replaced")


def test_replacements_asked_for_meanwhile_are_one_more(repo):
    """However often SIGHUP comes while the workers are being replaced, they are replaced once more, and slots come back."""
    with run_hindcast(repo, "--workers", "2", *AGE) as server, raw_load(server.address, callers=2) as load:
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: said(server, "takes the place of"), what="a successor")
        for _ in range(3):
            server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: said(server, "all workers are replaced") == 2, seconds=60, what="both replacements")
        load.wait_until_good()
        steps = [line.partition("worker ")[2] for line in server.output if "takes the place of" in line]
    assert [
        "2 takes the place of worker 0",
        "3 takes the place of worker 1",
        "0 takes the place of worker 2",
        "1 takes the place of worker 3",
    ] == steps
    assert [] == load.failures


def test_replaced_workers_show_the_new_certificate(repo, tmp_path, authorities):
    """After SIGHUP the certificate is the one that lies on disk now, and no call fails on the way to it."""
    old, new = authorities
    shown = [tmp_path / "server.pem", tmp_path / "server_key.pem"]
    for name, path in zip(("server", "server_key"), shown, strict=True):
        shutil.copy(getattr(old, name), path)
    both = grpc.ssl_channel_credentials(old.ca.read_bytes() + new.ca.read_bytes())
    pair = ("--tls-cert", str(shown[0]), "--tls-key", str(shown[1]))
    with run_hindcast(repo, *AGE, *pair) as server, raw_load(server.address, credentials=both) as load:
        with raw_load(server.address, credentials=credentials(old), callers=1):
            pass
        for name, path in zip(("server", "server_key"), shown, strict=True):
            shutil.copy(getattr(new, name), path)
        replace_workers(server)
        with raw_load(server.address, credentials=credentials(new), callers=1):
            load.wait_until_good()
    load.judge()
    assert [] == load.failures


def test_replaced_workers_use_the_new_store(repo):
    """After SIGHUP lookups are answered from the Redis that feature_store.yaml names now, and no call fails on the way."""
    config_file = repo / "feature_store.yaml"
    config = yaml.safe_load(config_file.read_text())
    with run_redis() as other, run_hindcast(repo, *AGE) as server, raw_load(server.address) as load:
        fill(other)
        config["online_store"]["connection_string"] = other.connection_string
        config_file.write_text(yaml.safe_dump(config))
        replace_workers(server)
        with contextlib.closing(other.client()) as client:
            before = client.info("commandstats")["cmdstat_mget"]["calls"]
            load.wait_until_good()
            assert client.info("commandstats")["cmdstat_mget"]["calls"] > before
    load.judge()
    assert [] == load.failures


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"online_store": {"type": "sqlite"}}, "has online_store.type 'sqlite'"),
        (
            {"online_store": {"type": "redis", "connection_string": "127.0.0.1:1"}},
            "Redis at 127.0.0.1:1 does not answer",
        ),
        ({"project": "other"}, "has changed beyond its online_store block"),
        (None, "cannot be read as YAML"),
    ],
    ids=["store", "Redis", "project", "YAML"],
)
def test_changes_that_cannot_be_served_replace_nobody(repo, change, words):
    """A configuration that cannot be served is said in a line, and the workers that serve go on."""
    config_file = repo / "feature_store.yaml"
    config = yaml.safe_load(config_file.read_text())
    with run_hindcast(repo, *AGE) as server, raw_load(server.address, callers=2) as load:
        workers = server.worker_ids()
        config_file.write_text("a: [" if change is None else yaml.safe_dump({**config, **change}))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: said(server, "no worker is replaced: "), what="the error")
        assert 1 == said(server, words)
        load.wait_until_good()
        assert workers == server.worker_ids()
    assert [] == load.failures


def test_successor_that_does_not_come_up_replaces_nobody(repo):
    """Where a successor dies at its start, the worker before it goes on, and those after it are not touched."""
    with run_hindcast(repo, "--workers", "2", *AGE) as server, raw_load(server.address, callers=2) as load:
        workers = server.worker_ids()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(server.worker_ids()) == 3, what="a successor")
        (successor,) = {*server.worker_ids()} - {*workers}
        os.kill(successor, signal.SIGKILL)
        wait_for(lambda: said(server, "a successor does not come up"), what="the error")
        load.wait_until_good()
        assert workers == server.worker_ids()
        replace_workers(server)
    load.judge()
    assert [] == load.failures


def test_worker_that_was_held_up_once_refuses_no_call(repo):
    """A worker that its machine does not let run for longer than it may be late answers every call that came meanwhile."""
    with run_hindcast(repo, "--queue-max-ms", "1000", *NO_AGE) as server, raw_load(server.address, callers=4) as load:
        (worker,) = server.worker_ids()
        os.kill(worker, signal.SIGSTOP)
        goes_on_at = time.monotonic() + 1.5
        wait_for(lambda: time.monotonic() > goes_on_at, what="the end of the moment")
        os.kill(worker, signal.SIGCONT)
        load.wait_until_good()
    load.judge()
    assert [] == load.failures


def test_server_ends_with_its_terminal(repo):
    """A server in the foreground of a terminal that is closed stops, although SIGHUP is what it hears."""
    command = [str(HINDCAST), "serve", "--repo", str(repo), "--address", "127.0.0.1:0"]
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as a terminal's shell has it, whatever started the tests
        os.execv(command[0], command)  # noqa: S606 - by design without a shell
    try:
        output = b""
        while b"serving project" not in output:
            output += os.read(terminal, 4096)
        processes = psutil.Process(child).children()
        assert any("hindcast.serving.worker" in process.cmdline() for process in processes)
        os.close(terminal)
        wait_for(lambda: os.waitpid(child, os.WNOHANG)[0] == child, what="the end of the server")
        assert [] == [process for process in processes if process.is_running()]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_one_of_many_servers_gets_the_port():
    """Of servers that start on one port at the same moment, exactly one gets it."""
    starters = 8
    barrier = threading.Barrier(starters)

    def start(address: str) -> bool:
        barrier.wait()
        try:
            with reserved(address):
                barrier.wait()
                return True
        except ServerStartError:
            barrier.wait()
            return False

    with ThreadPoolExecutor(starters) as pool:
        for _ in range(30):
            with held_port() as port:
                got = list(pool.map(start, [f"127.0.0.1:{port}"] * starters))
            assert 1 == sum(got)
