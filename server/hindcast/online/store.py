"""Which online store a repo has: how its rows lie in Redis, and where that Redis is."""

from hindcast.catalog import Repo
from hindcast.errors import RepoError
from hindcast.online.connection import RedisTarget, read_target
from hindcast.online.keys import ENTITY_KEY_VERSION
from hindcast.online.layouts import LayoutName

PACKED_STORE = "hindcast.online.plugin.PackedRedisOnlineStore"

_LAYOUTS = {
    PACKED_STORE: LayoutName.PACKED,
    "redis": LayoutName.FEAST,
    "feast.infra.online_stores.redis.RedisOnlineStore": LayoutName.FEAST,
}
"""Values of `online_store.type` that can be served."""

_FEAST_CONNECTION = "localhost:6379"
"""Where Feast's own Redis store looks when nothing is said."""


def layout_of(repo: Repo) -> LayoutName:
    """How the repo's online store lays out its rows.

    Raises:
        RepoError: its type or its key serialization is not one that is served; the message has the lines to change.
    """
    store = str(repo.online_store["type"])
    if repo.entity_key_version != ENTITY_KEY_VERSION:
        raise RepoError(
            f"{repo.root}/feature_store.yaml has entity_key_serialization_version {repo.entity_key_version}, and Hindcast "
            f"reads version {ENTITY_KEY_VERSION}. Change the line to `entity_key_serialization_version: "
            f"{ENTITY_KEY_VERSION}`, then run `feast apply` and `feast materialize`"
        )
    if store not in _LAYOUTS:
        raise RepoError(
            f"{repo.root}/feature_store.yaml has online_store.type {store!r}, and Hindcast serves from Redis. Change the "
            f"block to these lines, then run `feast apply` and `feast materialize`:\n"
            f"online_store:\n    type: {PACKED_STORE}\n    connection_string: embedded    # or HOST:PORT"
        )
    return _LAYOUTS[store]


def target_of(repo: Repo, layout: LayoutName) -> RedisTarget:
    """Where the repo's online store is.

    Raises:
        RepoError, StoreUnavailable: as `read_target`.
    """
    default = {"connection_string": _FEAST_CONNECTION} if layout is LayoutName.FEAST else {}
    return read_target({**default, **repo.online_store}, repo_root=repo.root)
