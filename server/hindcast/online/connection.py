"""How to reach Redis: Feast's connection settings, read once, for the plug-in and for the server alike.

redis-py owns what is easy to get wrong: TLS, auth, Sentinel and Cluster topology. Time-outs are always set, because
redis-py waits for ever by default: a paused Redis hung a read for more than 12 s.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from hindcast.errors import RepoError, StoreUnavailable
from hindcast.online.embedded import EmbeddedRedis

EMBEDDED = "embedded"
DEFAULT_TTL_GRACE_SECONDS = 7 * 86_400
"""How long a row outlives its view's TTL, so that stale can still be told from missing."""

DEFAULT_FUTURE_SECONDS = 300
"""A row dated further ahead would block every correction until then; clocks of one fleet agree far better."""

REDIS_ERRORS = (RedisError, RedisClusterException)
"""Everything that redis-py raises: its Cluster client has errors outside the tree of the others."""

NOT_WRITTEN = "Redis did not take a write; check that it runs and has memory left"


@contextmanager
def failing_as(words: str) -> Iterator[None]:
    """Turns a failure of Redis in a block into StoreUnavailable with words of ours, never the vendor's."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise StoreUnavailable(words) from error


_TIMEOUTS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
_TEXTS = frozenset({"username", "password"})
_NUMBERS = frozenset({"db", "socket_timeout", "socket_connect_timeout", "health_check_interval", "max_connections"})
_OURS = frozenset({"self", "host", "port", "unix_socket_path", "startup_nodes", "connection_pool", "decode_responses"})
"""Arguments of redis-py that a connection string cannot set: they are its endpoints, or rows would no longer be bytes."""

_PORT_MAX = 65_535


class Topology(StrEnum):
    """Values of Feast's `redis_type`."""

    STANDALONE = "redis"
    CLUSTER = "redis_cluster"
    SENTINEL = "redis_sentinel"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Redis (or a Sentinel, or a Cluster's seed node) listens: a host and port, or a Unix socket."""

    host: str = ""
    port: int = 0
    unix_socket: str = ""

    def __str__(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """One Redis deployment.

    Attributes:
        endpoints: at least one.
        options: keyword arguments for redis-py, as Feast passes them. They can hold a password: left out of repr.
    """

    topology: Topology
    endpoints: tuple[Endpoint, ...]
    sentinel_master: str = "mymaster"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return ",".join(str(endpoint) for endpoint in self.endpoints)

    def client(self) -> "Redis | RedisCluster":
        """A blocking client. It connects at its first command, but of a Cluster at once, which can raise what a command raises."""
        options = self._client_options()
        if self.topology is Topology.CLUSTER:
            return RedisCluster(startup_nodes=[ClusterNode(e.host, e.port) for e in self.endpoints], **options)
        if self.topology is Topology.SENTINEL:
            sentinels = [(e.host, e.port) for e in self.endpoints]
            # The next Sentinel is asked instead of one again.
            asked = {**_socket_options(options), "retry": Retry(NoBackoff(), 0)}
            return Sentinel(sentinels, sentinel_kwargs=asked, **options).master_for(self.sentinel_master)
        return Redis(**self._address(), **options)

    def async_client(self) -> "redis_asyncio.Redis | redis_asyncio.RedisCluster":
        """An asyncio client for the running loop."""
        options = self._client_options()
        if self.topology is Topology.CLUSTER:
            nodes = [redis_asyncio.cluster.ClusterNode(e.host, e.port) for e in self.endpoints]
            return redis_asyncio.RedisCluster(startup_nodes=nodes, **options)
        if self.topology is Topology.SENTINEL:
            sentinels = [(e.host, e.port) for e in self.endpoints]
            asked = {**_socket_options(options), "retry": AsyncRetry(NoBackoff(), 0)}
            return redis_asyncio.Sentinel(sentinels, sentinel_kwargs=asked, **options).master_for(self.sentinel_master)
        return redis_asyncio.Redis(**self._address(), **options)

    def _client_options(self) -> dict[str, Any]:
        return {**_TIMEOUTS, **self.options}

    def _address(self) -> dict[str, Any]:
        endpoint = self.endpoints[0]
        if endpoint.unix_socket:
            return {"unix_socket_path": endpoint.unix_socket}
        return {"host": endpoint.host, "port": endpoint.port}


def _socket_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What redis-py, unless told otherwise, takes over from the primary's connection for those to the Sentinels."""
    return {name: value for name, value in options.items() if name.startswith("socket_")}


async def close_client(client: "redis_asyncio.Redis | redis_asyncio.RedisCluster") -> None:
    """Close an asyncio client, and what redis-py leaves open: its connections to the Sentinels."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def read_target(online_store: Mapping[str, Any], *, repo_root: Path) -> RedisTarget:
    """Where the `online_store` block of a repo points. `embedded` starts (or finds) the repo's own Redis.

    Raises:
        RepoError: the connection string or redis_type cannot be understood.
        StoreUnavailable: the embedded Redis does not start.
    """
    connection_string = str(online_store.get("connection_string", EMBEDDED))
    if connection_string == EMBEDDED:
        socket = EmbeddedRedis.of_repo(repo_root).ensure_running()
        return RedisTarget(Topology.STANDALONE, (Endpoint(unix_socket=str(socket)),))
    return parse_target(
        connection_string,
        redis_type=str(online_store.get("redis_type", Topology.STANDALONE)),
        sentinel_master=str(online_store.get("sentinel_master", "mymaster")),
    )


def parse_target(
    connection_string: str, *, redis_type: str = Topology.STANDALONE, sentinel_master: str = "mymaster"
) -> RedisTarget:
    """Parse Feast's format, `host:port[,host:port…][,option=value…]` (feast/infra/online_stores/redis.py).

    Raises:
        RepoError: an endpoint is not HOST:PORT, or there is none, or an option or redis_type is unknown. The message counts
            the parts and repeats none: any may be, or hold, a piece of the password.
    """
    try:
        topology = Topology(redis_type)
    except ValueError:
        known = ", ".join(Topology)
        raise RepoError(f"online_store.redis_type is {redis_type!r}; it must be one of {known}") from None
    takes = redis_asyncio.RedisCluster if topology is Topology.CLUSTER else redis_asyncio.Redis
    known_options = inspect.signature(takes.__init__).parameters.keys() - _OURS
    endpoints: list[Endpoint] = []
    options: dict[str, Any] = {}
    for at, part in enumerate(connection_string.split(","), start=1):
        name, is_option, value = part.partition("=")
        if is_option:
            if name.strip() not in known_options:
                raise RepoError(
                    f"part {at} of online_store.connection_string sets an option that redis-py does not take; write for "
                    "example `localhost:6379,db=0,password=…` (no comma in a value)"
                )
            options[name.strip()] = _option(name.strip(), value)
            continue
        host, _, port = part.strip().rpartition(":")
        if not host or "@" in host or "/" in host or not _is_port(port):
            raise RepoError(
                f"part {at} of online_store.connection_string is neither HOST:PORT nor OPTION=VALUE; write for example "
                f"`localhost:6379,db=0,password=…` (no comma in a value, no URL), or `{EMBEDDED}`"
            )
        endpoints.append(Endpoint(host.strip("[]"), int(port)))
    if not endpoints:
        raise RepoError(f"online_store.connection_string names no HOST:PORT; write `localhost:6379`, or `{EMBEDDED}`")
    if topology is Topology.CLUSTER and options.get("db"):
        raise RepoError("online_store.connection_string sets db, but a Redis Cluster has database 0 only; leave it out")
    return RedisTarget(topology, tuple(endpoints), sentinel_master, options)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _PORT_MAX


def _option(name: str, written: str) -> Any:
    """An option's value, JSON where it is JSON, as Feast reads it; a password of digits stays text."""
    try:
        value = json.loads(written)
    except json.JSONDecodeError:
        value = written
    if name in _TEXTS and not isinstance(value, str):
        return written
    if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RepoError(
            f"option {name!r} of online_store.connection_string is not a number; write for example `{name}=1`"
        )
    return value
