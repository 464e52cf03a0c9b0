"""The sealer: entity rows of closed segments into tables, on one core, by how many rows a lookup asks for.

Segments are written here as a server writes them; a process of its own seals them and reports its CPU, of all threads, and its memory.
Called as a script it is that process.
"""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from usage import measured

SECONDS_MAX = 120.0
_ENTITY_ROWS = 60_000
"""Of each shape: a segment of 64 MiB or more."""
_ANSWERS = 4_000
"""Distinct answers; more than any window of a compressor holds."""
_NOON = 1_793_534_400_000_000
_VERSION = f"sha256:{'0' * 64}"
_FOLDED_ROWS_MIN = 8
"""As the server has it."""
FLOOR_ROWS_PER_SECOND = 50_000
"""Promised for lookups of a feature service with 50 features."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Lookups that are alike.

    Attributes:
        rows: entity rows of each.
        rpc: the dialect it came in.
        is_list: it asks for a list of references in place of a feature service.
    """

    rows: int
    rpc: str = "hindcast"
    is_list: bool = False

    def __str__(self) -> str:
        return f"{self.rows} x 50, {self.rpc}{', a list' if self.is_list else ''}"


SHAPES = (
    *(Shape(rows, rpc) for rows in (1, 10, 100) for rpc in ("hindcast", "feast")),
    *(Shape(rows, is_list=True) for rows in (1, 100)),
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What sealing took.

    Attributes:
        rows_per_second: entity rows for each second of CPU, of all threads.
        seconds: on the wall.
        before_mb, peak_mb: resident memory of the process, its imports done, and at the most.
        stored_bytes: size of the tables.
    """

    entity_rows: int
    lookups: int
    segment_bytes: int
    stored_bytes: int
    rows_per_second: float
    seconds: float
    cpu_seconds: float
    before_mb: float
    peak_mb: float


def run(shapes: Sequence[Shape] = SHAPES, *, entity_rows: int = _ENTITY_ROWS) -> dict[str, Any]:
    """Seal lookups of each shape, print a table, return the figures by shape, and the floors."""
    from floors import Floor  # noqa: PLC0415 - not in the process that is measured

    figures, floors = {}, []
    print(f"\nsealing, {entity_rows:,} entity rows of 50 features each")
    print(
        f"  {'lookups':<24}{'rows/s of CPU':>14}{'wall s':>9}{'CPU s':>9}{'MB before':>11}{'MB peak':>9}{'segments MB':>13}"
    )
    for shape in shapes:
        done = seal(shape, entity_rows=entity_rows)
        figures[str(shape)] = asdict(done)
        print(
            f"  {shape!s:<24}{done.rows_per_second:>14,.0f}{done.seconds:>9.2f}{done.cpu_seconds:>9.2f}"
            f"{done.before_mb:>11,.0f}{done.peak_mb:>9,.0f}{done.segment_bytes / 1e6:>13,.1f}",
            flush=True,
        )
        if not shape.is_list:
            name = f"sealing of {shape}"
            floors.append(
                Floor(name, done.rows_per_second, FLOOR_ROWS_PER_SECOND, "entity rows/s of CPU", at_least=True)
            )
    for floor in floors:
        print(f"  {floor}")
    return {"shapes": figures, "floors": [floor.figures() for floor in floors]}


def seal(shape: Shape, *, entity_rows: int = _ENTITY_ROWS) -> Sealed:
    """Write lookups of a shape, seal them in a process of its own, and say what that took.

    Raises:
        BenchmarkFailed: it did not seal all of them.
    """
    from apart import started  # noqa: PLC0415 - not in the process that is measured
    from failure import BenchmarkFailed  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
        log = Path(name) / "log"
        lookups = write_log(log, shape, entity_rows=entity_rows)
        segment_bytes = sum(path.stat().st_size for path in (log / "segments").iterdir())
        with started(Path(__file__), log, what="the sealer", log_path=Path(name) / "sealer.log") as process:
            report = process.work(limit_seconds=SECONDS_MAX)
        if report is None:
            raise BenchmarkFailed(f"the sealer was not done after {SECONDS_MAX:.0f} s")
        sealed = report.pop("lookups"), report.pop("entity_rows"), report.pop("left")
        if sealed != (lookups, lookups * shape.rows, []):
            raise BenchmarkFailed(f"of {lookups} lookups it sealed {sealed}")
        stored_bytes = sum(path.stat().st_size for path in (log / "tables").rglob("*.parquet"))
    return Sealed(
        entity_rows=lookups * shape.rows,
        lookups=lookups,
        segment_bytes=segment_bytes,
        stored_bytes=stored_bytes,
        rows_per_second=lookups * shape.rows / report["cpu_seconds"],
        **report,
    )


def write_log(log: Path, shape: Shape, *, entity_rows: int) -> int:
    """Closed segments of one writer, and the definitions that they name; gives the number of lookups."""
    from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName, WriterId  # noqa: PLC0415
    from hindcast.lookups.segment import Footer, SegmentHeader, footer_bytes, frame, header_bytes  # noqa: PLC0415

    directory, writer, lookups = LogDirectory(log), WriterId(0, _NOON), max(1, entity_rows // shape.rows)
    directory.segments.mkdir(parents=True)
    payloads, first = _payloads(log, shape, lookups), 1
    while first <= lookups:
        head = SegmentHeader(slot=0, epoch=_NOON, first_sequence=first, created_micros=_NOON, segment_id=os.urandom(16))
        sequence, size = first, len(header_bytes(head))
        with directory.segment(SegmentName(writer, first, SEALED)).open("wb") as file:
            file.write(header_bytes(head))
            for payload in payloads:
                parts = frame(sequence, payload, seed=head.seed)
                file.writelines(parts)
                size += sum(map(len, parts))
                sequence += 1
                if size >= 64 << 20:
                    break
            footer = Footer(last_sequence=sequence - 1, records=sequence - first, size_bytes=size, gaps=False)
            file.write(footer_bytes(footer, seed=head.seed))
        first = sequence
    return lookups


def _payloads(log: Path, shape: Shape, lookups: int) -> Iterator[Sequence[bytes]]:
    from dataset import ACCOUNTS, feature_names  # noqa: PLC0415 - redis and more
    from hindcast.catalog import Catalog, Field, Projection, Service, View  # noqa: PLC0415
    from hindcast.clock import uuid7  # noqa: PLC0415
    from hindcast.lookups.catalogs import keep_catalog  # noqa: PLC0415
    from hindcast.lookups.record import RecordHead, Rpc, encode_parts  # noqa: PLC0415

    views = {view: feature_names(view, count) for view, count in ACCOUNTS.views.items()}
    key = Field("account_id", 4)
    catalog = Catalog(
        project="bench",
        version=_VERSION,
        feast_version="0.67.0",
        views={
            view: View(view, (key,), tuple(Field(name, _value_type(name)) for name in names), 0, 0, "account")
            for view, names in views.items()
        },
        on_demand_views={},
        services={
            "accounts": Service(
                "accounts", tuple(Projection(view, view, tuple(names)) for view, names in views.items()), None
            )
        },
        entities={"account": "account_id"},
        unservable={},
    )
    keep_catalog(log, catalog)
    refs = [f"{view}:{name}" for view, names in views.items() for name in names]
    rng = random.Random(6)
    answers = [_answer(shape, views, rng) for _ in range(min(_ANSWERS, lookups))]
    for number in range(lookups):
        answer = answers[number % len(answers)]
        served = _NOON + number * 1_000
        head = RecordHead(
            lookup_id=uuid7(served).bytes,
            served_at_micros=served,
            rpc=Rpc(shape.rpc),
            request_id=f"request-{number}",
            tags={"model": "fraud-7"},
            catalog_version=_VERSION,
            service="" if shape.is_list else "accounts",
            refs=refs if shape.is_list else (),
            mode="batched",
            code=0,
            reason="",
            message="",
            rows=answer.rows,
            computed={},
            repeats=answer.repeats,
        )
        yield encode_parts(head, answer.request, answer.response)


def _value_type(feature: str) -> int:
    from dataset import KINDS  # noqa: PLC0415

    (kind,) = {kind.value_type for kind in KINDS if f"_{kind.name}_" in feature}
    return {"Float64": 5, "Int64": 4, "String": 2}[kind]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request and its answer as a record has them."""

    request: bytes
    response: bytes
    repeats: bytes
    rows: Sequence[tuple[str, bytes]]


def _answer(shape: Shape, views: Mapping[str, Sequence[str]], rng: random.Random) -> _Answer:
    from dataset import KINDS  # noqa: PLC0415
    from hindcast.clock import uuid7  # noqa: PLC0415
    from hindcast.online.codec import Block, Cells, fold, splice_feast, splice_hindcast  # noqa: PLC0415
    from hindcast.shadow.v1 import shadow_pb2  # noqa: PLC0415
    from hindcast.v1.value_pb2 import Value  # noqa: PLC0415

    keys = [Value(int64_val=rng.randrange(100_000)).SerializeToString() for _ in range(shape.rows)]
    entities = {"account_id": shadow_pb2.ValueColumn(val=keys)}
    blocks, read = [], []
    for at, (view, names) in enumerate(views.items()):
        columns = [KINDS[number % len(KINDS)].values(rng, shape.rows) for number in range(len(names))]
        cells = _stored(columns, rng)
        read.append((view, cells))
        blocks.append(Block(names, cells, 0, len(names), at))
    if shape.rpc == "feast":
        request = shadow_pb2.FeastRequest(feature_service="accounts", entities=entities)
        named = shadow_pb2.FeatureRefs(val=["account_id", *(name for names in views.values() for name in names)])
        blocks.insert(0, Block(["account_id"], Cells.of_columns([keys], [b"\2" * shape.rows]), 0, 1, None))
        metadata = shadow_pb2.FeastMetadata(feature_names=named).SerializeToString()
        response = splice_feast(metadata, blocks, statuses=bytes(range(256)))
        repeats = b""
        if shape.rows >= _FOLDED_ROWS_MIN:
            response, repeats = fold(response)
    else:
        asked: dict[str, Any] = {"feature_service": "accounts"}
        if shape.is_list:
            refs = [f"{view}:{name}" for view, names in views.items() for name in names]
            asked = {"feature_list": shadow_pb2.FeatureRefs(val=refs)}
        request = shadow_pb2.HindcastRequest(**asked, entities=entities)
        lookup_id, served_at = str(uuid7(_NOON)), b"\x08\x80\x8b\xa2\xd7\x06"
        response = splice_hindcast(
            lookup_id=lookup_id, catalog_version=_VERSION, served_at=served_at, views=read, blocks=blocks
        )
        repeats = b""
    rows = [(view, cells.headers()) for view, cells in read]
    return _Answer(request.SerializeToString(), response, repeats, rows)


def _stored(columns: Sequence[Sequence[bytes]], rng: random.Random) -> Any:
    """Cells as a worker reads them from packed rows of the last day."""
    from hindcast.online.codec import RowReader, pack_row  # noqa: PLC0415

    reader = RowReader(len(columns))
    reader.learn(b"schema-1", len(columns), list(range(len(columns))))
    cells = reader.read(
        [
            pack_row(
                event_micros=_NOON - rng.randrange(86_400_000_000),
                created_micros=None,
                schema_id=b"schema-1",
                run_id=b"\7" * 16,
                values=[value or None for value in values],
            )
            for values in zip(*columns, strict=True)
        ]
    )
    cells.judge(0, keeps_stale=False)
    return cells


def main() -> None:
    """Import, wait, seal, report."""
    from hindcast.lookups.sealer import Sealer  # noqa: PLC0415 - after the process has begun

    sealer = Sealer(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    done, report = measured(sealer.seal)
    print(json.dumps({**report, "lookups": done.records, "entity_rows": done.entity_rows, "left": done.left}))


if __name__ == "__main__":
    main()
