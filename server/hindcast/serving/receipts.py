"""The RPCs that read the log of lookups: bytes in, bytes out, as in `handlers`. The log's files are read in a thread of their own."""

import asyncio
import base64
import binascii
import logging
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.catalog import OnDemandView, Projection, View
from hindcast.clock import Deadline
from hindcast.errors import DeadlineExceeded, FieldViolation, HindcastError, InvalidArgument, Overloaded, UnknownName
from hindcast.lookups.known_names import check_service
from hindcast.lookups.listing import newest_lookups
from hindcast.lookups.reading import Matching, Position, Summary, summary_of
from hindcast.lookups.receipt_json import type_name
from hindcast.lookups.receipts import Column, Receipt, Search, by_lookup_id, by_request_id, run_id_of
from hindcast.lookups.record import RowHeader, Rpc
from hindcast.online.times import EARLIEST_MICROS, END_MICROS
from hindcast.serving.calls import deadline_of
from hindcast.serving.messages import message_of
from hindcast.serving.question import TAGS_MAX
from hindcast.serving.rpcs import Rpcs
from hindcast.serving.status import abort
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import lookup_service_pb2 as pb

logger = logging.getLogger(__name__)

LOOKUPS = "hindcast.v1.Lookups"

_WAITING_MAX = 8
"""Calls that read or wait for the thread; a worker is there to serve."""

_PAGE_SIZE, _PAGE_SIZE_MAX = 50, 500
_CODE_MAX = 16
_TOKEN = struct.Struct(">q16s")

_APIS = {
    Rpc.FEAST: pb.RECEIPT_API_FEAST,
    Rpc.HINDCAST: pb.RECEIPT_API_HINDCAST,
    Rpc.STREAM: pb.RECEIPT_API_STREAM,
}

_Answer = Callable[[bytes, Path | None, "_Patience"], bytes]


class Receipts:
    """The RPCs of one worker that read the log.

    One call is worked on at a time, in a thread, which gives the interpreter back to the loop at each block that it reads.
    """

    def __init__(self, log_directory: Path | None, *, call_timeout_ms: int) -> None:
        """Args:
        log_directory: the server's own, the only one that is ever read; None if it logs nothing.
        call_timeout_ms: the deadline of a call that brings none.
        """
        self._log_directory = log_directory
        self._call_timeout_ms = call_timeout_ms
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="hindcast-receipts")
        self._waiting = 0

    def rpcs(self) -> Rpcs:
        """Both."""
        return Rpcs(unary={LOOKUPS: {"GetReceipt": self.get_receipt, "ListReceipts": self.list_receipts}})

    async def get_receipt(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.Lookups.GetReceipt`."""
        return await self._answered(_get_receipt, request, context)

    async def list_receipts(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.Lookups.ListReceipts`."""
        return await self._answered(_list_receipts, request, context)

    async def _answered(self, answer: _Answer, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        patience = _Patience(deadline_of(context, timeout_ms=self._call_timeout_ms))
        try:
            return await self._in_thread(answer, request, patience)
        except Exception as error:
            if not isinstance(error, HindcastError):
                logger.exception("a call of %s met a defect", LOOKUPS)
            await abort(context, error)

    async def _in_thread(self, answer: _Answer, request: bytes, patience: "_Patience") -> bytes:
        if self._waiting >= _WAITING_MAX:
            raise Overloaded("receipts", f"{_WAITING_MAX} calls read the log of lookups here already; try again later")
        self._waiting += 1
        try:
            run = asyncio.get_running_loop().run_in_executor
            return await run(self._threads, answer, request, self._log_directory, patience)
        finally:
            self._waiting -= 1
            patience.end()


class _Patience:
    """How long a call may go on: to its deadline, or to when its caller is gone."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._ended = threading.Event()

    def end(self) -> None:
        """Nobody waits any more."""
        self._ended.set()

    def tick(self) -> None:
        """Go on, or not.

        Raises:
            DeadlineExceeded: the time is up.
        """
        if self._ended.is_set() or self._deadline.remaining_seconds() <= 0:
            raise DeadlineExceeded(
                "the deadline passed while the log was read; allow it more time, or narrow what is asked for"
            )


def _get_receipt(request: bytes, log_directory: Path | None, patience: _Patience) -> bytes:
    """A `GetReceiptResponse`.

    Raises:
        InvalidArgument, UnknownName, StoredDataError, DeadlineExceeded: see the proto.
    """
    message = message_of(pb.GetReceiptRequest, request)
    wanted = message.lookup_id or message.request_id
    if not wanted:
        raise InvalidArgument.at("id", "nothing is asked for; give a lookup_id or a request_id")
    if message.WhichOneof("id") == "lookup_id":
        try:
            lookup_id = UUID(message.lookup_id)
        except ValueError:
            raise InvalidArgument.at(
                "lookup_id", "is no UUID; give the id of an answer as it was, or as request_id the caller's own"
            ) from None
        receipt = _searched(by_lookup_id, log_directory, lookup_id, patience).or_fail(wanted)
    else:
        receipt = _searched(by_request_id, log_directory, message.request_id, patience).or_fail(wanted)
    patience.tick()
    serialized = (
        _rest(receipt).SerializeToString()
        + _values(receipt, with_messages=message.include_messages).SerializeToString()
    )
    return shadow_pb2.HindcastReceiptAnswer(receipt=serialized).SerializeToString()


def _searched(
    search: Callable[..., Search], log_directory: Path | None, wanted: UUID | str, patience: _Patience
) -> Search:
    if log_directory is None:
        raise UnknownName("receipt", str(wanted), "this server logs no lookups; start it without --log-mode off")
    patience.tick()
    return search(log_directory, wanted, tick=patience.tick)


def _list_receipts(request: bytes, log_directory: Path | None, patience: _Patience) -> bytes:
    """A `ListReceiptsResponse`.

    Raises:
        InvalidArgument, UnknownName, DeadlineExceeded: see the proto.
    """
    message = message_of(pb.ListReceiptsRequest, request)
    wanted, before = _matching(message)
    size = message.page_size or _PAGE_SIZE
    response = pb.ListReceiptsResponse()
    if log_directory is not None:
        # One more than the page has says whether there is another page.
        listed = newest_lookups(log_directory, wanted, limit=size + 1, before=before, tick=patience.tick)
        found = listed.summaries
        response.receipts.extend(map(_summary, found[:size]))
        if len(found) > size:
            response.next_page_token = _token(found[size - 1].position)
        response.damaged_places = len(listed.damage)
        if wanted.service and not found and not listed.damage and before is None:
            check_service(log_directory, wanted.service)
    return response.SerializeToString()


def _matching(message: pb.ListReceiptsRequest) -> tuple[Matching, Position | None]:
    violations = []
    if not 0 <= message.page_size <= _PAGE_SIZE_MAX:
        violations.append(
            FieldViolation("page_size", f"is {message.page_size}; ask for at most {_PAGE_SIZE_MAX} at once")
        )
    if len(message.tags) > TAGS_MAX:
        violations.append(
            FieldViolation("tags", f"has {len(message.tags)} entries, and no lookup has more than {TAGS_MAX}")
        )
    violations += [
        FieldViolation(f"codes[{at}]", f"is {code}, which is no google.rpc.Code")
        for at, code in enumerate(message.codes)
        if not 0 <= code <= _CODE_MAX
    ]
    before = _position(message.page_token) if message.page_token else None
    if message.page_token and before is None:
        violations.append(FieldViolation("page_token", "is none that a page came with; begin with the first page"))
    times = {}
    for name in ("since", "until"):
        if message.HasField(name):
            instant: Timestamp = getattr(message, name)
            micros = instant.seconds * 1_000_000 + instant.nanos // 1000
            if not EARLIEST_MICROS <= micros < END_MICROS:
                violations.append(FieldViolation(name, "is outside the years 1 to 9999"))
            times[f"{name}_micros"] = micros
    if violations:
        raise InvalidArgument(violations)
    wanted = Matching(
        request_id=message.request_id or None,
        service=message.feature_service or None,
        tags=dict(message.tags),
        codes=frozenset(message.codes) or None,
        **times,
    )
    return wanted, before


def _token(position: Position) -> str:
    return base64.urlsafe_b64encode(_TOKEN.pack(*position)).decode()


def _position(token: str) -> Position | None:
    try:
        return Position(*_TOKEN.unpack(base64.b64decode(token, altchars=b"-_", validate=True)))
    except (ValueError, binascii.Error, struct.error):
        return None


def _summary(summary: Summary) -> pb.ReceiptSummary:
    return pb.ReceiptSummary(
        lookup_id=str(UUID(bytes=summary.lookup_id)),
        request_id=summary.request_id,
        tags=summary.tags,
        served_at=_instant(summary.served_at_micros),
        feature_service=summary.service,
        feature_refs=summary.refs,
        code=summary.code,
        reason=summary.reason,
        rows=summary.entity_rows,
        catalog_version=summary.catalog_version,
    )


def _rest(receipt: Receipt) -> pb.Receipt:
    """All of a receipt but its values."""
    record, found, catalog = receipt.record, receipt.found, receipt.catalog
    message = pb.Receipt(
        summary=_summary(summary_of(found)),
        message=record.message,
        api=_APIS[record.rpc],
        full_feature_names=receipt.full_feature_names,
        log_mode=record.mode,
        erased_rows=record.erased,
        position=pb.ReceiptPosition(slot=found.writer.slot, epoch=found.writer.epoch, sequence=found.sequence),
        views=[
            pb.ReceiptRows(
                view=rows.view,
                event_timestamps=[_instant(None if row is None else row.event_micros) for row in rows.headers],
                created_timestamps=[_instant(_created(row)) for row in rows.headers],
                run_ids=map(run_id_of, rows.headers),
                found=[row is not None for row in rows.headers],
            )
            for rows in receipt.views
        ],
    )
    if catalog is not None:
        message.definitions.project = catalog.project
        message.definitions.feast_version = catalog.feast_version
        message.definitions.views.extend(_view(*item) for item in receipt.projections())
    return message


def _values(receipt: Receipt, *, with_messages: bool) -> shadow_pb2.HindcastReceipt:
    record = receipt.record
    return shadow_pb2.HindcastReceipt(
        entities=_sent(receipt.entities),
        request_data=_sent(receipt.request_data),
        columns=[
            shadow_pb2.HindcastReceiptColumn(
                name=column.name,
                view=column.view,
                feature=column.feature,
                values=column.values,
                statuses=bytes(column.statuses),
                view_index=column.rows,
            )
            for column in receipt.columns
        ],
        computed_from={
            view: shadow_pb2.HindcastReceiptInputs(
                columns={name: shadow_pb2.ValueColumn(val=values) for name, values in columns.items()}
            )
            for view, columns in record.computed.items()
        },
        request_bytes=record.request if with_messages else b"",
        response_bytes=record.response if with_messages else b"",
    )


def _sent(columns: Iterable[Column]) -> dict[str, shadow_pb2.ValueColumn]:
    return {column.name: shadow_pb2.ValueColumn(val=column.values) for column in columns}


def _created(row: RowHeader | None) -> int | None:
    return None if row is None else row.created_micros


def _view(projection: Projection, view: View | OnDemandView | None) -> pb.ReceiptView:
    message = pb.ReceiptView(
        name=projection.name,
        view=projection.view,
        features=projection.features,
        on_demand=isinstance(view, OnDemandView),
        fields={field.name: type_name(field.value_type) for field in view.fields} if view is not None else {},
    )
    if isinstance(view, View):
        message.version = view.version
        message.join_keys.update({key.name: type_name(key.value_type) for key in view.join_keys})
        if view.ttl_micros:
            message.ttl.FromMicroseconds(view.ttl_micros)
    return message


def _instant(micros: int | None) -> Timestamp:
    """An empty one for None, and for a time that none can say."""
    instant = Timestamp()
    if micros is not None and EARLIEST_MICROS <= micros < END_MICROS:
        instant.FromMicroseconds(micros)
    return instant
