"""As of now: the same request again, to a running server or to the online store itself, read as receipts are.

In process nothing is logged. A server leaves a receipt of this lookup like of any other; it bears the tag `replay-of`, and not the
request id of the first.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace as replaced

from hindcast.catalog import Catalog, InputColumn, Repo
from hindcast.clock import Deadline, system_clock, uuid7
from hindcast.errors import InvalidArgument, StoreUnavailable
from hindcast.lookups.directory import WriterId
from hindcast.lookups.reading import Found
from hindcast.lookups.receipts import Receipt, receipt_of
from hindcast.lookups.record import LookupRecord, Rpc, StoredRows
from hindcast.online.layouts import LAYOUTS, Layout
from hindcast.online.reader import RedisReader
from hindcast.online.row_format import HEADER_BYTES, SIGN
from hindcast.online.store import layout_of, target_of
from hindcast.serving.admission import Admission
from hindcast.serving.answer import feast_bytes, hindcast_bytes
from hindcast.serving.lookup import Lookup
from hindcast.serving.metrics import Metrics
from hindcast.serving.plan import compile_plan
from hindcast.serving.question import Question, read_feast, read_hindcast, read_stream_request
from hindcast.serving.tracing import Traces
from hindcast.settings import StaleValues
from hindcast.shadow.v1 import shadow_pb2

if TYPE_CHECKING:
    from hindcast.catalog.transforms import Transformer

REPLAY_TAG = "replay-of"
_UNBOUNDED = 10**12
_FEAST_METHOD = "/feast.serving.ServingService/GetOnlineFeatures"
_HINDCAST_METHOD = "/hindcast.v1.FeatureService/GetOnlineFeatures"
_NOBODY = WriterId(0, 0)
_WRONG_QUESTIONS = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})


def ask_store(record: LookupRecord, repo: Repo, catalog: Catalog, *, timeout_seconds: float) -> Receipt:
    """Ask the online store of a repo what a lookup asked, under the definitions of now, as a server of this version would.

    Args:
        catalog: the definitions of now.
    Raises:
        RepoError: the repo's online store is none that is served.
        UnknownName, InvalidArgument: the definitions of now do not have what was asked for, or need something else for it.
        StoreUnavailable, DeadlineExceeded, StoredDataError, TransformError: as of a lookup.
    """
    layout = layout_of(repo)
    target = target_of(repo, layout)

    async def ask() -> Receipt:
        reader = RedisReader(target)
        try:
            rows = LAYOUTS[layout](reader, project=catalog.project)
            return await _asked(record, _lookup(record, catalog, rows, repo.root), timeout_seconds=timeout_seconds)
        finally:
            await reader.close()

    return asyncio.run(ask())


def _lookup(record: LookupRecord, catalog: Catalog, layout: Layout, repo_root: Path) -> Lookup:
    """A lookup as a worker has it, with the on-demand views that this question needs."""

    def made(transformer: "Transformer | None") -> Lookup:
        return Lookup(
            catalog=catalog,
            layout=layout,
            transformer=transformer,
            admission=Admission(in_flight_max=_UNBOUNDED, lag_max_seconds=_UNBOUNDED, metrics=Metrics()),
            clock=system_clock,
            stale_values=StaleValues.BY_DIALECT,
            metrics=Metrics(),
            traces=Traces(),
        )

    lookup = made(None)
    computations = compile_plan(catalog, _question(record, lookup).wanted).computations
    if not computations:
        return lookup
    from hindcast.catalog.transforms import Transformer  # noqa: PLC0415 - Feast, 5 s

    return made(Transformer((computation.view for computation in computations), repo_root=repo_root))


def ask_server(record: LookupRecord, address: str, catalog: Catalog | None, *, timeout_seconds: float) -> Receipt:
    """Ask a running server what a lookup asked.

    Of the rows that it read its answer says the event times only: created times and runs are not in the receipt.

    Args:
        catalog: the definitions of now, to tell columns by; None if they are not known.
    Raises:
        InvalidArgument: the server does not have what was asked for, or needs something else for it.
        StoreUnavailable: it did not answer, or refused for another reason.
    """
    is_feast, tag = record.rpc is Rpc.FEAST, str(UUID(bytes=record.lookup_id))
    request = _lookup_bytes(record) if is_feast else _without_request_id(_lookup_bytes(record), tag)
    method = _FEAST_METHOD if is_feast else _HINDCAST_METHOD
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        try:
            response = channel.unary_unary(method)(
                request, timeout=timeout_seconds, metadata=((f"hindcast-tag-{REPLAY_TAG}", tag),)
            )
        except grpc.RpcError as error:
            told = f"the server at {address} answered {error.code().name}: {error.details()}"
            if error.code() in _WRONG_QUESTIONS:
                raise InvalidArgument.at("ID", f"cannot be asked now: {told}") from error
            raise StoreUnavailable(told) from error
    if is_feast:
        rows, version = _feast_rows(record, response, catalog), ""
    else:
        message = shadow_pb2.HindcastResponse.FromString(response)
        rows, version = _hindcast_rows(message), message.catalog_version
    known = catalog if catalog is not None and version in {"", catalog.version} else None
    return _as_receipt(
        record, request=request, response=response, rows=rows, computed={}, version=version, catalog=known
    )


async def _asked(record: LookupRecord, lookup: Lookup, *, timeout_seconds: float) -> Receipt:
    """What a worker does, but for the log (`serving.handlers`, `serving.recorder`)."""
    question = _question(record, lookup)
    computed: dict[str, Mapping[str, Sequence[bytes]]] = {}

    def given(view: str, inputs: Mapping[str, InputColumn]) -> None:
        computed[view] = {name: column.values for name, column in inputs.items()}

    answer = await lookup.answer(question, deadline=Deadline(timeout_seconds), given=given)
    version = lookup.catalog.version
    if record.rpc is Rpc.FEAST:
        response = feast_bytes(question, answer, join_keys=lookup.join_keys)
    else:
        response = hindcast_bytes(answer, lookup_id="", catalog_version=version, served_at_micros=system_clock())
    plan = answer.plan
    return _as_receipt(
        record,
        request=_lookup_bytes(record),
        response=response,
        rows=[StoredRows(read.name, cells.headers()) for read, cells in zip(plan.reads, answer.views, strict=True)],
        computed=computed,
        version=version,
        catalog=lookup.catalog,
    )


def _question(record: LookupRecord, lookup: Lookup) -> Question:
    request = _lookup_bytes(record)
    return read_feast(request, lookup.renamed) if record.rpc is Rpc.FEAST else read_hindcast(request)


def _as_receipt(
    record: LookupRecord,
    *,
    request: bytes,
    response: bytes,
    rows: Sequence[StoredRows],
    computed: Mapping[str, Mapping[str, Sequence[bytes]]],
    version: str,
    catalog: Catalog | None,
) -> Receipt:
    """An answer of now as a receipt, which no log has."""
    now = system_clock()
    made = replaced(
        record,
        lookup_id=uuid7(now).bytes,
        served_at_micros=now,
        rpc=Rpc.FEAST if record.rpc is Rpc.FEAST else Rpc.HINDCAST,
        request=request,
        response=response,
        rows=rows,
        computed=computed,
        catalog_version=version,
    )
    return receipt_of(Found(_NOBODY, 0, made), catalog)


def _lookup_bytes(record: LookupRecord) -> bytes:
    """The request as a unary call has it."""
    return read_stream_request(record.request)[0] if record.rpc is Rpc.STREAM else record.request


def _without_request_id(request: bytes, tag: str) -> bytes:
    message = shadow_pb2.HindcastRequest.FromString(request)
    message.ClearField("request_id")
    message.ClearField("tags")
    message.tags[REPLAY_TAG] = tag
    return message.SerializeToString()


def _hindcast_rows(message: shadow_pb2.HindcastResponse) -> list[StoredRows]:
    return [StoredRows(rows.view, _headers(rows.event_timestamps)) for rows in message.views]


def _feast_rows(record: LookupRecord, response: bytes, catalog: Catalog | None) -> list[StoredRows]:
    """Per view that was asked for, the times of its first column; none where the definitions do not tell views."""
    asked = receipt_of(Found(_NOBODY, 0, replaced(record, response=response, rows=[])), catalog).columns
    results = shadow_pb2.FeastResponse.FromString(response).results
    on_demand = {} if catalog is None else catalog.on_demand_views
    times: dict[str, Sequence[bytes]] = {}
    for column, result in zip(asked, results[len(results) - len(asked) :], strict=True):
        if column.view and column.view not in on_demand:
            times.setdefault(column.view, result.event_timestamps)
    return [StoredRows(view, _headers(of_view)) for view, of_view in times.items()]


def _headers(moments: Sequence[bytes]) -> bytes:
    """Event times as the headers of rows that say nothing else, as those of Feast's layout; an empty time is of no row."""
    return b"".join(
        (Timestamp.FromString(moment).ToMicroseconds() + SIGN).to_bytes(8, "big").ljust(HEADER_BYTES, b"\0")
        if moment
        else bytes(HEADER_BYTES)
        for moment in moments
    )
