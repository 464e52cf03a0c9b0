"""Redis as people deploy it, on loopback: a Cluster, a Sentinel with a replica, TLS; and a network that misbehaves."""

import asyncio
import contextlib
import random
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from hindcast.online.embedded import server_program
from services import RedisServer, held_port, run_redis, wait_for

SLOTS = 16_384
_BUS_OFFSET = 10_000
"""A Cluster node's bus listens this far above its port; Redis 6 has no setting for it."""
_NODE_PORTS = range(20_000, 32_768)
"""Below those that the kernel gives to who asks for any."""


@dataclass
class Cluster:
    """A Redis Cluster of primaries; each has its client and its id at the same position."""

    nodes: list[RedisServer]
    clients: list[Redis]
    ids: list[str]

    @property
    def connection_string(self) -> str:
        """All nodes as seeds."""
        return ",".join(node.connection_string for node in self.nodes)

    def add_replica(self, server: RedisServer, *, of: int) -> None:
        """Make a further node, in step with the primary at that position."""
        with contextlib.closing(_client(server)) as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
            wait_for(lambda: _is_whole(client, len(self.nodes) + 1), seconds=30, what="the Cluster and its new node")
            client.execute_command("CLUSTER REPLICATE", self.ids[of])
            wait_for(
                lambda: client.info("replication").get("master_link_status") == "up", seconds=30, what="the replica"
            )

    def owner_of(self, slot: int) -> int:
        """Position of the node that serves a slot."""
        for first, last, (_, port, *_), *_ in self.clients[0].execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(at for at, node in enumerate(self.nodes) if node.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def begin_move(self, slot: int, *, to: int) -> int:
        """Open a slot for its move to another node; gives the node that it moves from."""
        source = self.owner_of(slot)
        self.clients[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[source])
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[to])
        return source

    def move_keys(self, slot: int, count: int, *, source: int, to: int) -> list[bytes]:
        """Move up to that many keys of an open slot; gives them."""
        keys = self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, count)
        if keys:
            self.clients[source].execute_command(
                "MIGRATE", "127.0.0.1", self.nodes[to].port, "", 0, 5000, "KEYS", *keys
            )
        return keys

    def end_move(self, slot: int, *, to: int) -> None:
        """Give an open slot to its new node."""
        for client in (self.clients[to], *self.clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[to])


@contextlib.contextmanager
def run_cluster(nodes: int = 3) -> Iterator[Cluster]:
    """Run a Redis Cluster until the block ends."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(run_node()) for _ in range(nodes)]
        clients = [stack.enter_context(contextlib.closing(_client(server))) for server in servers]
        bounds = [SLOTS * at // nodes for at in range(nodes + 1)]
        for client, first, end in zip(clients, bounds, bounds[1:], strict=False):
            client.execute_command("CLUSTER ADDSLOTS", *range(first, end))
        for epoch, client in enumerate(clients, start=1):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
        for server in servers[1:]:
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port)
        wait_for(lambda: all(_is_whole(client, nodes) for client in clients), seconds=30, what="a whole Cluster")
        yield Cluster(servers, clients, [_text(client.execute_command("CLUSTER MYID")) for client in clients])


@contextlib.contextmanager
def run_node() -> Iterator[RedisServer]:
    """Run what can be a node of a Cluster until the block ends. As a replica it takes over when it is told to, and not before."""
    options = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
        *("--cluster-replica-no-failover", "yes"),
    )
    with _node_port() as port, run_redis(*options, port=port) as server:
        yield server


@contextlib.contextmanager
def _node_port() -> Iterator[int]:
    """A port that nothing listens on and whose bus port is free as well, both held."""
    with contextlib.ExitStack() as held:
        # The kernel deals the bus port, so that no two nodes have one; chosen at random, nodes of tests in other processes had the same: their
        # randomness is seeded alike.
        while (port := held.enter_context(held_port()) - _BUS_OFFSET) not in _NODE_PORTS or not _is_free(port):
            pass
        yield held.enter_context(held_port(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _client(server: RedisServer) -> Redis:
    return Redis(port=server.port, socket_timeout=5)


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply


def _is_whole(client: Redis, nodes: int) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(nodes)


@dataclass
class SentinelPair:
    """A primary, its replica, and the Sentinel that watches them."""

    servers: list[RedisServer]
    sentinel_port: int

    @property
    def connection_string(self) -> str:
        """The Sentinel's address."""
        return f"127.0.0.1:{self.sentinel_port}"

    def primary(self) -> RedisServer:
        """Who the Sentinel says is the primary."""
        with contextlib.closing(Redis(port=self.sentinel_port, socket_timeout=5, decode_responses=True)) as sentinel:
            _, port = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "mymaster")
        return next(server for server in self.servers if server.port == int(port))


@contextlib.contextmanager
def run_sentinel(*, down_after_ms: int = 500) -> Iterator[SentinelPair]:
    """Run a primary, a replica in step with it, and a Sentinel, until the block ends."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(run_redis("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"))
        replica = stack.enter_context(run_redis("--replicaof", "127.0.0.1", str(primary.port)))
        port = stack.enter_context(held_port())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds mymaster {down_after_ms}\n"
            "sentinel failover-timeout mymaster 3000\n"
        )
        process = subprocess.Popen([server_program(), config, "--sentinel"], stdout=subprocess.DEVNULL, cwd=folder)
        try:
            pair = SentinelPair([primary, replica], port)
            with contextlib.closing(Redis(port=port, socket_timeout=5, decode_responses=True)) as sentinel:
                wait_for(lambda: _knows_replica(sentinel), seconds=30, what="a Sentinel that knows the replica")
            with contextlib.closing(replica.client()) as client:
                wait_for(
                    lambda: client.info("replication")["master_link_status"] == "up", seconds=30, what="the replica"
                )
            yield pair
        finally:
            process.kill()
            process.wait()


def _knows_replica(sentinel: Redis) -> bool:
    try:
        (replica,) = sentinel.sentinel_slaves("mymaster")
    except (RedisError, ValueError):
        return False
    return replica["is_slave"] and not replica["is_disconnected"] and replica["master-link-status"] == "ok"


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server certificate for localhost and 127.0.0.1, and a client certificate."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        """Attribute `server_key` is the file `server_key.pem`."""
        return self.folder / f"{name}.pem"


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and what it signs, by openssl."""
    certificates = Certificates(folder)

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *("req", "-x509", *curve, "-days", 2, "-subj", "/CN=Test authority"),
        *("-keyout", certificates.ca_key, "-out", certificates.ca),
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        key, request, signed = folder / f"{name}_key.pem", folder / f"{name}.csr", folder / f"{name}.pem"
        openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl(
            *("x509", "-req", "-in", request, "-CA", certificates.ca, "-CAkey", certificates.ca_key),
            *("-CAcreateserial", "-days", 2, "-extfile", folder / "names", "-out", signed),
        )
    return certificates


class Proxy:
    """A TCP proxy on loopback whose ways can be changed while it runs.

    Attributes:
        piece_bytes: replies are passed on in pieces of one to this many bytes; 0 leaves them whole.
        delay_seconds: a random wait up to this stands before each piece.
        mangle: what becomes of a reply on its way; None leaves it.
        held: while it is true, no reply is passed on.
        request_bytes: how many more bytes of requests are passed on before they wait; None lets all pass.
        blocked: set once a request waits.
        requested: bytes of requests so far.
        accepted: connections so far.
    """

    def __init__(self, upstream_port: int, *, seed: int) -> None:
        self.port = 0
        self.piece_bytes = 0
        self.delay_seconds = 0.0
        self.mangle: Callable[[bytes], bytes] | None = None
        self.held = False
        self.request_bytes: int | None = None
        self.blocked = threading.Event()
        self.requested = 0
        self.accepted = 0
        self.started = threading.Event()
        self._upstream_port = upstream_port
        self._chance = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, tls: ssl.SSLContext | None) -> None:
        """Serve until `stop`."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stop(self) -> None:
        """Break every connection and end; called from another thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = asyncio.ensure_future(self._connection(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # Also of a connection that is cancelled before it has begun.
        connection.add_done_callback(lambda _: writer.transport.abort())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            return
        ways = [asyncio.ensure_future(self._requests(reader, up_writer))]
        ways.append(asyncio.ensure_future(self._replies(up_reader, writer)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before anything is awaited: a second cancellation would end this block there.
            up_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            while data:
                while self.request_bytes == 0:
                    self.blocked.set()
                    await asyncio.sleep(0.005)
                left = self.request_bytes
                some = data[:left]
                if left is not None:
                    self.request_bytes = left - len(some)
                self.requested += len(some)
                writer.write(some)
                await writer.drain()
                data = data[len(some) :]

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            while self.held:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.005)
            rest = data if self.mangle is None else self.mangle(data)
            while rest:
                size = self._chance.randint(1, self.piece_bytes) if self.piece_bytes else len(rest)
                if self.delay_seconds:
                    await asyncio.sleep(self._chance.random() * self.delay_seconds)
                writer.write(rest[:size])
                await writer.drain()
                rest = rest[size:]


@contextlib.contextmanager
def run_proxy(upstream_port: int, *, tls: ssl.SSLContext | None = None, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy in front of a loopback port, in a thread with a loop of its own, until the block ends."""
    proxy = Proxy(upstream_port, seed=seed)
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(tls)))
    thread.start()
    try:
        assert proxy.started.wait(10), "the proxy does not start"
        yield proxy
    finally:
        proxy.stop()
        thread.join()


def server_tls(certificates: Certificates) -> ssl.SSLContext:
    """What a TLS server of these certificates speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context
