"""The codec in plain Python: what a machine without a C compiler runs, and what the compiled twin `_codec` is held to.

Bytes in, bytes out: how rows and answers are laid out, and how Redis's commands are written and its hashes come. Nothing here talks
to Redis, or knows gRPC or the catalog. This form is written to be read, not to be fast.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from hindcast.errors import StoredDataError
from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.online.row_format import DAMAGED, FORMAT, HEADER_BYTES, NULLS, SIGN, WRONG_LENGTH, other_format
from hindcast.online.times import EPOCH, timestamp_micros
from hindcast.shadow.v1 import shadow_pb2

_NULLS_AT = 17
_SCHEMA = slice(18, 26)
_VARINT_PART = 0x7F
"""What of a byte of a varint is number; a greater byte is not the last."""

_VALUE_BYTES_MAX = 11
"""Of an integer: its tag, and a varint of 64 bits."""

_INT32 = range(-(2**31), 2**31)

_decode_entries = msgspec.msgpack.Decoder(list[bytes | None]).decode


class UnknownSchema(Exception):
    """A row names a schema that its reader has not learned; never leaves the process.

    Attributes:
        schema_id: 8 bytes.
    """

    def __init__(self, schema_id: bytes) -> None:
        super().__init__(schema_id.hex())
        self.schema_id = schema_id


class Cells:
    """The values of n rows by k columns, of one view or sent along, with the rows' times and the values' statuses.

    Attributes:
        rows: n.
        width: k.
        missing: how many of the rows the store does not have.
        oldest_micros: the event time of the oldest row there is; None without one.
        statuses: once judged, n statuses per column, a byte each (`field_status`); one entry if all columns have the same.
    """

    def __init__(
        self,
        columns: list[list[bytes]],
        times: list[bytes],
        event_micros: list[int | None],
        headers: list[bytes] | None = None,
    ) -> None:
        self.rows = len(times)
        self.width = len(columns)
        self.times = times
        self.statuses: list[bytes] = []
        self._columns = columns
        self._event_micros = event_micros
        self._headers = headers or []
        there = [micros for micros in event_micros if micros is not None]
        self.missing = len(times) - len(there)
        self.oldest_micros = min(there, default=None)

    @staticmethod
    def of_columns(columns: Sequence[Sequence[bytes]], statuses: list[bytes]) -> "Cells":
        """Columns that were not stored: sent by the caller, or computed. Their rows have no times.

        Args:
            columns: n serialized Values each, b"" for a null.
            statuses: per column, or one for all.
        """
        rows = len(columns[0]) if columns else 0
        if any(len(column) != rows for column in columns):
            raise ValueError("columns of one block differ in length")
        cells = Cells([_without_nulls(column) for column in columns], [b""] * rows, [0] * rows)
        cells.oldest_micros = None
        cells.statuses = statuses
        return cells

    def headers(self) -> bytes:
        """The headers of the stored rows, 42 bytes each (`row_format`), without their flag of nulls; zeros where there is no row.

        A row of Feast's layout has none: its event_ts stands where a header has it, before zeros.
        """
        return b"".join(self._headers) or bytes(HEADER_BYTES * self.rows)

    def column(self, at: int) -> list[bytes]:
        """The serialized Values of one column, b"" for a null and where there is no row."""
        if not 0 <= at < self.width:
            raise IndexError(at)
        return list(self._columns[at])

    def judge(self, oldest_fresh: int, *, keeps_stale: bool) -> None:
        """Work out the statuses.

        Args:
            oldest_fresh: a row from before this time is stale, in microseconds since 1970; 0 if none ever is.
            keeps_stale: whether stale values stay; else they become null.
        """
        of_rows = bytes(
            NOT_FOUND if micros is None else OUTSIDE_MAX_AGE if oldest_fresh and micros < oldest_fresh else PRESENT
            for micros in self._event_micros
        )
        if not keeps_stale:
            self._columns = [
                [b"" if status == OUTSIDE_MAX_AGE else value for value, status in zip(column, of_rows, strict=True)]
                for column in self._columns
            ]
        statuses = [
            bytes(
                NULL_VALUE if status == PRESENT and not value else status
                for value, status in zip(column, of_rows, strict=True)
            )
            for column in self._columns
        ]
        self.statuses = [of_rows] if all(of_column == of_rows for of_column in statuses) else statuses


class Block(NamedTuple):
    """Neighbouring columns of an answer, `start` to `stop` of some cells.

    Attributes:
        view_index: position among the answer's views; None for what was not stored.
    """

    names: Sequence[str]
    cells: Cells
    start: int
    stop: int
    view_index: int | None


class RowReader:
    """Reads packed rows of one view for the columns of one question."""

    def __init__(self, width: int) -> None:
        """Args: width is how many columns are wanted."""
        self._width = width
        self._schemas: dict[bytes, tuple[int, Sequence[int | None]]] = {}

    def learn(self, schema_id: bytes, fields: int, positions: Sequence[int | None]) -> None:
        """Learn how rows of a schema are read.

        Args:
            fields: how many values a row has.
            positions: per column, where it stands among them, each once; None for one that the schema does not have.
        """
        if len(schema_id) != _SCHEMA.stop - _SCHEMA.start or len(positions) != self._width:
            raise ValueError("a schema id has 8 bytes, and every column a position or None")
        wanted = [position for position in positions if position is not None]
        if any(not 0 <= position < fields for position in wanted):
            raise ValueError("a position lies outside the schema")
        if len(set(wanted)) != len(wanted):
            raise ValueError("a position is wanted twice")
        self._schemas[schema_id] = fields, positions

    def read(self, stored: list[bytes | None]) -> Cells:
        """The cells of n rows, None for one that is not there.

        Raises:
            UnknownSchema: a row's schema has to be learned first.
            StoredDataError: a row is damaged, or of a format that this version does not know.
        """
        rows = [self._row(packed) for packed in stored]
        return Cells(
            [[row.values[at] for row in rows] for at in range(self._width)],
            [row.time for row in rows],
            [row.event_micros for row in rows],
            [row.header for row in rows],
        )

    def _row(self, packed: bytes | None) -> "_Row":
        if packed is None:
            return _no_row(self._width)
        if len(packed) < _SCHEMA.stop or packed[_NULLS_AT] > 1:
            raise StoredDataError(DAMAGED)
        if packed[16] != FORMAT:
            raise StoredDataError(other_format(packed[16]))
        if packed[_SCHEMA] not in self._schemas:
            raise UnknownSchema(packed[_SCHEMA])
        fields, positions = self._schemas[packed[_SCHEMA]]
        try:
            entries = _decode_entries(packed[HEADER_BYTES:])
        except msgspec.DecodeError as error:
            raise StoredDataError(DAMAGED) from error
        if not entries:
            raise StoredDataError(DAMAGED)
        time, *values = entries
        if None in values and not packed[_NULLS_AT]:
            raise StoredDataError(DAMAGED)
        if len(entries) != fields + 1 or not time:
            raise StoredDataError(WRONG_LENGTH)
        event_micros = int.from_bytes(packed[:8], "big") - SIGN
        of_columns = [b"" if at is None else values[at] or b"" for at in positions]
        return _Row(time, event_micros, of_columns, packed[:_NULLS_AT] + b"\0" + packed[_NULLS_AT + 1 : HEADER_BYTES])


class _Row(NamedTuple):
    time: bytes
    event_micros: int | None
    values: Sequence[bytes]
    header: bytes


def _no_row(width: int) -> _Row:
    return _Row(b"", None, [b""] * width, bytes(HEADER_BYTES))


class HashRow:
    """The values of some fields of one of Feast's hashes."""

    def __init__(self, values: list[bytes | None]) -> None:
        if any(value is not None and not isinstance(value, bytes) for value in values):
            raise TypeError("a value is not bytes")
        self._values = values

    def values(self) -> list[bytes | None]:
        """One per field; None for one that the hash does not have."""
        return list(self._values)


def cells_of_hashes(hashes: list[HashRow | None], start: int, width: int) -> Cells:
    """The cells of one view out of n of Feast's hashes; a row without its event time is not there, whatever else is.

    Args:
        hashes: None for a null join key.
        start: where the view's `width` columns begin among their values; its event time follows.
    Raises:
        StoredDataError: an event time is none.
    """
    if start < 0 or width < 0:
        raise ValueError("a view's values begin before the first, or are less than none")
    rows = []
    for found in hashes:
        values = [] if found is None else found.values()
        if found is not None and len(values) < start + width + 1:
            raise ValueError("a hash has too few entries")
        if found is None or (time := values[start + width]) is None:
            rows.append(_no_row(width))
        else:
            event_micros = timestamp_micros(time or EPOCH)
            of_view = _without_nulls(values[start : start + width])
            header = (event_micros + SIGN).to_bytes(8, "big").ljust(HEADER_BYTES, b"\0")
            rows.append(_Row(time or EPOCH, event_micros, of_view, header))
    return Cells(
        [[row.values[at] for row in rows] for at in range(width)],
        [row.time for row in rows],
        [row.event_micros for row in rows],
        [row.header for row in rows],
    )


def _without_nulls(values: Sequence[bytes | None]) -> list[bytes]:
    return [b"" if value is None or value in NULLS else value for value in values]


def splice_feast(metadata: bytes, blocks: Sequence[Block], *, statuses: bytes) -> bytes:
    """A serialized `feast.serving.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        metadata: the serialized response metadata that names the columns.
        blocks: one column per name.
        statuses: 256 bytes, what each status becomes in Feast's words.
    """
    answer = shadow_pb2.FeastResponse(metadata=metadata)
    for block in blocks:
        for values, of_column in _columns(block):
            answer.results.add(
                values=values, statuses=of_column.translate(statuses), event_timestamps=block.cells.times
            )
    return bytes(answer.SerializeToString())


def fold(answer: bytes) -> tuple[bytes, bytes]:
    """A serialized `feast.serving.GetOnlineFeaturesResponse` without what its columns repeat: each says the event times of its
    view's rows once more, which is half of an answer of many rows.

    Returns:
        What is left, and per place where something was taken out 12 bytes: three big-endian numbers of 32 bits, where in the answer
        it stood, where in the answer the same bytes stand before it, and how many. Bytes that are no answer are left whole.
    """
    if len(answer) > _FOLDED_MAX:
        return answer, b""
    left, repeats = [], []
    at = taken = 0
    before: tuple[int, int] | None = None
    while at < len(answer):
        tag, start = _short_varint(answer, at)
        size, start = _short_varint(answer, start)
        end = start + size
        if tag not in {_METADATA_TAG, _RESULT_TAG} or start > len(answer) or end > len(answer):
            return answer, b""
        if tag == _RESULT_TAG:
            same = 0
            while (
                before is not None
                and same < min(size, before[1] - before[0])
                and answer[end - 1 - same] == answer[before[1] - 1 - same]
            ):
                same += 1
            if before is not None and same >= _FOLDED_MIN:
                left.append(answer[taken : end - same])
                repeats.append(_REPEAT.pack(end - same, before[1] - same, same))
                taken = end
            before = start, end
        at = end
    return (b"".join([*left, answer[taken:]]), b"".join(repeats)) if repeats else (answer, b"")


def fold_headers(headers: bytes) -> tuple[bytes, bytes]:
    """Headers of n rows, 42 bytes each, zeros for no row, without the end that all rows share: mostly one run wrote them, by one
    schema, and where a source does not say when a row became known, that is the same too.

    Returns:
        n rows of equal length, and what to put behind each that is not zeros: 34 bytes (all but the event time), 26 (all but both
        times), or none.
    """
    rows = [headers[at : at + HEADER_BYTES] for at in range(0, len(headers), HEADER_BYTES)]
    for kept in _TIMES_BYTES:
        rest = {row[kept:] for row in rows if any(row)}
        # What is not zeros must be so in what is left of it, too.
        if len(rest) == 1 and all(any(row[:kept]) for row in rows if any(row)):
            return b"".join([row[:kept] for row in rows]), rest.pop()
    return headers, b""


def answer_record(
    begins: bytes,
    lookup_id: str,
    served_at_micros: int,
    definitions: bytes,
    views: tuple[bytes, ...],
    cells: list[Cells],
    computed: bytes,
    request: bytes,
    response: bytes,
    *,
    folds: bool,
) -> bytes:
    """The record of an answer for the log (docs/formats.md, "Lookup records"), in one piece.

    Args:
        begins: what stands before the id.
        lookup_id: a UUID as text, in lower case.
        definitions: from what follows `served_at_micros` to what stands before the first view.
        views: per view that was read what stands before its rows, whose cells these are.
        computed: what on-demand views were given, as it is stored.
        folds: whether the response may have repeats, as `fold` finds them.
    """
    left, repeats = fold(response) if folds else (response, b"")
    parts = [
        begins,
        bytes.fromhex(lookup_id.replace("-", "")),
        b"\xcf",
        served_at_micros.to_bytes(8, "big"),
        definitions,
    ]
    for before, of_view in zip(views, cells, strict=True):
        headers = of_view.headers()
        kept, shared = fold_headers(headers) if of_view.rows > 1 else (headers, b"")
        parts += (before, _bin32(len(kept)), kept, b"\xc4", bytes([len(shared)]), shared)
    parts.append(computed)
    for content in (repeats, request, left):
        parts += (_bin32(len(content)), content)
    return b"".join(parts)


def _bin32(size: int) -> bytes:
    """What stands before bytes in msgpack, in its longest form."""
    return b"\xc6" + size.to_bytes(4, "big")


_TIMES_BYTES = (8, 16)
_METADATA_TAG, _RESULT_TAG = 0x0A, 0x12
_FOLDED_MIN = 48
"""To take out less would not be worth its 12 bytes and the time."""

_FOLDED_MAX = 0x7FFF_FFFF
_REPEAT = Struct(">III")
_SHORT_BYTES_MAX = 5


def _short_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of at most 35 bits, and where it ends; far outside the message if it is longer, or has no end."""
    number = 0
    for position, byte in enumerate(message[at : at + _SHORT_BYTES_MAX]):
        number |= (byte & _VARINT_PART) << 7 * position
        if byte <= _VARINT_PART:
            return number, at + position + 1
    return 0, 2 * _FOLDED_MAX


def splice_hindcast(
    *,
    lookup_id: str,
    catalog_version: str,
    served_at: bytes,
    views: Sequence[tuple[str, Cells]],
    blocks: Sequence[Block],
) -> bytes:
    """A serialized `hindcast.v1.GetOnlineFeaturesResponse`; no value is parsed.

    Args:
        served_at: a serialized Timestamp.
        views: name and cells each.
    """
    answer = shadow_pb2.HindcastResponse(lookup_id=lookup_id, catalog_version=catalog_version, served_at=served_at)
    for view, cells in views:
        answer.views.add(view=view, event_timestamps=cells.times)
    for block in blocks:
        for name, (values, of_column) in zip(block.names, _columns(block), strict=True):
            answer.columns.add(name=name, values=values, statuses=of_column, view_index=block.view_index)
    return bytes(answer.SerializeToString())


def _columns(block: Block) -> list[tuple[list[bytes], bytes]]:
    """Values and statuses of each column of a block."""
    cells = block.cells
    if not 0 <= block.start <= block.stop <= cells.width or len(block.names) != block.stop - block.start:
        raise IndexError("a block lies outside its cells")
    return [(cells.column(at), _statuses_of(cells, at)) for at in range(block.start, block.stop)]


def _statuses_of(cells: Cells, column: int) -> bytes:
    if len(cells.statuses) not in {1, cells.width}:
        raise ValueError("cells have not a status, or one for all, for each column")
    statuses = cells.statuses[0 if len(cells.statuses) == 1 else column]
    if len(statuses) != cells.rows:
        raise ValueError("a column has not a status for each row")
    return statuses


def framed(before: bytes, parts: Sequence[bytes | None], after: bytes) -> list[Any]:
    """Each of some parts with the same bytes before and after it; None stays None."""
    return [None if part is None else before + part + after for part in parts]


def command_words(words: Sequence[bytes]) -> bytes:
    """Words of a Redis command as they go over the wire, each with what stands before it and nothing after the last."""
    return b"".join([b"\r\n$%d\r\n%b" % (len(word), word) for word in words])


def commands_for(before: bytes, keys: Sequence[bytes], after: bytes) -> bytes:
    """One Redis command per key, one after the other: what stands before the key, the key as a word, and what stands after it."""
    return b"".join([b"%b%b%b" % (before, command_words([key]), after) for key in keys])


def picked(whole: list[bytes], order: list[bytes], positions: Sequence[int | None]) -> HashRow | None:
    """Some values of a hash that comes as names and values in turns; None if its names are not `order`.

    Args:
        positions: of the wanted values, None for one that is not there.
    """
    if len(whole) != 2 * len(order) or whole[::2] != order:
        return None
    return HashRow([None if position is None else whole[2 * position + 1] for position in positions])


def usual_strings(values: Sequence[bytes], key_type: int) -> list[bytes | None]:
    """Parts of entity keys out of serialized Values that hold a short ASCII string, as every encoder writes it; None for any other."""
    return [
        key_type.to_bytes(4, "little") + value[1:2] + bytes(3) + value[2:]
        if value[:1] == b"\x12" and value[1:].isascii() and len(value) > 1 and len(value) == value[1] + 2
        else None
        for value in values
    ]


def usual_int64s(values: Sequence[bytes], key_type: int) -> list[bytes | None]:
    """Parts of entity keys out of serialized Values that hold an int64 or int32 and nothing else; None for any other."""
    head = key_type.to_bytes(4, "little") + (8).to_bytes(4, "little")
    numbers = [_only_integer(value) for value in values]
    return [None if number is None else head + number.to_bytes(8, "little", signed=True) for number in numbers]


def _only_integer(value: bytes) -> int | None:
    """The integer that is all a serialized Value says; None if it says anything else."""
    if value[:1] not in {b"\x20", b"\x18"} or not 1 < len(value) <= _VALUE_BYTES_MAX:
        return None
    number = 0
    for at, byte in enumerate(value[1:]):
        number |= (byte & _VARINT_PART) << 7 * at
        if byte <= _VARINT_PART and at + 2 < len(value):
            return None
    if value[-1] > _VARINT_PART or number >= 1 << 64:
        return None
    signed = number - (1 << 64) if number >> 63 else number
    return None if value[:1] == b"\x18" and signed not in _INT32 else signed
