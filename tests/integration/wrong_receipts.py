"""Rows of the table of wrong requests: what is asked of the log of lookups."""

from collections.abc import Iterator

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hindcast.v1.lookup_service_pb2 import GetReceiptRequest, ListReceiptsRequest
from integration.request_rows import Refusal, Row, bad

GET = "/hindcast.v1.Lookups/GetReceipt"
LIST = "/hindcast.v1.Lookups/ListReceipts"
NOBODYS = "018f0000-0000-7000-8000-000000000000"


def _row(name: str, refusal: Refusal, method: str, message: Message | bytes, *, in_docs: str = "") -> Row:
    request = message if isinstance(message, bytes) else message.SerializeToString()
    return Row(name, ((method, request),), refusal, in_docs=in_docs or name)


def _no_receipt(name: str) -> Refusal:
    message = (
        f"receipt {name!r} does not exist; give the lookup id of an answer or the request id that its caller sent, to the "
        "server (or the --log-dir) that answered; lookups of mode off and those left out of a sample leave none"
    )
    return Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_NAME", message, resource=("receipt", name))


def receipts() -> Iterator[Row]:
    """`hindcast.v1.Lookups`."""
    kind = "a receipt that there is not"
    yield _row(
        "a lookup id that is nobody's", _no_receipt(NOBODYS), GET, GetReceiptRequest(lookup_id=NOBODYS), in_docs=kind
    )
    yield _row(
        "a request id that is nobody's", _no_receipt("mine"), GET, GetReceiptRequest(request_id="mine"), in_docs=kind
    )
    nothing = bad("id", "nothing is asked for; give a lookup_id or a request_id")
    yield _row("a receipt without an id", nothing, GET, GetReceiptRequest())
    yield _row(
        "a lookup id that is no UUID",
        bad("lookup_id", "is no UUID; give the id of an answer as it was, or as request_id the caller's own"),
        GET,
        GetReceiptRequest(lookup_id="7"),
    )
    yield _row(
        "lookups of a feature service that there never was",
        Refusal(
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_NAME",
            "feature service 'everythin' does not exist; did you mean 'everything'?",
            resource=("feature service", "everythin"),
        ),
        LIST,
        ListReceiptsRequest(feature_service="everythin"),
    )
    for size in (-1, 501):
        yield _row(
            f"a page of {size}",
            bad("page_size", f"is {size}; ask for at most 500 at once"),
            LIST,
            ListReceiptsRequest(page_size=size),
            in_docs="more than 500 receipts, or fewer than none",
        )
    foreign = bad("page_token", "is none that a page came with; begin with the first page")
    for token in ("next", "AAAA", "ü"):
        yield _row(
            f"a page after {token}",
            foreign,
            LIST,
            ListReceiptsRequest(page_token=token),
            in_docs="a page after a token that no page had",
        )
    for code in (-1, 17):
        yield _row(
            f"receipts of code {code}",
            bad("codes[1]", f"is {code}, which is no google.rpc.Code"),
            LIST,
            ListReceiptsRequest(codes=[0, code]),
            in_docs="receipts of a code that there is not",
        )
    yield _row(
        "receipts with 33 tags",
        bad("tags", "has 33 entries, and no lookup has more than 32"),
        LIST,
        ListReceiptsRequest(tags={str(at): "" for at in range(33)}),
    )
    for name in ("since", "until"):
        yield _row(
            f"receipts {name} the year 36 billion",
            bad(name, "is outside the years 1 to 9999"),
            LIST,
            ListReceiptsRequest(**{name: Timestamp(seconds=2**60)}),
            in_docs="receipts of a time outside the years 1 to 9999",
        )
    for method, message in ((GET, "GetReceiptRequest"), (LIST, "ListReceiptsRequest")):
        yield _row(
            f"bytes that are no {message}",
            bad("request", f"the bytes are not a hindcast.v1.{message}; check the client's protos"),
            method,
            b"\xff",
            in_docs="bytes that are no request for receipts",
        )
