"""The vectors of point in time (tests/vectors/point_in_time.json): hand-written cases that every store answers alike.

A vector is a history of one view, and what is asked of it. Times are of one day and in UTC, if they do not say more.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from oracle import EntityRow, Leaks, SourceRow

FILE = Path(__file__).parent / "vectors" / "point_in_time.json"
_TYPES = dict.fromkeys(("event", "created", "as_of"), "timestamp[us, tz=UTC]")
_TIME = re.compile(r"(?:(\d{4}-\d\d-\d\d)T)?(\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([+-]\d\d:\d\d)?")
_NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Row:
    """A row of the history; times in nanoseconds."""

    source: SourceRow
    value: int | None


@dataclass(frozen=True)
class Asked:
    """A question and its answer."""

    entity: EntityRow
    value: int | None
    status: str


@dataclass(frozen=True)
class Vector:
    """A case.

    Attributes:
        types: Arrow types of the columns `event`, `created` and `as_of`, in Arrow's own spelling.
        offline_only: why an online store cannot be asked so; None where it can.
        written: the vector as the file has it.
    """

    case: str
    ttl_seconds: int
    types: Mapping[str, str]
    rows: Sequence[Row]
    asked: Sequence[Asked]
    leaks: Leaks
    offline_only: str | None
    written: Mapping[str, Any] = field(repr=False)

    @property
    def join_keys(self) -> list[str]:
        """Columns of the key, in the source and in the frame."""
        return [f"k{at}" for at in range(len(self.asked[0].entity.key))]

    @property
    def history(self) -> list[SourceRow]:
        """The rows without their values."""
        return [row.source for row in self.rows]

    @property
    def ttl_micros(self) -> int:
        """0 for none."""
        return self.ttl_seconds * 1_000_000

    def source(self) -> pa.Table:
        """The history as a source has it: join keys, `event_ts`, `created_ts`, `value`."""
        return pa.table(
            {
                **_keys(self.join_keys, [row.source.key for row in self.rows]),
                "event_ts": times([row.source.event_nanos for row in self.rows], self.types["event"]),
                "created_ts": times([row.source.created_nanos for row in self.rows], self.types["created"]),
                "value": pa.array([row.value for row in self.rows], pa.int64()),
            }
        )

    def frame(self) -> pa.Table:
        """The questions as an entity frame: join keys, `event_timestamp`, `known_at`."""
        return pa.table(
            {
                **_keys(self.join_keys, [asked.entity.key for asked in self.asked]),
                "event_timestamp": times([asked.entity.as_of_nanos for asked in self.asked], self.types["as_of"]),
                "known_at": times([asked.entity.known_at_nanos for asked in self.asked], _TYPES["as_of"]),
            }
        )


def read_vectors() -> list[Vector]:
    """All of the file's."""
    return list(_vectors(json.loads(FILE.read_text())))


def _vectors(document: Mapping[str, Any]) -> Iterator[Vector]:
    for written in document["vectors"]:
        day = document["day"]
        yield Vector(
            case=written["case"],
            ttl_seconds=written.get("ttl_seconds", 0),
            types={**_TYPES, **written.get("types", {})},
            rows=[
                Row(SourceRow(tuple(row["key"]), _nanos(row["event"], day), _nanos(row["created"], day)), row["value"])
                for row in written["rows"]
            ],
            asked=[
                Asked(
                    EntityRow(tuple(asked["key"]), _nanos(asked["as_of"], day), _nanos(asked.get("known_at"), day)),
                    asked["value"],
                    asked["status"],
                )
                for asked in written["asked"]
            ],
            leaks=Leaks(**written.get("leaks", {})),
            offline_only=written.get("offline_only"),
            written=written,
        )


def _nanos(text: str | None, day: str) -> int | None:
    """A time of the file in nanoseconds since 1970."""
    if text is None:
        return None
    found = _TIME.fullmatch(text)
    assert found is not None, text
    date, minute, second, fraction, zone = found.groups()
    whole = datetime.fromisoformat(f"{date or day}T{minute}:{second or '00'}{zone or '+00:00'}")
    return int(whole.timestamp()) * 10**9 + int((fraction or "0").ljust(9, "0"))


def times(nanos: Sequence[int | None], spelling: str) -> pa.Array:
    """A column of times; each must be whole in the type's unit."""
    if spelling.startswith("date32"):
        return pa.array([None if at is None else _whole(at, 86_400 * 10**9) for at in nanos], pa.int32()).cast(
            pa.date32()
        )
    found = re.fullmatch(r"timestamp\[(\w+)(?:, tz=(.+))?\]", spelling)
    assert found is not None, spelling
    unit, zone = found.groups()
    numbers = [None if at is None else _whole(at, _NANOS[unit]) for at in nanos]
    return pa.array(numbers, pa.int64()).cast(pa.timestamp(unit, zone))


def _whole(nanos: int, unit: int) -> int:
    number, rest = divmod(nanos, unit)
    assert rest == 0
    return number


def _keys(names: Sequence[str], keys: Sequence[Sequence[str | None]]) -> dict[str, pa.Array]:
    return {name: pa.array([key[at] for key in keys], pa.string()) for at, name in enumerate(names)}


def table_of_docs() -> str:
    """The vectors as docs/semantics.md shows them."""
    lines = [
        "| case | rows: key, `event_ts`, `created_ts`, value | TTL | asked: key, `as_of` | online |",
        "| --- | --- | --- | --- | --- |",
    ]
    for vector in read_vectors():
        written = vector.written
        rows = [
            f"{_key(row)} {_time(row['event'])} {_time(row['created'])} **{_cell(row['value'])}**"
            for row in written["rows"]
        ]
        asked = [
            f"{_key(one)} {_time(one['as_of'])}{_known(one)}: **{_cell(one['value'])}**{_status(one)}"
            for one in written["asked"]
        ]
        types = "".join(f", `{column}` {spelling}" for column, spelling in written.get("types", {}).items())
        leaks = f"<br>leaks: {vector.leaks.rows}, {vector.leaks.worst_micros} us at worst" if "leaks" in written else ""
        ttl = f"{vector.ttl_seconds} s" if "ttl_seconds" in written else ""
        online = "the same" if vector.offline_only is None else f"no: {vector.offline_only}"
        lines.append(f"| {vector.case}{types} | {'<br>'.join(rows)} | {ttl} | {'<br>'.join(asked)}{leaks} | {online} |")
    return "\n".join(lines) + "\n"


def _key(written: Mapping[str, Any]) -> str:
    return " ".join(_cell(part) if part is None else f"`{json.dumps(part)}`" for part in written["key"])


def _time(text: str | None) -> str:
    return "null" if text is None else text


def _cell(value: Any) -> str:
    return "null" if value is None else str(value)


def _known(asked: Mapping[str, Any]) -> str:
    return f" known at {_time(asked['known_at'])}" if "known_at" in asked else ""


def _status(asked: Mapping[str, Any]) -> str:
    """Where null alone does not say why."""
    return f" {asked['status']}" if asked["value"] is None else ""
