"""From a view's values to row writes, the same for every writer: key, schema, packed row, expiry, and the future bound."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hindcast.catalog import Field
from hindcast.errors import RepoError
from hindcast.online.codec import pack_row
from hindcast.online.connection import DEFAULT_FUTURE_SECONDS, DEFAULT_TTL_GRACE_SECONDS
from hindcast.online.keys import row_key, view_prefix
from hindcast.online.schemas import Schema
from hindcast.online.writer import RowWrite

_SETTINGS = ("ttl_grace_seconds", "key_ttl_seconds", "future_seconds")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a view before it is packed.

    Attributes:
        entity_key: None where a join key is null; such a row is never stored, since nothing could ask for it.
        values: in the schema's order, None for a null.
    """

    entity_key: bytes | None
    event_micros: int
    created_micros: int | None
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPolicy:
    """How long rows live and how far ahead they may be dated.

    Attributes:
        ttl_grace_seconds: how long a row outlives its view's TTL, so that stale can be told from missing.
        key_ttl_seconds: Feast's own setting: no row outlives its last write by more than this.
        future_seconds: rows dated further ahead are not written.
    """

    ttl_grace_seconds: int = DEFAULT_TTL_GRACE_SECONDS
    key_ttl_seconds: int | None = None
    future_seconds: int = DEFAULT_FUTURE_SECONDS


def read_policy(online_store: Mapping[str, Any]) -> RowPolicy:
    """The policy that the `online_store` block of a repo sets.

    Raises:
        RepoError: one of its settings is not a whole number from 0 on.
    """
    given = {name: online_store[name] for name in _SETTINGS if online_store.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, str) and value.isascii() and value.isdigit():
            given[name] = int(value)  # an environment variable, say
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RepoError(f"online_store.{name} is {value!r}; write a whole number of seconds")
    return RowPolicy(**given)


class ViewWriter:
    """Makes the row writes of one view in one run.

    Attributes:
        schema: the field list that rows of this run are packed by; it must be stored before they are.
        future: rows refused so far because they are dated too far ahead.
        keyless: rows refused so far because a join key is null.
    """

    def __init__(
        self,
        *,
        project: str,
        view: str,
        fields: Sequence[Field],
        ttl_micros: int,
        run_id: bytes,
        now_micros: int,
        policy: RowPolicy,
        generation: int = 0,
    ) -> None:
        """Args: generation is whose keys the rows get; `write_rows` takes those of 0 to all that need them."""
        self.schema = Schema(tuple(fields))
        self.future = 0
        self.keyless = 0
        self._schema_id = self.schema.id
        self._prefix = view_prefix(project, view, generation)
        self._run_id = run_id
        self._latest_micros = now_micros + policy.future_seconds * 1_000_000
        self._lifetime_micros = ttl_micros + policy.ttl_grace_seconds * 1_000_000 if ttl_micros else 0
        self._cap_ms = now_micros // 1000 + policy.key_ttl_seconds * 1000 if policy.key_ttl_seconds else 0

    def writes(self, rows: Iterable[Row]) -> Iterable[RowWrite]:
        """One write per row, except for rows that cannot be stored, which are counted."""
        for row in rows:
            if row.entity_key is None:
                self.keyless += 1
                continue
            if row.event_micros > self._latest_micros:
                self.future += 1
                continue
            packed = pack_row(
                event_micros=row.event_micros,
                created_micros=row.created_micros,
                schema_id=self._schema_id,
                run_id=self._run_id,
                values=row.values,
            )
            yield RowWrite(row_key(self._prefix, row.entity_key), packed, self._expires_at_ms(row.event_micros))

    def _expires_at_ms(self, event_micros: int) -> int:
        """When the row goes, 0 for never; at least 1, since a row before 1970 with a TTL is long gone."""
        limits = [self._cap_ms] if self._cap_ms else []
        if self._lifetime_micros:
            limits.append(max(1, (event_micros + self._lifetime_micros) // 1000))
        return min(limits, default=0)
