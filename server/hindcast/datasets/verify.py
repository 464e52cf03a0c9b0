"""Whether the files of a training set are what its manifest says."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hindcast.datasets.canonical import Hasher, TableDigest
from hindcast.datasets.claims import RowClaims
from hindcast.datasets.coherence import contradictions
from hindcast.datasets.delta_form import delta_schema
from hindcast.datasets.manifest import FileRecord, Manifest, is_canonical
from hindcast.datasets.parts import Part, read_parts
from hindcast.datasets.sign import PublicKey, Signature
from hindcast.datasets.sign import verify as check_signature
from hindcast.datasets.splits import COLUMN
from hindcast.datasets.store import MANIFEST, SIGNATURE, StoredSet, id_bytes
from hindcast.errors import DatasetError, InvalidArgument, NotProven

_BLOCK_BYTES = 2**20
_UNREADABLE = "the rows cannot be read"
_NAME_IN_MAP = re.compile(r" \('[^']*'\)")
"""In the text of a map's type: how its values are called, which is no part of the type and does not outlast Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of it.

    Attributes:
        problems: what is not as it was, in words; none for a set that is whole.
        signed_by: the key that the signature says it is of, as OpenSSH writes it; empty without one. Whose that key is, it does not say.
    """

    ref: str
    id: str
    problems: tuple[str, ...]
    signed_by: str

    @property
    def intact(self) -> bool:
        """Whether all is as it was."""
        return not self.problems


def verify(stored: StoredSet, *, key: PublicKey | None = None) -> Verification:
    """Read all files of a set, and hold their bytes and the meaning of its rows against the manifest.

    Args:
        key: that must have signed the manifest; None for whoever did, or nobody.
    """
    manifest = stored.manifest
    problems = [said for file in manifest.own_files() if (said := file_trouble(stored.path, file)) is not None]
    problems += _wrong_manifest(stored)
    problems += _unlisted(stored)
    signature, trouble = _signature(stored, key)
    if trouble:
        problems.append(trouble)
    signer = "" if signature is None else str(signature.public_key)
    return Verification(ref=stored.ref, id=stored.id, problems=tuple(problems), signed_by=signer)


def _unlisted(stored: StoredSet) -> Iterator[str]:
    """Files that the manifest does not name: whoever reads the folder instead of the set would read them, too."""
    known = {MANIFEST, SIGNATURE, *(file.path for file in stored.manifest.own_files())}
    log = () if stored.manifest.delta_version is None else ("data", "_delta_log")
    for path in sorted(stored.path.rglob("*")):
        inner = path.relative_to(stored.path)
        if not path.is_dir() and str(inner) not in known and inner.parts[:2] != log:
            yield f"{inner} is no file of the set"


def file_trouble(directory: Path, file: FileRecord) -> str | None:
    """What is wrong with a file of a set, in words that begin with its path; None where its bytes are those of the manifest."""
    path = directory / file.path
    digest = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            while block := opened.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return f"{file.path} is gone, or may not be read"
    is_same = digest.hexdigest() == file.sha256 and path.stat().st_size == file.bytes
    return None if is_same else f"{file.path} has other bytes than its manifest says"


def _signature(stored: StoredSet, key: PublicKey | None) -> tuple[Signature | None, str]:
    """The signature of a set, and what is wrong with it."""
    try:
        given = json.loads((stored.path / SIGNATURE).read_bytes())
        signature = Signature.from_json(given)
        check_signature(id_bytes(stored.id), signature, signature.public_key if key is None else key)
    except FileNotFoundError:
        return None, "" if key is None else "the set is not signed"
    except (OSError, ValueError, AttributeError, RecursionError, InvalidArgument, NotProven):
        return None, f"{SIGNATURE} is damaged, of another manifest, or not by the key that was given"
    return signature, ""


@dataclass(frozen=True, slots=True)
class _Read:
    """The rows of a set, as they were read.

    Attributes:
        dealt: split -> rows of it; nothing where there are no splits.
    """

    schema: pa.Schema
    digest: TableDigest
    dealt: Mapping[str | None, int]
    claims: RowClaims | None

    @property
    def groups(self) -> list[str]:
        """The digests of the row groups."""
        return [f"sha256:{group.root.hex()}" for group in self.digest.groups]

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether the digest of all rows is the manifest's."""
        return str(self.digest) == manifest.digest

    def are_groups_whole(self, manifest: Manifest) -> bool:
        """Whether the digests of the row groups are the manifest's."""
        return self.groups == [group.digest for group in manifest.groups]


def _read_rows(stored: StoredSet, *, with_claims: bool) -> _Read | None:
    """Read all rows of a set; None where that is not possible."""
    manifest = stored.manifest
    dealt: Counter[str | None] = Counter()
    try:
        with Part(stored.path / manifest.files[0].path) as part:
            schema = part.schema.remove_metadata()
        hasher = Hasher(schema)
        claims = RowClaims(manifest, schema) if with_claims else None
        for table in read_parts(stored.path, manifest.files):
            dealt.update(_dealt(table))
            for batch in table.to_batches():
                hasher.update(batch.replace_schema_metadata())
            if claims is not None:
                claims.add(table)
        return _Read(schema, hasher.finish(), dealt, claims)
    except (DatasetError, InvalidArgument, KeyError, OSError, ValueError):
        return None


def wrong_rows(stored: StoredSet) -> Iterator[str]:
    """Row groups whose meaning is another one, and what the manifest says of the number and the columns of rows that they are not."""
    read = _read_rows(stored, with_claims=False)
    yield from [_UNREADABLE] if read is None else _wrong_meaning(stored, read)


def _wrong_manifest(stored: StoredSet) -> Iterator[str]:
    """All that the rows, the evidence and the manifest itself say otherwise than a field of it."""
    manifest = stored.manifest
    read = _read_rows(stored, with_claims=True)
    yield from [_UNREADABLE] if read is None else _wrong_meaning(stored, read)
    if not is_canonical((stored.path / MANIFEST).read_bytes()):
        yield f"{MANIFEST} is not written as a build writes it: it was edited"
    yield from contradictions(manifest, name=stored.name)
    # Of rows that are other ones all else would be other, too.
    if read is None or read.claims is None or not (read.is_whole(manifest) or read.are_groups_whole(manifest)):
        return
    yield from read.claims.problems(stored.path)
    if manifest.lookups is not None:
        from hindcast.datasets.lookup_claims import lookup_problems  # noqa: PLC0415 - the log's readers, which few sets need

        yield from lookup_problems(stored, manifest.lookups)


def _wrong_meaning(stored: StoredSet, read: _Read) -> Iterator[str]:
    manifest, found = stored.manifest, read.digest
    if manifest.delta_version is not None:
        try:
            yield from list(_wrong_table(stored, read.schema, manifest.delta_version))
        except (DatasetError, InvalidArgument, OSError, ValueError):
            yield _UNREADABLE
            return
    groups, known = read.groups, [group.digest for group in manifest.groups]
    # The digest of all rows is over those of the groups: where it is right, it is the manifest's groups that are not.
    is_whole = read.is_whole(manifest)
    for number, (now, then) in enumerate(zip(groups, known, strict=False)):
        if now != then and is_whole:
            yield f"groups[{number}].digest is not that of the rows from {found.groups[number].first_row:,} on"
        elif now != then:
            yield f"the rows from {found.groups[number].first_row:,} on, in row group {number}, are other ones"
    if len(groups) != len(known) and (is_whole or found.rows == manifest.rows):
        yield f"groups are {len(known):,}, and the rows have {len(groups):,}"
    elif len(groups) != len(known):
        yield f"there are {found.rows:,} rows, and the manifest says {manifest.rows:,}"
    elif groups == known and not is_whole:
        yield "digest or columns are other ones than those of the rows"
    if groups == known or is_whole:
        yield from _wrong_words(manifest, read)


def _dealt(table: pa.Table) -> Mapping[str | None, int]:
    if COLUMN not in table.schema.names:
        return {}
    counts = table.column(COLUMN).combine_chunks().value_counts()
    return dict(zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True))


def _wrong_words(manifest: Manifest, read: _Read) -> Iterator[str]:
    """What a manifest whose digests are right says otherwise than its rows: it was edited, since a build does not write that."""
    found, splits = read.digest, manifest.splits
    if manifest.rows != found.rows:
        yield f"rows are {manifest.rows:,} in the manifest, and there are {found.rows:,}"
    rows = [group.rows for group in found.groups]
    for number, (group, now) in enumerate(zip(manifest.groups, rows, strict=False)):
        if group.rows != now:
            yield f"groups[{number}].rows is {group.rows:,}, and there are {now:,}"
    if manifest.frame.rows != found.rows:
        yield f"frame.rows is {manifest.frame.rows:,}, and there are {found.rows:,}"
    said = [(column.name, _NAME_IN_MAP.sub("", column.type)) for column in manifest.columns]
    if said != [(one.name, _NAME_IN_MAP.sub("", str(one.type))) for one in read.schema]:
        yield "columns are other ones in the manifest than those of the rows"
    if splits is not None and splits.rows != tuple(read.dealt.get(name, 0) for name in splits.names):
        yield "splits have other numbers of rows in the manifest than there are"


def _wrong_table(stored: StoredSet, schema: pa.Schema, version: int) -> Iterator[str]:
    from hindcast.datasets.delta_table import table_problems  # noqa: PLC0415 - deltalake, which few sets need

    yield from table_problems(stored.path / "data", delta_schema(schema), version=version)
