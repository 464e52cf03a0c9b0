"""The recorder: every lookup leaves a record in the log before its answer leaves, whatever way it ends."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

import grpc
import mmh3

from hindcast.catalog import InputColumn
from hindcast.clock import Clock, uuid7_text
from hindcast.errors import LogUnavailable, LookupTooLarge
from hindcast.lookups.record import BEGINS, Constants, RecordHead, Rpc, computed_bytes, constants, encode_parts
from hindcast.online.codec import answer_record
from hindcast.serving.calls import Caller
from hindcast.serving.metrics import Metrics
from hindcast.serving.plan import Plan
from hindcast.serving.question import Question
from hindcast.serving.status import failure_of
from hindcast.settings import LogMode

if TYPE_CHECKING:
    from hindcast.lookups.writer import LookupLog
    from hindcast.serving.lookup import Answer

_FOLDED_ROWS_MIN = 8
"""Below, the event times that Feast's answers repeat in every column are not worth the look for them."""

_HASHES = 1 << 32
_CONSTANTS_MAX = 1024
"""As many as there are plans; those of catalogs that are no longer in force go with the others."""

_SHOWN_MAX = 1_000
"""Characters of a service's name, or references, that a failure's record repeats; the request beside it has them all."""


class Recorder:
    """Records the lookups of one worker."""

    def __init__(
        self,
        log: "LookupLog | None",
        *,
        mode: LogMode,
        modes: Mapping[str, LogMode],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Args:
        log: None if no lookup leaves a record.
        modes: feature service -> its mode, where that is not `mode`.
        """
        self._log = log
        self._mode = mode
        self._modes = modes
        self._clock = clock
        self._metrics = metrics
        self._constants: dict[tuple[int, int, int], tuple[Plan, Constants]] = {}

    @property
    def keeps(self) -> bool:
        """Whether any lookup leaves a record."""
        return self._log is not None

    def begin(self, rpc: Rpc, request: bytes, catalog_version: str, caller: Caller) -> "Recording":
        """A lookup begins, under an id of its own.

        Args:
            request: as received.
            caller: looked at only if lookups leave records.
        """
        lookup_id = uuid7_text(self._clock())
        if self._log is None:
            return Recording(lookup_id)
        return _Kept(lookup_id, self._log, self, rpc, request, catalog_version, caller)

    def mode_of(self, service: str | None) -> LogMode:
        """The mode of a feature service's lookups, or with None of those of references."""
        return self._mode if service is None else self._modes.get(service, self._mode)

    def constants_of(self, plan: Plan, rpc: Rpc, catalog_version: str, service: str, mode: LogMode) -> Constants:
        """What the records of a plan's answers have in common; a plan belongs to one catalog and one question."""
        key = id(plan), id(rpc), id(mode)  # the hash of an enum's member is a function in Python
        kept = self._constants.get(key)
        if kept is not None:
            return kept[1]
        found = constants(
            rpc=rpc,
            catalog_version=catalog_version,
            service=service,
            refs=plan.refs,
            mode=mode,
            views=[read.name for read in plan.reads],
        )
        if len(self._constants) >= _CONSTANTS_MAX:
            self._constants.clear()
        # With the plan, so that no other one gets its id.
        self._constants[key] = plan, found
        return found

    def now(self) -> int:
        """The time, in microseconds since 1970."""
        return self._clock()

    def left_out(self) -> None:
        """A lookup leaves no record because its service is sampled."""
        self._metrics.lookup_sampled_out()


class Recording:
    """One lookup while it goes on. This one leaves no record; `_Kept` does.

    Attributes:
        lookup_id: a UUIDv7, as text.
    """

    __slots__ = ("lookup_id",)

    def __init__(self, lookup_id: str) -> None:
        self.lookup_id = lookup_id

    def asks(self, question: Question) -> None:
        """The request has been read, and no work for it is done yet.

        Raises:
            LogUnavailable: its record must be durable, and the log cannot be written.
        """

    def given(self, view: str, inputs: Mapping[str, InputColumn]) -> None:
        """An on-demand view's function is about to be given this; it may fail on it."""

    def answered(self, answer: "Answer", response: bytes, *, served_at_micros: int) -> Awaitable[None] | None:  # noqa: ARG002
        """The lookup has an answer, which may leave when this returns None, or when what it returns is done.

        Raises:
            LogUnavailable: as `asks`; what is returned may raise it too.
            LookupTooLarge: its record must be durable, and is larger than the log takes.
        """
        return None

    async def failed(self, error: Exception, *, call: str) -> Exception:  # noqa: ARG002
        """The lookup failed: the error to tell its caller, which may leave when this is done.

        Returns:
            The error given; LogUnavailable or LookupTooLarge where the record of the failure must be durable and cannot be.
        """
        return error

    def cancelled(self, code: grpc.StatusCode) -> None:
        """The lookup was cut off by its caller, its deadline or the server's stop, before it had an answer."""


class _Kept(Recording):
    __slots__ = (
        "_caller",
        "_catalog_version",
        "_computed",
        "_is_ended",
        "_log",
        "_mode",
        "_question",
        "_recorder",
        "_request",
        "_rpc",
    )

    def __init__(
        self,
        lookup_id: str,
        log: "LookupLog",
        recorder: Recorder,
        rpc: Rpc,
        request: bytes,
        catalog_version: str,
        caller: Caller,
    ) -> None:
        self.lookup_id = lookup_id
        self._log = log
        self._recorder = recorder
        self._rpc = rpc
        self._request = request
        self._catalog_version = catalog_version
        self._caller = caller
        self._mode = recorder.mode_of(None)
        self._question: Question | None = None
        self._computed: dict[str, dict[str, Sequence[bytes]]] = {}
        self._is_ended = False

    def asks(self, question: Question) -> None:
        self._question = question
        self._mode = mode = self._recorder.mode_of(question.wanted.service)
        if mode is LogMode.DURABLE:
            self._log.check(mode)

    def given(self, view: str, inputs: Mapping[str, InputColumn]) -> None:
        self._computed[view] = {name: column.values for name, column in inputs.items()}

    def answered(self, answer: "Answer", response: bytes, *, served_at_micros: int) -> Awaitable[None] | None:
        self._is_ended = True
        plan = answer.plan
        if self._mode is LogMode.OFF:
            return None
        if plan.sample_rate < 1 and not _is_kept(answer, self.lookup_id):
            self._recorder.left_out()
            return None
        common = self._recorder.constants_of(plan, self._rpc, self._catalog_version, self._service(), self._mode)
        payload = answer_record(
            BEGINS,
            self.lookup_id,
            served_at_micros,
            common.said(*self._said()),
            common.views,
            answer.views,
            computed_bytes(self._computed),
            self._request,
            response,
            folds=self._rpc is Rpc.FEAST and answer.rows >= _FOLDED_ROWS_MIN,
        )
        return self._log.append((payload,), mode=self._mode)

    async def failed(self, error: Exception, *, call: str) -> Exception:
        failure = failure_of(error, call=call)
        # A log that has just refused is not waited for again; what it can still take is better than nothing.
        waits = not isinstance(error, LogUnavailable)
        try:
            kept = self._append_failure(failure.code, failure.reason, failure.message, waits=waits)
            if kept is not None:
                await kept
        except (LogUnavailable, LookupTooLarge) as refused:
            return refused
        return error

    def cancelled(self, code: grpc.StatusCode) -> None:
        # What has its record already was cut off while that was made durable.
        if not self._is_ended:
            self._append_failure(code, "", "", waits=False)

    def _append_failure(
        self, code: grpc.StatusCode, reason: str, message: str, *, waits: bool
    ) -> Awaitable[None] | None:
        self._is_ended = True
        if self._mode is LogMode.OFF:
            return None
        refs = () if self._question is None else self._question.wanted.refs()
        shown = refs if sum(map(len, refs)) <= _SHOWN_MAX else ()
        request_id, tags = self._said()
        head = RecordHead(
            lookup_id=bytes.fromhex(self.lookup_id.replace("-", "")),
            served_at_micros=self._recorder.now(),
            rpc=self._rpc,
            request_id=request_id,
            tags=tags,
            catalog_version=self._catalog_version,
            service=self._service(),
            refs=shown,
            mode=self._mode,
            code=code.value[0],
            reason=reason,
            message=message,
            rows=(),
            computed=self._computed,
            repeats=b"",
        )
        mode = self._mode if waits or self._mode is not LogMode.DURABLE else LogMode.BATCHED
        return self._log.append(encode_parts(head, self._request, b""), mode=mode)

    def _service(self) -> str:
        return "" if self._question is None else (self._question.wanted.service or "")[:_SHOWN_MAX]

    def _said(self) -> tuple[str, Mapping[str, str]]:
        """The caller's request id and tags: of the message, or else of the call."""
        question, caller = self._question, self._caller
        if question is None:
            return caller
        return question.request_id or caller.request_id, question.tags or caller.tags


def _is_kept(answer: "Answer", lookup_id: str) -> bool:
    """Whether an answer of a sampled service leaves a record: if a row is missing, or one of the rows asked for is in the sample.

    A row is in the sample by a hash of its entity keys, and so each time it is asked for.
    """
    if any(cells.missing for cells in answer.views):
        return True
    limit = answer.plan.sample_rate * _HASHES
    if not answer.plan.keys:
        return mmh3.hash(lookup_id, signed=False) < limit
    # In the order of their bytes: the order of a service's views decides nothing.
    return any(
        mmh3.hash(b"".join(sorted(part or b"" for part in parts)), signed=False) < limit
        for parts in zip(*answer.keys, strict=True)
    )
