"""Where addresses point, and what the settings for reaching them become."""

import pytest

from hindcast.errors import SourceError
from hindcast.offline.sources.objects import shown
from hindcast.offline.sources.stores import object_path

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No setting of the machine that the tests run on."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AZURE_STORAGE_ACCOUNT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("uri", "options", "expected"),
    [
        ("s3://b/p/x.parquet", {"AWS_REGION": "eu-west-1"}, ("s3://b/p/x.parquet", "b/p/x.parquet", "")),
        ("s3a://b/p/", {"aws_endpoint_url": "http://minio:9000/"}, ("s3://b/p", "b/p", "minio:9000")),
        ("S3://b", {"AWS_ENDPOINT_URL": "minio:9000"}, ("s3://b", "b", "minio:9000")),
        ("gs://b/p", {"GOOGLE_SKIP_SIGNATURE": "true"}, ("gs://b/p", "b/p", "")),
        ("abfss://c@acc.dfs.core.windows.net/p", {}, ("az://c/p", "c/p", "acc")),
        ("az://c/p", {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}, ("az://c/p", "c/p", "acc")),
        (
            "https://u:pw@host/p/x.parquet?sig=1",
            {},
            ("https://host/p/x.parquet", "u:pw@host/p/x.parquet?sig=1", "host"),
        ),
    ],
)
def test_an_address_points_into_a_store(uri, options, expected):
    """Each kind of address becomes a key in a store of its scheme, at the endpoint or account that is set."""
    path = object_path(uri, options)

    assert expected == (str(path), path.key, path.store.endpoint)


def test_deltalake_gets_what_it_needs_of_an_endpoint():
    """An endpoint without TLS is allowed to deltalake, the region has a value, and no secret is shown or is of other things."""
    options = KEYS | {"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_SESSION_TOKEN": "", "HOME": "/nowhere"}

    path = object_path("s3://b/t", options)

    expected = {"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    assert KEYS | expected == path.store.delta_options
    assert "AWS_SECRET_ACCESS_KEY" not in repr(path)


def test_the_environment_fills_in(monkeypatch):
    """Variables of the environment are used where a setting is missing, and only there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-the-environment:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    assert "of-the-environment:1" == object_path("s3://b/t", {}).store.endpoint
    assert "minio" == object_path("s3://b/t", {"AWS_ENDPOINT_URL": "http://minio"}).store.endpoint
    assert "eu-west-1" == object_path("s3://b/t", {}).store.delta_options["AWS_REGION"]


@pytest.mark.parametrize(
    ("uri", "options", "expected"),
    [
        ("ftp://host/x.parquet", {}, "the source 'ftp://host/x.parquet' has an address that cannot be read (ftp://)"),
        ("s3://", {}, "the source 's3://' names no bucket or host; write it as s3://bucket/path"),
        ("az://c/p", {}, "the source 'az://c/p' names no storage account; write it as abfs://container@account."),
        (
            "gs://b/p",
            {"GOOGLE_SERVICE_ACCOUNT": "k.json"},
            "cannot be read with GOOGLE_SERVICE_ACCOUNT from offline_store.",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(uri, options, expected):
    """What cannot be reached from here is refused with what to write instead."""
    with pytest.raises(SourceError) as caught:
        object_path(uri, options)

    assert expected in str(caught.value)


def test_passwords_and_signatures_are_not_shown():
    """A web address is shown without user and query, any other path as it is."""
    assert "https://host/a.parquet" == shown("https://me:secret@host/a.parquet?signature=x")
    assert "s3://b/a?.parquet" == shown("s3://b/a?.parquet")
    assert "data/a@b?.parquet" == shown("data/a@b?.parquet")
