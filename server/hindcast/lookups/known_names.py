"""Which names the lookups of a log can have: what definitions say that are kept beside it, and those of the repo as it stands.

A name that none of them has was mistyped, most likely. Nothing is refused for that before it was looked for: a request that was
refused for such a name is in the log, under it.
"""

import base64
import binascii
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hindcast.catalog import Catalog, KeyType, Projection, load_catalog, read_repo
from hindcast.errors import CatalogError, InvalidArgument, RepoError, StoredDataError, UnknownName
from hindcast.lookups.catalogs import kept_catalog
from hindcast.lookups.receipt_json import type_name
from hindcast.spelling import hint_of

_WHOLE_NUMBERS: Mapping[int, int] = {KeyType.INT32: 31, KeyType.INT64: 63, KeyType.UNIX_TIMESTAMP: 63}
"""Types of which a value is told as a whole number -> its bits without the sign."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Definitions that lookups were, or may be, answered by.

    Attributes:
        catalogs: those that are kept beside the log, and that of the repo where it was asked for.
        is_whole: whether lookups of the log were answered by no others: there are some, and none is damaged.
    """

    catalogs: tuple[Catalog, ...]
    is_whole: bool

    def services(self) -> set[str]:
        """Names of feature services."""
        return {name for catalog in self.catalogs for name in catalog.services}

    def inputs(self) -> set[str]:
        """All that callers may send: join keys, their aliases, entities, request data."""
        return {name for catalog in self.catalogs for name in _inputs_of(catalog)}

    def types_of(self, names: frozenset[str]) -> set[int]:
        """The types that inputs of these names have, numbers of `feast.types.ValueType.Enum`."""
        return {kind for catalog in self.catalogs for name, kind in _typed_inputs_of(catalog) if name in names}

    def doubt_of(self, names: frozenset[str], *, key: str, value: str) -> InvalidArgument | None:
        """Why no answer can have been given for this value of a key; None where one can.

        Args:
            names: what callers may call the key.
            value: as text; of bytes, base64.
        """
        inputs = self.inputs()
        if key not in inputs:
            hint = hint_of(key, inputs, none="no definitions of any could be read")
            return InvalidArgument.at(
                "entity", f"{key[:200]!r} is no join key that the log's or the repo's definitions have; {hint}"
            )
        types = self.types_of(names)
        faults = {kind: _fault_of(value, kind) for kind in types}
        if not faults or None in faults.values():
            return None
        kinds = " or ".join(type_name(kind) for kind in sorted(faults))
        what = "; ".join(sorted({fault for fault in faults.values() if fault}))
        return InvalidArgument.at("entity", f"{value[:200]!r} can be no value of {key}, which is {kinds}; {what}")


def known_names(log_directory: Path, *, repo_root: Path | None = None) -> KnownNames:
    """The definitions of a log, and where a repo is given and can be read, its own, which nothing may have been answered by yet."""
    catalogs, damaged = [], 0
    for path in sorted((log_directory / "catalogs").glob("*.json")):
        try:
            catalog = kept_catalog(log_directory, path.stem)
        except StoredDataError:
            damaged += 1
        else:
            catalogs += [] if catalog is None else [catalog]
    is_whole = bool(catalogs) and not damaged
    if repo_root is not None:
        # A log is read without its repo, too.
        with contextlib.suppress(RepoError, CatalogError):
            catalogs.append(load_catalog(read_repo(repo_root)))
    return KnownNames(tuple(catalogs), is_whole)


def check_service(log_directory: Path, service: str, *, repo_root: Path | None = None) -> None:
    """Say why there is no lookup of a feature service, where that is since nobody can have asked for it.

    Raises:
        UnknownName: no definitions have it.
    """
    known = known_names(log_directory)
    if known.is_whole and service not in known.services():
        names = known_names(log_directory, repo_root=repo_root).services()
        if service not in names:
            raise UnknownName("feature service", service, hint_of(service, names, none="no definitions have any"))


def _projections_of(catalog: Catalog) -> Iterator[Projection]:
    for service in catalog.services.values():
        yield from service.projections
    for view in catalog.on_demand_views.values():
        yield from view.sources


def _inputs_of(catalog: Catalog) -> set[str]:
    """All that callers may send, by the names of the definitions."""
    return {
        *catalog.entities,
        *catalog.entities.values(),
        *(name for projection in _projections_of(catalog) for name in projection.join_keys.values()),
        *(name for name, _ in _typed_inputs_of(catalog)),
    }


def _typed_inputs_of(catalog: Catalog) -> Iterator[tuple[str, int]]:
    """Inputs whose type the definitions say."""
    for view in catalog.views.values():
        yield from ((field.name, field.value_type) for field in view.join_keys)
    for on_demand in catalog.on_demand_views.values():
        yield from ((field.name, field.value_type) for field in on_demand.request_fields)
    for projection in _projections_of(catalog):
        stored = catalog.views.get(projection.view)
        for field in stored.join_keys if stored is not None else ():
            if field.name in projection.join_keys:
                yield projection.join_keys[field.name], field.value_type


def _fault_of(value: str, kind: int) -> str | None:
    """What is wrong with a value of a type as it is told; None where nothing is, or the type's texts are not known."""
    if kind == KeyType.BYTES:
        try:
            is_told = base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
        except (ValueError, binascii.Error):
            is_told = False
        return None if is_told else "write its bytes in base64"
    bits = _WHOLE_NUMBERS.get(kind)
    if bits is None:
        return None
    unit = " of seconds since 1970" if kind == KeyType.UNIX_TIMESTAMP else ""
    try:
        number = int(value)
    except ValueError:
        return f"write a whole number{unit}"
    if not -(1 << bits) <= number < 1 << bits:
        return f"write a whole number{unit} of {bits + 1} bits"
    return None if str(number) == value else f"write {number}"
