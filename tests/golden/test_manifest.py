"""The manifest of training sets, as bytes."""

import hashlib
import json
from pathlib import Path

import pytest

from hindcast.datasets.manifest import decoded, id_of
from hindcast.errors import DatasetError
from manifests import make_manifest

GOLDEN = Path(__file__).with_name("manifest.json")


def test_the_bytes_are_those_of_the_golden_file():
    """A manifest is the bytes of the golden file, and its id the SHA-256 of them."""
    golden_bytes = GOLDEN.read_bytes().rstrip(b"\n")
    assert golden_bytes == make_manifest().encoded()
    assert f"sha256:{hashlib.sha256(golden_bytes).hexdigest()}" == id_of(golden_bytes)


def test_a_manifest_is_read_as_it_was_written():
    """What is read back is equal to what was written."""
    manifest = make_manifest()
    assert manifest == decoded(manifest.encoded(), where="here")


def test_the_json_is_canonical():
    """Keys are sorted at every depth, there is no space between tokens, text is UTF-8, and no number has a fraction."""
    encoded = make_manifest().encoded()
    again = json.dumps(json.loads(encoded), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    numbers = []
    json.loads(encoded, parse_float=numbers.append)
    assert (encoded, []) == (again, numbers)


@pytest.mark.parametrize("broken", [b"", b"[]", b"{}", b'{"format":1}', b"\xff"])
def test_what_is_no_manifest_is_refused(broken):
    """Bytes that are no manifest are said to be damaged, with the file that they are from."""
    with pytest.raises(DatasetError, match=r"here is no manifest"):
        decoded(broken, where="here")


def test_a_newer_format_is_told_from_damage():
    """A manifest of a later format asks for a newer version."""
    with pytest.raises(DatasetError, match="format 2"):
        decoded(b'{"format":2}', where="here")
