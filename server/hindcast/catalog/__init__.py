"""The catalog room: a Feast repo comes in, an immutable `Catalog` goes out. Nothing here serves.

`read_repo` reads `feature_store.yaml`, `load_catalog` reads and compiles the registry, both without importing Feast. Only
`transforms` (on-demand views) and `export` (registries that only Feast can reach) import it.
"""

from hindcast.catalog.compile import is_same_definition, load_catalog
from hindcast.catalog.model import (
    BatchSource,
    Catalog,
    Field,
    InputColumn,
    KeyType,
    Logging,
    OnDemandView,
    Projection,
    Service,
    View,
    version_name,
)
from hindcast.catalog.repo import CONFIG_NAME, Repo, read_repo
from hindcast.catalog.watch import RegistryWatch

__all__ = [
    "CONFIG_NAME",
    "BatchSource",
    "Catalog",
    "Field",
    "InputColumn",
    "KeyType",
    "Logging",
    "OnDemandView",
    "Projection",
    "RegistryWatch",
    "Repo",
    "Service",
    "View",
    "is_same_definition",
    "load_catalog",
    "read_repo",
    "version_name",
]
