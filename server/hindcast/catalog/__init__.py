"""The catalog room: a Feast repo comes in, an immutable `Catalog` goes out. Nothing here serves.

`read_repo` reads `feature_store.yaml`, `load_catalog` compiles the registry (in a child process, cached by digest).
Feast is imported only in `compile` and `transforms`.
"""

from hindcast.catalog.load import decode_catalog, encode_catalog, load_catalog
from hindcast.catalog.model import Catalog, Field, InputColumn, KeyType, OnDemandView, Projection, Service, View
from hindcast.catalog.repo import Repo, read_repo

__all__ = [
    "Catalog",
    "Field",
    "InputColumn",
    "KeyType",
    "OnDemandView",
    "Projection",
    "Repo",
    "Service",
    "View",
    "decode_catalog",
    "encode_catalog",
    "load_catalog",
    "read_repo",
]
