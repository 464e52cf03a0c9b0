"""Drafts of `histories.py` on disk: sources as files and Delta tables, and all their rows in the order of their positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from delta_tables import delete_rows
from hindcast.offline.location import parts_directory
from histories import FileDraft, HistoryDraft
from oracle import SourceRow, source_order

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Written:
    """A source on disk.

    Attributes:
        uri: as a FileSource has it.
        rows: all of them, in the order of their positions.
        values: the same rows as Arrow reads the files, with the columns that folders name.
    """

    uri: str
    file_format: str
    rows: Sequence[SourceRow]
    values: pa.Table


def write_source(draft: HistoryDraft, root: Path) -> Written:
    """Write a source below an empty folder."""
    if draft.layout == "delta":
        return _write_delta(draft, root / "table")
    base = root / "source"
    by_path = {file.path: file for file in draft.files}
    if draft.layout == "file":
        first, *parts = draft.files
        path = root / first.path[0]
        _write(first, path)
        for part in parts:
            _write(part, parts_directory(path) / part.path[0])
        ordered = [by_path[one] for one in source_order(list(by_path), parts_of=first.path[0])]
        places = [path, *(parts_directory(path) / file.path[0] for file in ordered[1:])]
        return _read(draft, str(path), "parquet", ordered, places)
    for file in draft.files:
        _write(file, base.joinpath(*file.path))
    ordered = [by_path[one] for one in source_order(list(by_path))]
    places = [base.joinpath(*file.path) for file in ordered]
    uri = str(base) if draft.layout == "directory" else str(base / "**" / "*.parquet")
    return _read(draft, uri, "parquet", ordered, places)


def _write(file: FileDraft, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(file.table, path, **file.options)


def _read(
    draft: HistoryDraft, uri: str, file_format: str, ordered: Sequence[FileDraft], places: Sequence[Path]
) -> Written:
    tables = [
        _with_partitions(pq.ParquetFile(place).read(), file, draft.partitions)
        for file, place in zip(ordered, places, strict=True)
    ]
    columns = [draft.identity, *draft.keys, *draft.features, *draft.times, *draft.partitions]
    values = pa.concat_tables([table.select(columns) for table in tables], promote_options="permissive")
    return Written(uri, file_format, [row for file in ordered for row in file.rows], values)


def _with_partitions(table: pa.Table, file: FileDraft, partitions: Sequence[str]) -> pa.Table:
    """The columns that the folders of a file name, as text: what type they get is a matter of all files together."""
    said = dict(folder.split("=", 1) for folder in file.path[:-1] if "=" in folder)
    for name in partitions:
        value = None if said[name] == _HIVE_NULL else unquote(said[name])
        table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
    return table


def _write_delta(draft: HistoryDraft, path: Path) -> Written:
    by_identity = {}
    for file in draft.files:
        deltalake.write_deltalake(str(path), file.table, mode="append")
        by_identity.update(zip(file.table[draft.identity].to_pylist(), file.rows, strict=True))
    if draft.deletes and draft.by_vector:
        (file,) = draft.files
        identities = file.table[draft.identity].to_pylist()
        delete_rows(path, sorted(identities.index(one) for one in draft.deletes))
    elif draft.deletes:
        chosen = ", ".join(str(one) for one in draft.deletes)
        deltalake.DeltaTable(str(path)).delete(f'"{draft.identity}" IN ({chosen})')
    # Delta names its files by chance; their order is that of the names.
    places = sorted(path / unquote(uri).rsplit("/", 1)[1] for uri in deltalake.DeltaTable(str(path)).file_uris())
    columns = [draft.identity, *draft.keys, *draft.features, *draft.times]
    tables = [pq.ParquetFile(place).read(columns=columns) for place in places]
    if not tables:
        tables = [draft.files[0].table.slice(0, 0)]
    # A file that was written anew has views of text and bytes.
    schema = draft.files[0].table.select(columns).schema
    values = pa.concat_tables([table.select(columns).cast(schema) for table in tables])
    kept = [at for at, one in enumerate(values[draft.identity].to_pylist()) if one not in draft.deletes]
    values = values.take(pa.array(kept, pa.int64()))
    return Written(str(path), "delta", [by_identity[one] for one in values[draft.identity].to_pylist()], values)
