"""Logs with closed segments, without a server: a catalog, records as a server writes them, and the segments that hold them."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hindcast.catalog import Catalog, Field, Logging, Projection, Service, View
from hindcast.clock import uuid7
from hindcast.lookups.catalogs import keep_catalog
from hindcast.lookups.directory import SEALED, WriterId
from hindcast.lookups.record import LookupRecord, Rpc, StoredRows
from hindcast.lookups.segment import Gap, SegmentHeader
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value
from segments import segment_file

NOON = 1_793_534_400_000_000
"""2026-11-01 12:00 UTC."""
DAY = 86_400_000_000
RUN_ID = bytes(range(16))
INT64, DOUBLE, STRING = 4, 5, 2


def make_catalog(
    features: Mapping[str, int] | None = None, *, version: str = "sha256:one", logging: Logging | None = None
) -> Catalog:
    """A catalog with the service `fraud` on the view `driver`."""
    features = {"trips": INT64, "rating": DOUBLE, "city": STRING} if features is None else features
    fields = tuple(Field(name, kind) for name, kind in features.items())
    return Catalog(
        project="sealed",
        version=version,
        feast_version="0.67.0",
        views={"driver": View("driver", (Field("driver_id", INT64),), fields, 0, 0, "driver")},
        on_demand_views={},
        services={"fraud": Service("fraud", (Projection("driver", "driver", tuple(features)),), logging)},
        entities={"driver": "driver_id"},
        unservable={},
    )


def value(content: object) -> bytes:
    """A serialized Value; None is null."""
    if content is None:
        return b""
    kinds = {bool: "bool_val", int: "int64_val", float: "double_val", str: "string_val", bytes: "bytes_val"}
    return Value(**{kinds[type(content)]: content}).SerializeToString()


def header(event_micros: int, *, created_micros: int | None = None, run_id: bytes = RUN_ID) -> bytes:
    """What a packed row begins with."""
    created = 0 if created_micros is None else created_micros + (1 << 63)
    return struct.pack(">QQ", event_micros + (1 << 63), created) + b"\x02" + bytes(9) + run_id


def make_record(
    drivers: Sequence[int],
    columns: Mapping[str, Sequence[object]],
    *,
    served_at_micros: int = NOON,
    catalog_version: str = "sha256:one",
    service: str = "fraud",
    refs: Sequence[str] = (),
    rpc: Rpc = Rpc.HINDCAST,
    **more: object,
) -> LookupRecord:
    """The record of a lookup of drivers that was answered with these columns."""
    serialized = {name: [value(one) for one in content] for name, content in columns.items()}
    statuses = {name: bytes(1 if one else 2 for one in content) for name, content in serialized.items()}
    entities = {"driver_id": shadow_pb2.ValueColumn(val=[value(driver) for driver in drivers])}
    if rpc is Rpc.FEAST:
        request = shadow_pb2.FeastRequest(feature_service=service, entities=entities).SerializeToString()
        names = shadow_pb2.FeastMetadata(feature_names=shadow_pb2.FeatureRefs(val=["driver_id", *columns]))
        vectors = [shadow_pb2.FeastVector(values=entities["driver_id"].val, statuses=b"\x01" * len(drivers))]
        vectors += [shadow_pb2.FeastVector(values=serialized[name], statuses=statuses[name]) for name in columns]
        response = shadow_pb2.FeastResponse(metadata=names.SerializeToString(), results=vectors).SerializeToString()
    else:
        request = shadow_pb2.HindcastRequest(feature_service=service, entities=entities).SerializeToString()
        response = shadow_pb2.HindcastResponse(
            columns=[
                shadow_pb2.HindcastColumn(name=name, values=serialized[name], statuses=statuses[name], view_index=0)
                for name in columns
            ]
        ).SerializeToString()
    if rpc is Rpc.STREAM:
        request = shadow_pb2.HindcastStreamRequest(lookup=request).SerializeToString()
        response = shadow_pb2.HindcastStreamResponse(answer=response).SerializeToString()
    usual = {
        "lookup_id": uuid7(served_at_micros).bytes,
        "served_at_micros": served_at_micros,
        "rpc": rpc,
        "request_id": "",
        "tags": {},
        "catalog_version": catalog_version,
        "service": service,
        "refs": list(refs),
        "mode": "batched",
        "code": 0,
        "reason": "",
        "message": "",
        "rows": [StoredRows("driver", header(served_at_micros - 1_000_000) * len(drivers))],
        "computed": {},
        "request": request,
        "response": response,
    }
    return LookupRecord(**{**usual, **more})


def make_failure(*, service: str = "fraud", served_at_micros: int = NOON) -> LookupRecord:
    """The record of a lookup that failed."""
    failed = {"code": 5, "reason": "UNKNOWN_NAME", "message": "there is no such driver", "response": b"", "rows": []}
    return make_record([1], {}, service=service, served_at_micros=served_at_micros, **failed)


def write_segment(
    log_directory: Path,
    records: Iterable[LookupRecord | Gap | bytes],
    *,
    writer: WriterId | None = None,
    first_sequence: int = 1,
    suffix: str = SEALED,
) -> Path:
    """A segment with these records, or payloads; without a footer where its suffix is that of an open one."""
    writer = writer or WriterId(0, NOON)
    head = SegmentHeader(
        slot=writer.slot,
        epoch=writer.epoch,
        first_sequence=first_sequence,
        created_micros=NOON,
        segment_id=bytes([first_sequence % 256]) * 16,
    )
    contents = [
        replace(one, first_sequence=sequence, last_sequence=sequence) if isinstance(one, Gap) else one
        for sequence, one in enumerate(records, first_sequence)
    ]
    return segment_file(log_directory, contents, header=head, suffix=suffix)


def keep(log_directory: Path, *catalogs: Catalog) -> None:
    """Keep catalogs beside a log, as a server does."""
    log_directory.mkdir(parents=True, exist_ok=True)
    for catalog in catalogs:
        keep_catalog(log_directory, catalog)
