"""All errors of Hindcast, one tree. `serving/status.py` gives each its gRPC code, `cli/exits.py` each its exit code.

HindcastError
├── RepoError               the Feast repo or its configuration cannot be used; the message says which line to change
├── CatalogError            the registry cannot be read or compiled
├── RequestError            the caller's request is wrong
│   ├── InvalidArgument     carries one violation per wrong field
│   └── UnknownName         a feature service, view or feature that the catalog does not have, or a receipt that the log has not
├── Overloaded              the server has as much work as it can do in time
├── StoreUnavailable        Redis did not answer in time or the connection broke
├── LogUnavailable          the log of lookups cannot keep what a call's log mode promises
├── LookupTooLarge          what the log would have to keep of a lookup is larger than it takes
├── StoredDataError         a stored row or a segment of the log cannot be read; no row is served as a null
├── SourceError             a batch source cannot be read as it is: missing, damaged, or without what a view names
├── NotWritable             a view or its source does not take writes, as the repo stands
├── GenerationConflict      a view's generations do not allow a replace, flip or rollback as they stand
├── DeadlineExceeded        the call's own deadline passed
├── TransformError          an on-demand view's own code failed
├── LedgerError             the run ledger cannot be read or written
├── SealError               sealed lookups cannot be read or written
├── DatasetError            a training set cannot be read or written, or is damaged
├── NotProven               rows, digests or a signature do not belong together: something was changed
└── ServerStartError        the server cannot start: a port in use, a worker that does not come up

A message says what was wrong, where, and what to do next. A vendor's message is never part of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_MAX = 1_000
"""Characters of a caller's own text that an error repeats. A name of 16 MiB took 300 MB to write down."""


class HindcastError(Exception):
    """Root of the tree."""


class RepoError(HindcastError):
    """The Feast repo or its configuration cannot be used."""


class CatalogError(HindcastError):
    """The registry cannot be read or compiled."""


class RequestError(HindcastError):
    """The caller's request is wrong; the same request fails again."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path (`entities["account_id"].val[3]`) and what is wrong with it."""

    field: str
    description: str


class InvalidArgument(RequestError):
    """The request breaks its contract.

    Attributes:
        violations: at least one; the message is their sum.
    """

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)

    @classmethod
    def at(cls, field: str, description: str) -> "InvalidArgument":
        """The error for one wrong field."""
        return cls([FieldViolation(field, description)])


class UnknownName(RequestError):
    """A name that the catalog does not have, or the id of a lookup that the log does not.

    Attributes:
        kind: `feature service`, `feature view`, `feature`, `push source` or `receipt`.
        name: as the caller wrote it, its first 1,000 characters.
    """

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        name = name[:SHOWN_MAX]
        super().__init__(f"{kind} {name!r} does not exist{hint and '; '}{hint}")
        self.kind = kind
        self.name = name


class Overloaded(HindcastError):
    """The server has as much work as it can do in time; none of the call's was done.

    Attributes:
        limit: which limit it met: `in_flight`, `lag`, `memory` and others.
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class StoreUnavailable(HindcastError):
    """Redis did not answer in time, or the connection broke. Safe to try again."""


class LogUnavailable(HindcastError):
    """The log of lookups cannot keep what the call's log mode promises. Safe to try again; the answer is not given."""


class LookupTooLarge(HindcastError):
    """The record of a lookup is larger than the log takes, and the answer may not leave without it. The same lookup fails again."""


class StoredDataError(HindcastError):
    """A stored row or a segment of the log cannot be read: damaged, or written by a newer version."""


class SourceError(HindcastError):
    """A batch source cannot be read as it is: missing, damaged, or without what a view names; the message says which file."""


class NotWritable(HindcastError):
    """A view or its source does not take writes, as the repo stands; the message says what to change."""


class GenerationConflict(HindcastError):
    """A view's generations do not allow what was asked, as they stand; nothing has changed."""


class DeadlineExceeded(HindcastError):
    """The call's own deadline passed before the answer was ready."""


class TransformError(HindcastError):
    """An on-demand view's own code failed, or gave a wrong number of rows."""


class LedgerError(HindcastError):
    """The run ledger, or what it should record, cannot be read or written; online rows are as they were."""


class SealError(HindcastError):
    """The tables of sealed lookups cannot be read or written; what was not sealed stays in its segments."""


class DatasetError(HindcastError):
    """A training set cannot be read or written, or is damaged; sets that were there before are as they were."""


class NotProven(HindcastError):
    """Rows, digests or a signature do not belong together, so one of them was changed; the message says which."""


class ServerStartError(HindcastError):
    """The server cannot start."""
