"""Objects: files that are not on this machine's disk, as the file systems of pyarrow and fsspec show them.

Nothing is tried again here: the libraries do so themselves. What they say when they give up is put into our own words.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from pyarrow.fs import FileInfo, FileSelector, FileType

from hindcast.errors import HindcastError, SourceError
from hindcast.offline.location import fixed_names, is_hidden, is_pattern, parts_name

_ASKED_AT_ONCE = 16
"""Objects that are asked for their tag at once; an answer takes 10 to 50 ms, and the store's clients allow some 25 connections."""

_TAGS = ("VersionId", "x-ms-version-id", "generation", "ETag", "etag")
"""What stores call the mark that differs between two contents of one object, the most exact first."""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A place where objects are, and how it is reached. Two are the same where their scheme and endpoint are.

    Attributes:
        scheme: of addresses in it.
        endpoint: which of the stores of that scheme; empty for the usual one.
        file_system: of pyarrow.
        tag: the mark of an object, by its key, where the file system has it apart from the open file.
        delta_options: what deltalake needs to reach it.
    """

    scheme: str
    endpoint: str
    file_system: Any = field(compare=False, repr=False)
    tag: Callable[[str], str] | None = field(default=None, compare=False, repr=False)
    delta_options: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_web(self) -> bool:
        """Whether there are single files only, without folders that could be listed."""
        return self.scheme in {"http", "https"}


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """Where an object is, or a folder of them. As text it is an address.

    Attributes:
        key: as the file system calls it: bucket and key; for HTTP all that follows the scheme.
    """

    store: ObjectStore
    key: str

    def __str__(self) -> str:
        """The address."""
        return shown(f"{self.store.scheme}://{self.key}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names on the way to it; paths are in order where these are, folder by folder."""
        return tuple(self.key.split("/"))

    def below(self, name: str) -> "ObjectPath":
        """What has a name in this folder."""
        return ObjectPath(self.store, f"{self.key}/{name}")

    @property
    def called(self) -> str:
        """By this the file system knows it."""
        return f"{self.store.scheme}://{self.key}" if self.store.is_web else self.key


@dataclass(frozen=True, slots=True)
class ObjectPin:
    """An object as it was found; one whose pin differs is another one.

    Attributes:
        mtime_ns: 0 where the store does not tell; most tell whole seconds.
        tag: the object's version or ETag, which differs for other content; empty where the store does not tell.
    """

    path: ObjectPath
    size_bytes: int
    mtime_ns: int
    tag: str

    @classmethod
    def of(cls, path: ObjectPath, info: FileInfo | None = None) -> "ObjectPin":
        """The pin of an object as it is now.

        Args:
            info: what a list says of it.
        Raises:
            OSError: it is not there, or the store does not answer.
        """
        found = info or path.store.file_system.get_file_info(path.called)
        if found.type != FileType.File:
            raise FileNotFoundError(str(path))
        with path.store.file_system.open_input_file(path.called) as file:
            return cls(path, file.size(), found.mtime_ns or 0, _tag(path, file))

    def open(self) -> Any:
        """The object as a file of Arrow, read by ranges."""
        return self.path.store.file_system.open_input_file(self.path.called)

    def is_of(self, file: Any) -> bool:
        """Whether a file that was opened by this path is the object that was pinned."""
        if not self.tag:
            return self.is_current()
        return bool(file.size() == self.size_bytes and _tag(self.path, file) == self.tag)

    def is_current(self) -> bool:
        """Whether the object is still as it was pinned, as far as the store tells."""
        if not self.tag:
            return ObjectPin.of(self.path) == self
        with self.open() as file:
            return self.is_of(file)


def shown(uri: str) -> str:
    """A source's path as messages and records have it: without a password or a signature, which web addresses can have in them."""
    scheme, mark, rest = uri.partition("://")
    if scheme.lower() not in {"http", "https"}:
        return uri
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path.partition("?")[0]


def object_pins(paths: Iterable[tuple[ObjectPath, FileInfo | None]]) -> Sequence[ObjectPin]:
    """The pins of objects as they are now, in their order.

    Raises:
        OSError: one is not there, or the store does not answer.
    """
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(lambda found: ObjectPin.of(*found), paths))


def source_objects(path: ObjectPath) -> Sequence[tuple[ObjectPath, FileInfo]]:
    """The objects of a source in their order, by the rules for files (`location.source_files`, and patterns as `sources` reads them)."""
    if path.store.is_web:
        return _web_file(path)
    found = path.store.file_system.get_file_info(path.called)
    single = [found] if found.type == FileType.File else []
    beside = ObjectPath(path.store, parts_name(path.key)) if single else path
    infos = [*single, *_parquet_below(beside)]
    if not infos and found.type == FileType.NotFound and is_pattern(path.key):
        infos = _matching(path)
    keys = {info.path: info for info in infos}
    objects = [(_path_of(path.store, key), info) for key, info in keys.items()]
    return sorted(objects, key=lambda found: (found[0] != path, found[0].parts))


def _web_file(path: ObjectPath) -> Sequence[tuple[ObjectPath, FileInfo]]:
    try:
        _web_tag(path)
    except FileNotFoundError as error:
        if trouble(error, str(path)):
            raise
        return []
    return [(path, path.store.file_system.get_file_info(path.called))]


def _web_tag(path: ObjectPath) -> str:
    """Ask for the tag, which says why there is none; pyarrow's file system says no more than that."""
    return path.store.tag(path.called) if path.store.tag else ""


def is_folder(path: ObjectPath) -> bool:
    """Whether there is something below a path."""
    return bool(path.store.file_system.get_file_info(path.called).type == FileType.Directory)


def check_bucket(path: ObjectPath, *, what: str) -> None:
    """Where nothing was found, say whether not even the bucket, or container, is there.

    Raises:
        SourceError: it is not.
    """
    if not path.store.is_web and path.store.file_system.get_file_info(path.parts[0]).type == FileType.NotFound:
        raise SourceError(_NO_BUCKET.format(what=what))


@contextmanager
def in_our_words(what: str, *, passing: type[BaseException] = HindcastError) -> Iterator[None]:
    """Turns what a store's client raises into our own words.

    Args:
        what: is read there, as messages call it.
        passing: errors that the caller has words for.
    Raises:
        SourceError: anything else was raised in the block, but an error of ours.
    """
    try:
        yield
    except (HindcastError, passing):
        raise
    except Exception as error:
        said = trouble(error, what)
        raise SourceError(
            said or f"{what} cannot be read; check its path, and what the object store says of it"
        ) from error


def trouble(error: BaseException, what: str) -> str:
    """What is wrong with reaching something, and what to do next; empty where the error is of another kind."""
    text = f"{error} {error.__cause__ or ''}".lower()
    return next((sentence.format(what=what) for pattern, sentence in _TROUBLES if pattern.search(text)), "")


_NO_BUCKET = "{what} does not exist: there is no such bucket; check the path of the FileSource, and the endpoint"
_OTHER_REGION = "{what} is in another region than it was looked for; set AWS_REGION, in the environment or in offline_store.storage_options"
_NO_RIGHTS = (
    "{what} may not be read with the credentials at hand; check those of the environment, of the source's connection_ref or of "
    "offline_store.storage_options, and that they may list and read it"
)
_NO_ANSWER = (
    "{what} cannot be reached; check the network, that the store is up, and its endpoint (s3_endpoint_override of the FileSource, or "
    "offline_store.storage_options)"
)

_TROUBLES: Sequence[tuple[re.Pattern[str], str]] = [
    (
        re.compile(
            r"no_?such_?bucket|bucket '[^']*' not found|container_?not_?found|specified container does not exist"
        ),
        _NO_BUCKET,
    ),
    (
        re.compile(r"http status 301|permanent_?redirect|authorization_?header_?malformed|illegallocationconstraint"),
        _OTHER_REGION,
    ),
    (
        re.compile(
            r"access_?denied|forbidden|unauthorized|status:? 40[13]|\b40[13], message|signature_?does_?not_?match|authenticationfailed"
            r"|invalid_?access_?key_?id|invalid_?client_?token|expired_?token|unrecognized_?client|permission_?denied|no credentials"
            r"|could not (?:find|load) .*credential|invalid_?grant"
        ),
        _NO_RIGHTS,
    ),
    (
        re.compile(
            r"network_connection|could(?: not|n't) connect|resolv|timed? ?out|connection (?:refused|reset|closed)|dns error"
            r"|error sending request|cannot connect|server disconnected|unavailable|retry policy exhausted"
        ),
        _NO_ANSWER,
    ),
]


def _tag(path: ObjectPath, file: Any) -> str:
    if path.store.tag is not None:
        return path.store.tag(path.called)
    told = {name if isinstance(name, str) else name.decode(): value for name, value in (file.metadata() or {}).items()}
    values = [told[name] for name in _TAGS if told.get(name)]
    return (values[0].decode() if isinstance(values[0], bytes) else str(values[0])) if values else ""


def _path_of(store: ObjectStore, called: str) -> ObjectPath:
    return ObjectPath(store, called.removeprefix(f"{store.scheme}://"))


def _parquet_below(folder: ObjectPath) -> list[FileInfo]:
    """What a folder stands for: its Parquet files at any depth, without those that are hidden below it."""
    selector = FileSelector(folder.called, recursive=True, allow_not_found=True)
    depth = len(folder.called.split("/"))
    return [
        info
        for info in folder.store.file_system.get_file_info(selector)
        if info.type == FileType.File and info.path.endswith(".parquet") and not is_hidden(info.path.split("/")[depth:])
    ]


def _matching(path: ObjectPath) -> list[FileInfo]:
    """The Parquet files that match a pattern, and those below the folders that do."""
    names = path.parts
    fixed = fixed_names(names)
    base, pattern = ObjectPath(path.store, "/".join(names[:fixed])), names[fixed:]
    depth = len(base.called.split("/")) if base.key else 0
    found: list[FileInfo] = []
    for info in _walk(path.store, base.called if base.key else "", pattern):
        if is_hidden(info.path.split("/")[depth:], pattern):
            continue
        if info.type == FileType.Directory:
            found += _parquet_below(_path_of(path.store, info.path))
        elif info.path.endswith(".parquet"):
            found.append(info)
    return found


def _walk(store: ObjectStore, folder: str, pattern: Sequence[str]) -> Iterator[FileInfo]:
    """What matches a pattern below a folder; only folders that can hold some are listed."""
    name, *rest = pattern
    listed = partial(FileSelector, folder, allow_not_found=True)
    if name == "**":
        if not rest:
            yield store.file_system.get_file_info(folder)
        below = len(folder.split("/")) if folder else 0
        for info in store.file_system.get_file_info(listed(recursive=True)):
            if _is_match(info.path.split("/")[below:], pattern):
                yield info
        return
    for info in store.file_system.get_file_info(listed(recursive=False)):
        if not _is_match([info.base_name], [name]):
            continue
        if not rest:
            yield info
        elif info.type == FileType.Directory:
            yield from _walk(store, info.path, rest)


def _is_match(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """As `glob` does: `**` is any number of folders, and no name that begins with a dot is met by a wildcard."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        if _is_match(names, pattern[1:]):
            return True
        return bool(names) and not names[0].startswith(".") and _is_match(names[1:], pattern)
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(names[0], pattern[0]) and _is_match(names[1:], pattern[1:])
