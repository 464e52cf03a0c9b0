"""Digests of sources that are known from an earlier build, and when they are not gone by."""

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hindcast.clock import system_clock
from hindcast.datasets import known_digests
from hindcast.datasets.known_digests import SETTLED_SECONDS, KnownDigests, read_sha256
from hindcast.errors import SourceError

SETTLED_MICROS = SETTLED_SECONDS * 1_000_000


def later():
    """A time at which a file that was written just now is settled."""
    return system_clock() + 2 * SETTLED_MICROS


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.parquet"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def ask(tmp_path):
    """Asks for the digest of a file as a build does; gives it, and whether the file was read."""

    def ask(path, *, clock=later, **options):
        was_read = []

        def read(path):
            was_read.append(path)
            return read_sha256(path)

        digests = KnownDigests(tmp_path / "state/digests", clock=clock, read=read, **options)
        digest = digests.sha256(path)
        digests.check()
        digests.keep()
        return digest, bool(was_read)

    return ask


def test_a_file_that_nobody_touched_is_read_once(source, ask):
    """The first build reads a file, the second knows its digest."""
    assert [(sha256(b"first"), True), (sha256(b"first"), False)] == [ask(source), ask(source)]


def rewrite(path):
    path.write_bytes(b"other")


def rewrite_and_hide(path):
    before = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(b"other")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def append(path):
    with path.open("ab") as file:
        file.write(b" and more")


def write_in_place(path):
    with path.open("r+b") as file:
        file.write(b"F")


CHANGES = {
    "written anew": rewrite,
    "written anew, with the size and the time it had": rewrite_and_hide,
    "replaced by another, with the size and the time it had": replace,
    "appended to": append,
    "written in its midst": write_in_place,
    "touched": lambda path: path.touch(),
    "replaced by its copy": lambda path: shutil.copy2(path, path.with_suffix(".new")).replace(path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_touched_is_read_again(source, ask, change):
    """Whatever was done to a file since its digest was taken, it is read again, and the digest is that of its bytes."""
    ask(source)
    _next_tick(source)
    CHANGES[change](source)
    assert (sha256(source.read_bytes()), True) == ask(source)


def _next_tick(path):
    """Until the file system's clock has moved on since a file was changed, which takes it some milliseconds."""
    other = path.with_suffix(".tick")
    until = time.monotonic() + 5
    other.touch()
    while other.stat().st_ctime_ns == path.stat().st_ctime_ns and time.monotonic() < until:
        other.touch()


def test_a_renamed_file_is_read_again_or_is_the_same(source, ask):
    """A file under another name has a new time, and its digest is that of its bytes."""
    ask(source)
    moved = source.rename(source.with_name("moved.parquet"))
    assert sha256(b"first") == ask(moved)[0]


@pytest.mark.parametrize(
    ("after_micros", "is_read"), [(0, True), (SETTLED_MICROS // 2, True), (SETTLED_MICROS + 1_000_000, False)]
)
def test_a_file_changed_just_before_is_not_kept(source, ask, after_micros, is_read):
    """The digest of a file that was changed less than a minute before it was read is not kept, and the next build reads it again."""
    changed = source.stat().st_ctime_ns // 1000
    ask(source, clock=lambda: changed + after_micros)
    assert (sha256(b"first"), is_read) == ask(source)


def test_a_file_from_the_future_is_not_kept(source, ask):
    """Where the clock was set back since a file was changed, its digest is not kept."""
    changed = source.stat().st_ctime_ns // 1000
    ask(source, clock=lambda: changed - 3_600_000_000)
    assert (sha256(b"first"), True) == ask(source)


def test_reading_all_goes_by_nothing_that_is_known(source, ask):
    """Where known digests are not to be gone by, every file is read, and what is found out is known to the next one."""
    told = [ask(source)[1], ask(source, is_trusted=False)[1], ask(source)[1]]
    assert [True, True, False] == told


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def forge(path):
    head, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n" + body.replace(sha256(b"first").encode(), sha256(b"forged").encode()))


def other_format(path):
    body = path.read_bytes().partition(b"\n")[2]
    path.write_bytes(b"hindcast source digests 2 " + sha256(body).encode() + b"\n" + body)


def other_shape(path):
    body = b'{"files": 1}'
    path.write_bytes(b"hindcast source digests 1 " + sha256(body).encode() + b"\n" + body)


def directory(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "cut short": cut,
    "empty": lambda path: path.write_bytes(b""),
    "a digest is another one": forge,
    "of a later format": other_format,
    "of another shape": other_shape,
    "a directory": directory,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_digests_costs_only_time(source, ask, tmp_path, damage):
    """Whatever became of the file of digests, the source is read, and the digest is that of its bytes."""
    ask(source)
    DAMAGES[damage](tmp_path / "state/digests")
    assert (sha256(b"first"), True) == ask(source)


def test_builders_at_once_leave_a_whole_file(tmp_path):
    """Sixteen builders that keep digests at once leave a file of one of them at least, whole, and nothing else."""
    sources = [tmp_path / f"{number}.parquet" for number in range(16)]
    for path in sources:
        path.write_text(path.name)

    def build(path):
        digests = KnownDigests(tmp_path / "state/digests", clock=later)
        digests.sha256(path)
        digests.keep()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(build, sources))
    was_read = []

    def read(path):
        was_read.append(path)
        return read_sha256(path)

    digests = KnownDigests(tmp_path / "state/digests", clock=later, read=read)
    found = [digests.sha256(path) for path in sources]
    assert [sha256(path.name.encode()) for path in sources] == found
    assert len(was_read) < 16
    assert ["digests"] == [path.name for path in (tmp_path / "state").iterdir()]


def test_no_more_digests_are_kept_than_there_is_room_for(tmp_path, ask, monkeypatch):
    """Where more files were hashed than are kept, those used last are."""
    monkeypatch.setattr(known_digests, "FILES_MAX", 2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    for path in (paths[0], paths[1], paths[2]):
        ask(path)
    assert [False, False, True] == [ask(path)[1] for path in reversed(paths)]


def test_a_disk_that_takes_nothing_is_no_error(source, ask, tmp_path):
    """Where the digests cannot be kept, the build has them all the same."""
    (tmp_path / "state").write_text("in the way")
    assert [(sha256(b"first"), True)] * 2 == [ask(source), ask(source)]


def test_a_file_changed_during_a_build_ends_it(source, tmp_path):
    """A file that was changed between its digest and the end of the read is refused, also where its size and time are as they were."""
    digests = KnownDigests(tmp_path / "state/digests", clock=later)
    digests.sha256(source)
    digests.keep()
    _next_tick(source)
    known = KnownDigests(tmp_path / "state/digests", clock=later)
    known.sha256(source)
    rewrite_and_hide(source)
    with pytest.raises(SourceError, match="changed while it was read"):
        known.check()


def test_a_file_only_touched_during_a_build_is_the_same(source, tmp_path):
    """A file that got other times or rights during a build, and no other bytes, is the same one."""
    digests = KnownDigests(tmp_path / "state/digests", clock=later)
    digests.sha256(source)
    _next_tick(source)
    source.chmod(0o600)
    digests.check()


def test_a_file_gone_during_a_build_ends_it(source, tmp_path):
    """A file that is gone at the end of the read is refused."""
    digests = KnownDigests(tmp_path / "state/digests", clock=later)
    digests.sha256(source)
    source.unlink()
    with pytest.raises(SourceError, match="changed while it was read"):
        digests.check()


def test_only_file_systems_of_this_machine_are_trusted(tmp_path):
    """A path belongs to the file system that is mounted nearest to it, and those that have another clock are not gone by."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 0:40 / /mnt/a\\040lake rw,relatime shared:2 - nfs4 server:/lake rw\n"
        "24 23 8:2 / /mnt/a\\040lake/scratch rw - xfs /dev/sdb1 rw\n"
    )
    mounts = known_digests.Mounts.read(table)
    expected = {"/mnt/other": True, "/mnt/a lake/x": False, "/mnt/a lakes/x": True, "/mnt/a lake/scratch/x": True}
    assert expected == {path: mounts.is_local(path) for path in expected}
    assert not known_digests.Mounts.read(tmp_path / "none").is_local("/mnt/other")
