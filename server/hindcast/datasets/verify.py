"""Whether the files of a training set are what its manifest says."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hindcast.datasets.canonical import Hasher
from hindcast.datasets.delta_form import delta_schema
from hindcast.datasets.manifest import FileRecord, Manifest
from hindcast.datasets.parts import Part, read_parts
from hindcast.datasets.sign import PublicKey, Signature
from hindcast.datasets.sign import verify as check_signature
from hindcast.datasets.store import SIGNATURE, StoredSet, id_bytes
from hindcast.errors import DatasetError, InvalidArgument, NotProven

_BLOCK_BYTES = 2**20


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
    problems = [said for file in _files(manifest) if (said := file_trouble(stored.path, file)) is not None]
    problems += wrong_rows(stored)
    signature, trouble = _signature(stored, key)
    if trouble:
        problems.append(trouble)
    signer = "" if signature is None else str(signature.public_key)
    return Verification(ref=stored.ref, id=stored.id, problems=tuple(problems), signed_by=signer)


def _files(manifest: Manifest) -> Iterator[FileRecord]:
    yield from manifest.files
    if manifest.frame.is_kept:
        yield from manifest.frame.files
    yield from manifest.evidence.origins
    yield from manifest.evidence.snapshots.values()
    if manifest.lookups is not None:
        yield from manifest.lookups.places
        if manifest.lookups.labels.frame.is_kept:
            yield from manifest.lookups.labels.frame.files


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
    return None if digest.hexdigest() == file.sha256 else f"{file.path} has other bytes than its manifest says"


def _signature(stored: StoredSet, key: PublicKey | None) -> tuple[Signature | None, str]:
    """The signature of a set, and what is wrong with it."""
    try:
        given = json.loads((stored.path / SIGNATURE).read_bytes())
        signature = Signature.from_json(given)
        check_signature(id_bytes(stored.id), signature, signature.public_key if key is None else key)
    except FileNotFoundError:
        return None, "" if key is None else "the set is not signed"
    except (OSError, ValueError, AttributeError, InvalidArgument, NotProven):
        return None, f"{SIGNATURE} is damaged, of another manifest, or not by the key that was given"
    return signature, ""


def wrong_rows(stored: StoredSet) -> Iterator[str]:
    """Row groups whose meaning is another one."""
    manifest = stored.manifest
    try:
        with Part(stored.path / manifest.files[0].path) as part:
            schema = part.schema.remove_metadata()
        hasher = Hasher(schema)
        for table in read_parts(stored.path, manifest.files):
            for batch in table.to_batches():
                hasher.update(batch.replace_schema_metadata())
        found = hasher.finish()
        if manifest.delta_version is not None:
            yield from _wrong_table(stored, schema, manifest.delta_version)
    except (DatasetError, InvalidArgument, OSError, ValueError):
        yield "the rows cannot be read"
        return
    groups = [f"sha256:{group.root.hex()}" for group in found.groups]
    known = [group.digest for group in manifest.groups]
    for number, (now, then) in enumerate(zip(groups, known, strict=False)):
        if now != then:
            yield f"the rows from {found.groups[number].first_row:,} on, in row group {number}, are other ones"
    if len(groups) != len(known):
        yield f"there are {found.rows:,} rows, and the manifest says {manifest.rows:,}"
    elif groups == known and str(found) != manifest.digest:
        yield "the columns are other ones, or the digest of all rows was changed in the manifest"


def _wrong_table(stored: StoredSet, schema: pa.Schema, version: int) -> Iterator[str]:
    from hindcast.datasets.delta_table import table_problems  # noqa: PLC0415 - deltalake, which few sets need

    yield from table_problems(stored.path / "data", delta_schema(schema), version=version)
