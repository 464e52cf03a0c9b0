"""How batch sources are reached that are not on this machine's disk: from an address and settings to a file system.

Settings have the names that deltalake gives them, which are those of the environment's variables as far as there are any: one
mapping serves Parquet and Delta. Where a setting is missing, the environment has it, or the store's own client finds it as always
(profiles, roles of the machine or the pod).
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow.fs as pa_fs

from hindcast.errors import SourceError
from hindcast.offline.sources.objects import ObjectPath, ObjectStore, in_our_words, shown

_S3 = frozenset({"s3", "s3a", "s3n"})
_GCS = frozenset({"gs", "gcs"})
_AZURE = frozenset({"abfs", "abfss", "az", "azure", "adl"})
_HTTP = frozenset({"http", "https"})

_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
"""Of settings. A connection_ref on the environment may bring all of that."""

_STORES_OF_OTHERS = "us-east-1"
"""The region that stores with an endpoint of their own take; without one the client would look for a machine of Amazon's around it."""

_GCS_PATIENCE = timedelta(seconds=30)
"""Arrow's own is 15 minutes, of a store that cannot be reached too."""


def object_path(uri: str, options: Mapping[str, str]) -> ObjectPath:
    """Where an address points, and the store that it is in. Asks nobody but, without a region, where an S3 bucket is.

    Args:
        uri: as the repo writes it.
        options: settings by name, in any case; empty ones count as missing.
    Raises:
        SourceError: there is no way to such a place.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    settings = {name.upper(): str(value) for name, value in options.items() if value not in {None, ""}}
    settings = {name: value for name, value in settings.items() if name.startswith(_PREFIXES)}
    key = rest.strip("/")
    what = f"the source {shown(uri)!r}"
    if not key:
        raise SourceError(f"{what} names no bucket or host; write it as {scheme}://bucket/path")
    if scheme in _S3:
        return ObjectPath(_s3(key.partition("/")[0], settings, what=what), key)
    if scheme in _GCS:
        return ObjectPath(_gcs(settings, what=what), key)
    if scheme in _AZURE:
        container, _, path = key.partition("/")
        container, _, host = container.partition("@")
        store = _azure(settings, host=host, what=what)
        return ObjectPath(store, f"{container}/{path}".strip("/"))
    if scheme in _HTTP:
        return ObjectPath(_http(scheme, key.partition("/")[0], what=what), rest)
    raise SourceError(
        f"{what} has an address that cannot be read ({scheme}://); read are s3, gs, abfs, az, http, https and file, or a path "
        "of this machine"
    )


def _s3(bucket: str, settings: Mapping[str, str], *, what: str) -> ObjectStore:
    endpoint = _setting(settings, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    scheme, _, host = endpoint.rstrip("/").rpartition("://")
    region = _setting(settings, "AWS_REGION", "AWS_DEFAULT_REGION") or (_STORES_OF_OTHERS if endpoint else "")
    is_anonymous = _is_true(_setting(settings, "AWS_SKIP_SIGNATURE"))
    with in_our_words(what):
        if not region:
            region = pa_fs.resolve_s3_region(bucket)
        file_system = pa_fs.S3FileSystem(
            access_key=settings.get("AWS_ACCESS_KEY_ID"),
            secret_key=settings.get("AWS_SECRET_ACCESS_KEY"),
            session_token=settings.get("AWS_SESSION_TOKEN"),
            anonymous=is_anonymous,
            region=region,
            scheme=scheme or None,
            endpoint_override=host or None,
            force_virtual_addressing=_is_true(_setting(settings, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST")),
        )
    found = {"AWS_REGION": region}
    if endpoint:
        found |= {"AWS_ENDPOINT_URL": f"{scheme or 'https'}://{host}", "AWS_ALLOW_HTTP": str(scheme == "http").lower()}
    return ObjectStore("s3", host, file_system, delta_options={**settings, **found})


def _gcs(settings: Mapping[str, str], *, what: str) -> ObjectStore:
    given = {"GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"} & settings.keys()
    if given:
        raise SourceError(
            f"{what} cannot be read with {min(given)} from offline_store.storage_options or a connection_ref: Google's client takes a key "
            "file from the environment only; set GOOGLE_APPLICATION_CREDENTIALS there"
        )
    endpoint = _setting(settings, "GOOGLE_ENDPOINT_URL")
    scheme, _, host = endpoint.rstrip("/").rpartition("://")
    with in_our_words(what):
        file_system = pa_fs.GcsFileSystem(
            anonymous=_is_true(_setting(settings, "GOOGLE_SKIP_SIGNATURE")),
            scheme=scheme or None,
            endpoint_override=host or None,
            retry_time_limit=_GCS_PATIENCE,
        )
    return ObjectStore("gs", host, file_system, delta_options=settings)


def _azure(settings: Mapping[str, str], *, host: str, what: str) -> ObjectStore:
    account = host.partition(".")[0] or _setting(settings, "AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise SourceError(
            f"{what} names no storage account; write it as abfs://container@account.dfs.core.windows.net/path, or set "
            "AZURE_STORAGE_ACCOUNT_NAME, in the environment or in offline_store.storage_options"
        )
    secrets = {
        "account_key": _setting(settings, "AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_token": _setting(settings, "AZURE_STORAGE_SAS_TOKEN"),
        "tenant_id": settings.get("AZURE_TENANT_ID"),
        "client_id": settings.get("AZURE_CLIENT_ID"),
        "client_secret": settings.get("AZURE_CLIENT_SECRET"),
    }
    with in_our_words(what):
        file_system = pa_fs.AzureFileSystem(account, **{name: value or None for name, value in secrets.items()})
    return ObjectStore("az", account, file_system, delta_options={**settings, "AZURE_STORAGE_ACCOUNT_NAME": account})


def _http(scheme: str, host: str, *, what: str) -> ObjectStore:
    try:
        import fsspec  # noqa: PLC0415 - for the few who read over HTTP

        # Exactly the ranges that are asked for: by itself it reads 5 MiB ahead of each.
        http: Any = fsspec.filesystem(scheme, cache_type="none")
    except ImportError as error:
        raise SourceError(
            f"{what} needs the packages fsspec and aiohttp; install them, or copy the file here"
        ) from error

    def tag(called: str) -> str:
        told = http.info(called)
        return str(told.get("ETag") or told.get("Last-Modified") or "")

    return ObjectStore(scheme, host.rpartition("@")[2], pa_fs.PyFileSystem(pa_fs.FSSpecHandler(http)), tag)


def _setting(settings: Mapping[str, str], *names: str) -> str:
    """The first that is set: of the settings given, then of the environment."""
    return next((value for where in (settings, os.environ) for name in names if (value := where.get(name))), "")


def _is_true(text: str) -> bool:
    return text.lower() in {"1", "true", "yes", "on"}
