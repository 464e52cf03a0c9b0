"""The sealer: entity rows of closed segments into tables, on one core, by how many rows a lookup asks for.

Segments are written here as a server writes them; a process of its own (`sealing.py`) seals them and reports its CPU, of all threads,
and its memory.
"""

import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apart import started
from dataset import ACCOUNTS, KINDS, feature_names
from failure import BenchmarkFailed
from floors import Floor
from hindcast.catalog import Catalog, Field, Projection, Service, View
from hindcast.clock import uuid7_text
from hindcast.lookups.catalogs import keep_catalog
from hindcast.lookups.directory import SEALED, LogDirectory, SegmentName, WriterId
from hindcast.lookups.record import BEGINS, Rpc, computed_bytes, constants
from hindcast.lookups.segment import Footer, SegmentHeader, footer_bytes, frame, header_bytes
from hindcast.online.codec import Block, Cells, RowReader, answer_record, pack_row, splice_feast, splice_hindcast
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value

SECONDS_MAX = 600.0
_ENTITY_ROWS = 60_000
"""Of each shape: a segment of 64 MiB or more."""
_ANSWERS = 4_000
"""Distinct answers; more than any window of a compressor holds."""
_NOON = 1_793_534_400_000_000
_VERSION = f"sha256:{'0' * 64}"
_FOLDED_ROWS_MIN = 8
"""As the server has it."""
_SCRIPT = Path(__file__).resolve().with_name("sealing.py")
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


def run(shapes: Sequence[Shape] = SHAPES, *, entity_rows: int = _ENTITY_ROWS) -> tuple[dict[str, Any], list[Floor]]:
    """Seal lookups of each shape, print a table, return the figures by shape, and the floors."""
    figures, floors = {}, []
    print(f"\nsealing on one core, {entity_rows:,} entity rows of 50 features each\n")
    print(
        f"  {'lookups':<24}{'rows/s of CPU':>14}{'wall s':>9}{'CPU s':>9}{'MB before':>11}{'MB peak':>9}{'segments MB':>13}"
    )
    for shape in shapes:
        done = _measure(shape, entity_rows=entity_rows)
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
    return figures, floors


def _measure(shape: Shape, *, entity_rows: int) -> Sealed:
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
        log = Path(name) / "log"
        lookups = write_log(log, shape, entity_rows=entity_rows)
        segment_bytes = sum(path.stat().st_size for path in (log / "segments").iterdir())
        report = seal(log)
        sealed = report["records"], report["entity_rows"]
        if sealed != (lookups, lookups * shape.rows):
            raise BenchmarkFailed(f"of {lookups} lookups it sealed {sealed}")
        stored_bytes = sum(path.stat().st_size for path in (log / "tables").rglob("*.parquet"))
    return Sealed(
        entity_rows=report["entity_rows"],
        lookups=lookups,
        segment_bytes=segment_bytes,
        stored_bytes=stored_bytes,
        rows_per_second=report["entity_rows"] / report["cpu_seconds"],
        **{name: report[name] for name in ("seconds", "cpu_seconds", "before_mb", "peak_mb")},
    )


def seal(log: Path) -> dict[str, Any]:
    """Seal what is closed in a log, in a process of its own; what it did and what that took (`measured`).

    Raises:
        BenchmarkFailed: it failed, took too long, or left something as it was.
    """
    with started(_SCRIPT, log, what="the sealer", log_path=log.with_suffix(".txt")) as sealer:
        done = sealer.work(limit_seconds=SECONDS_MAX)
    if done is None or done["left"]:
        raise BenchmarkFailed(f"the sealer left {done and done['left']} as it was")
    return done


def write_log(log: Path, shape: Shape, *, entity_rows: int, views: Mapping[str, int] = ACCOUNTS.views) -> int:
    """Closed segments of one writer, and the definitions that they name; gives the number of lookups.

    Args:
        views: of the service, with the number of features of each.
    """
    directory, writer, lookups = LogDirectory(log), WriterId(0, _NOON), max(1, entity_rows // shape.rows)
    directory.segments.mkdir(parents=True)
    payloads, first = _payloads(log, shape, lookups, views), 1
    while first <= lookups:
        head = SegmentHeader(slot=0, epoch=_NOON, first_sequence=first, created_micros=_NOON, segment_id=os.urandom(16))
        sequence, size = first, len(header_bytes(head))
        with directory.segment(SegmentName(writer, first, SEALED)).open("wb") as file:
            file.write(header_bytes(head))
            for payload in payloads:
                parts = frame(sequence, (payload,), seed=head.seed)
                file.writelines(parts)
                size += sum(map(len, parts))
                sequence += 1
                if size >= 64 << 20:
                    break
            footer = Footer(last_sequence=sequence - 1, records=sequence - first, size_bytes=size, gaps=False)
            file.write(footer_bytes(footer, seed=head.seed))
        first = sequence
    return lookups


def _payloads(log: Path, shape: Shape, lookups: int, counts: Mapping[str, int]) -> Iterator[bytes]:
    """Records, made as a worker makes them."""
    views = {view: feature_names(view, count) for view, count in counts.items()}
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
    common = constants(
        rpc=Rpc(shape.rpc),
        catalog_version=_VERSION,
        service="" if shape.is_list else "accounts",
        refs=refs if shape.is_list else (),
        mode="batched",
        views=list(views),
    )
    rng = random.Random(6)
    answers = [_answer(shape, views, rng) for _ in range(min(_ANSWERS, lookups))]
    for number in range(lookups):
        answer = answers[number % len(answers)]
        served = _NOON + number * 1_000
        yield answer_record(
            BEGINS,
            uuid7_text(served),
            served,
            common.said(f"request-{number}", {"model": "fraud-7"}),
            common.views,
            answer.views,
            computed_bytes({}),
            answer.request,
            answer.response,
            folds=shape.rpc == "feast" and shape.rows >= _FOLDED_ROWS_MIN,
        )


def _value_type(feature: str) -> int:
    (kind,) = {kind.value_type for kind in KINDS if f"_{kind.name}_" in feature}
    return {"Float64": 5, "Int64": 4, "String": 2}[kind]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request, its answer, and the cells of each view that was read for it."""

    request: bytes
    response: bytes
    views: list[Cells]


def _answer(shape: Shape, views: Mapping[str, Sequence[str]], rng: random.Random) -> _Answer:
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
    else:
        asked: dict[str, Any] = {"feature_service": "accounts"}
        if shape.is_list:
            refs = [f"{view}:{name}" for view, names in views.items() for name in names]
            asked = {"feature_list": shadow_pb2.FeatureRefs(val=refs)}
        request = shadow_pb2.HindcastRequest(**asked, entities=entities)
        response = splice_hindcast(
            lookup_id=uuid7_text(_NOON),
            catalog_version=_VERSION,
            served_at=b"\x08\x80\x8b\xa2\xd7\x06",
            views=read,
            blocks=blocks,
        )
    return _Answer(request.SerializeToString(), response, [cells for _, cells in read])


def _stored(columns: Sequence[Sequence[bytes]], rng: random.Random) -> Cells:
    """Cells as a worker reads them from packed rows of the last day."""
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
