"""Digests of sources: right, taken in blocks, and not taken again for a file that is as it was."""

import hashlib
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from hindcast.errors import LedgerError
from hindcast.materialize import digests
from hindcast.materialize.digests import digest_files


@pytest.fixture
def file(tmp_path):
    """A file that has not changed for long."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    return path


def known(*sources):
    """Sources as the ledger gives them."""
    return {source.path: source for source in sources}


def test_a_digest_is_that_of_the_content(file):
    """Path, size and SHA-256 are those of the file, in the order asked for."""
    other = file.with_name("other")
    other.write_bytes(b"")
    first, second = digest_files([file, other], known={})
    assert (str(file), 3, hashlib.sha256(b"one").hexdigest()) == (first.path, first.bytes, first.sha256)
    assert (str(other), 0, hashlib.sha256(b"").hexdigest()) == (second.path, second.bytes, second.sha256)


def test_a_relative_path_is_recorded_absolute(file, monkeypatch):
    """The ledger names a file the same from whatever directory a run was started."""
    monkeypatch.chdir(file.parent)
    assert digest_files([file], known={}) == digest_files([Path(file.name)], known={})


def test_an_unchanged_file_is_not_read(file):
    """A file with the path, size, time and inode of a known one has its digest, whatever stands in it now."""
    (before,) = digest_files([file], known={})
    with file.open("r+b") as rewritten:
        rewritten.write(b"two")
    os.utime(file, ns=(10**18, 10**18))
    (after,) = digest_files([file], known=known(before))
    assert hashlib.sha256(b"one").hexdigest() == after.sha256
    assert before == after


@pytest.mark.parametrize("change", ["size", "time", "inode", "path"])
def test_a_changed_file_is_read(file, change):
    """A file that differs in any of the four from what is known is read."""
    (before,) = digest_files([file], known={})
    content = b"longer" if change == "size" else b"two"
    if change in {"inode", "path"}:
        new = file.with_name("new")
        new.write_bytes(content)
        file = new if change == "path" else new.replace(file)
    else:
        with file.open("r+b") as rewritten:
            rewritten.write(content)
    os.utime(file, ns=(10**18 + (change == "time"),) * 2)
    (after,) = digest_files([file], known=known(before))
    assert hashlib.sha256(content).hexdigest() == after.sha256


def test_a_known_source_without_a_digest_is_read(file):
    """What was recorded without a digest is no reason not to take one."""
    (before,) = digest_files([file], known={})
    (after,) = digest_files([file], known=known(replace(before, sha256="")))
    assert before == after


def test_a_big_file_is_read_in_blocks(tmp_path):
    """A file of 256 MB takes a few MB of memory, not its size."""
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (source,) = digest_files([path], known={})
    assert 256 << 20 == source.bytes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


def test_a_missing_file_is_named(tmp_path):
    """A file that is gone is an error that names it."""
    with pytest.raises(LedgerError, match=r"gone\.parquet cannot be read for its digest"):
        digest_files([tmp_path / "gone.parquet"], known={})


def changing(file, monkeypatch, *, times):
    """Make a file grow while it is read, the first so many times."""
    real, left = digests._sha256, iter(range(times))

    def sha256(opened, is_stopped):
        digest = real(opened, is_stopped)
        if next(left, None) is not None:
            with file.open("ab") as growing:
                growing.write(b"!")
        return digest

    monkeypatch.setattr(digests, "_sha256", sha256)


def test_a_file_that_changed_while_it_was_read_is_read_again(file, monkeypatch):
    """The digest is that of the content that has the size beside it."""
    changing(file, monkeypatch, times=1)
    (source,) = digest_files([file], known={})
    assert (4, hashlib.sha256(b"one!").hexdigest()) == (source.bytes, source.sha256)


def test_a_file_that_goes_on_changing_is_an_error(file, monkeypatch):
    """A file under a busy writer has no digest, and the error says what to wait for."""
    changing(file, monkeypatch, times=100)
    with pytest.raises(LedgerError, match="changes while it is read; run again when its writer is done"):
        digest_files([file], known={})


def test_digesting_stops_when_it_is_told_to(file):
    """A run that has ended waits for no digest of a large file."""
    with pytest.raises(LedgerError, match="the run ended before its sources were digested"):
        digest_files([file], known={}, is_stopped=lambda: True)
