"""The lookup: a question in, the columns of its answer out. Knows no wire format and no gRPC."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hindcast.catalog import Catalog, InputColumn
from hindcast.clock import Clock, Deadline
from hindcast.errors import DeadlineExceeded, FieldViolation, InvalidArgument, Overloaded
from hindcast.online.codec import Block, Cells, framed
from hindcast.online.field_status import NULL_VALUE, PRESENT
from hindcast.online.keys import WrongKey, key_column_bytes
from hindcast.online.layouts import Layout
from hindcast.serving.admission import CALL_COST, Admission
from hindcast.serving.metrics import Metrics
from hindcast.serving.plan import (
    Computation,
    EntityColumns,
    Plan,
    Run,
    Wanted,
    compile_plan,
)
from hindcast.serving.question import Question
from hindcast.serving.tracing import Traces
from hindcast.serving.transform_queue import TransformQueue
from hindcast.serving.values import SHALLOW_BYTES_MAX, read_values
from hindcast.settings import StaleValues
from hindcast.v1.value_pb2 import Value

if TYPE_CHECKING:
    from hindcast.catalog.transforms import Transformer

_INTEGERS = ("int32_val", "int64_val")
_NUMBERS = ("float_val", *_INTEGERS, "double_val")
_INPUT_KINDS: Mapping[int, tuple[str, ...]] = {
    1: ("bytes_val",),
    2: ("string_val",),
    3: _INTEGERS,
    4: _INTEGERS,
    5: _NUMBERS,
    6: _NUMBERS,
    7: ("bool_val",),
    8: ("unix_timestamp_val",),
}
"""Kinds of Value that a request-data field takes, by its number in `feast.types.ValueType.Enum`; other types take all. A
function sees Python's int or float whatever the width, and callers send Python's own: int64 and double."""

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799

_PLANS_MAX = 1024
"""Distinct feature lists remembered; a caller who makes up a new list each time costs a plan each time, not memory."""


class Answer(NamedTuple):
    """What a lookup found: n rows.

    Attributes:
        views: one per read of the plan, judged.
        blocks: the columns of the answer, in order.
        keys: per entity of the plan n entity keys, None where one of a row's join keys is null.
    """

    plan: Plan
    rows: int
    views: list[Cells]
    blocks: list[Block]
    keys: Sequence[Sequence[bytes | None]]


Given = Callable[[str, Mapping[str, InputColumn]], None]
"""Told what an on-demand view's function is given, before any function is run."""


def _to_nobody(_view: str, _inputs: Mapping[str, InputColumn]) -> None:
    pass


class Lookup:
    """Answers questions from one catalog and one online store.

    Attributes:
        join_keys: every join key of the project.
        renamed: entity name -> join key, where the two differ.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        transformer: "Transformer | None",
        admission: Admission,
        clock: Clock,
        stale_values: StaleValues,
        metrics: Metrics,
        traces: Traces,
    ) -> None:
        self.catalog = catalog
        self.join_keys = frozenset(catalog.entities.values())
        self.renamed = {name: key for name, key in catalog.entities.items() if name not in self.join_keys}
        self._layout = layout
        self._transforms = TransformQueue(transformer) if transformer is not None else None
        self._admission = admission
        self._stale_values = stale_values
        self._metrics = metrics
        self._traces = traces
        self._clock = clock
        self._plans: dict[Wanted, Plan] = {}

    async def answer(self, question: Question, *, deadline: Deadline, given: Given = _to_nobody) -> Answer:
        """Look everything up that is asked for.

        Args:
            given: see there; it has been told also where a function then fails.
        Raises:
            UnknownName, InvalidArgument: the question is wrong; Redis has not been asked.
            Overloaded: the worker has too much in flight; Redis has not been asked.
            StoreUnavailable, DeadlineExceeded: Redis did not answer in time.
            StoredDataError: a stored row cannot be read.
            TransformError: an on-demand view's own code failed.
        """
        plan = self._plan(question.wanted)
        request_data = _request_data(plan, question) if plan.request_columns or question.request_data else {}
        rows = _row_count(plan, question, request_data)
        keys = _entity_keys(plan, question, rows)
        self._metrics.lookup_asked(rows=rows)
        if deadline.remaining_seconds() <= 0:
            self._metrics.call_expired()
            raise DeadlineExceeded("the deadline passed before the lookup began; allow it more time")
        cost = CALL_COST + rows * plan.row_cost
        try:
            self._admission.enter(cost)
        except Overloaded as error:
            self._metrics.call_shed(error.limit)
            raise
        try:
            return await self._look_up(plan, question, keys, request_data, rows, deadline, given)
        finally:
            self._admission.leave(cost)

    async def _look_up(
        self,
        plan: Plan,
        question: Question,
        keys: Sequence[Sequence[bytes | None]],
        request_data: Mapping[str, Sequence[bytes]],
        rows: int,
        deadline: Deadline,
        given: Given,
    ) -> Answer:
        asked = [(read.rows_of, keys[read.entity]) for read in plan.reads]
        views = await self._layout.find(asked, deadline=deadline)
        now = self._clock()
        keeps_stale = question.dialect.keeps(self._stale_values)
        for read, cells in zip(plan.reads, views, strict=True):
            ttl_micros = read.view.ttl_micros
            cells.judge(now - ttl_micros if ttl_micros else 0, keeps_stale=keeps_stale)
            oldest = cells.oldest_micros
            age_seconds = None if oldest is None else (now - oldest) / 1e6
            self._metrics.rows_read(read.view.name, cells.statuses, columns=cells.width, oldest_age_seconds=age_seconds)
        inputs = [_inputs(plan, wanted, views, question.entities, request_data) for wanted in plan.computations]
        for computation, columns in zip(plan.computations, inputs, strict=True):
            given(computation.view.name, columns)
        computed = await self._compute(plan, inputs, rows, deadline) if inputs else []
        return Answer(plan, rows, views, [_block(run, views, computed) for run in plan.runs], keys)

    def _plan(self, wanted: Wanted) -> Plan:
        plan = self._plans.get(wanted)
        if plan is None:
            plan = compile_plan(self.catalog, wanted)
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[wanted] = plan
        return plan

    async def _compute(
        self,
        plan: Plan,
        inputs: Sequence[Mapping[str, InputColumn]],
        rows: int,
        deadline: Deadline,
    ) -> list[list[list[bytes]]]:
        """Per computation, the columns of all its view's features."""
        if self._transforms is None:
            raise AssertionError("a catalog with on-demand views is served with a transformer")
        computed = []
        for computation, given in zip(plan.computations, inputs, strict=True):
            began = time.perf_counter()
            with self._traces.span("transform"):
                columns = await self._transforms.run(computation.view.name, given, rows, deadline=deadline)
            self._metrics.transformed(computation.view.name, computation.view.mode, time.perf_counter() - began)
            computed.append([columns[field.name] for field in computation.view.fields])
        return computed


def _block(run: Run, views: Sequence[Cells], computed: Sequence[Sequence[Sequence[bytes]]]) -> Block:
    if run.read is not None:
        return Block(run.names, views[run.read], run.start, run.stop, run.read)
    assert run.computation is not None  # noqa: S101 - a run has one of the two
    columns = computed[run.computation][run.start : run.stop]
    statuses = [bytes(PRESENT if value else NULL_VALUE for value in column) for column in columns]
    return Block(run.names, Cells.of_columns(columns, statuses), 0, len(columns), None)


def _inputs(
    plan: Plan,
    computation: Computation,
    views: Sequence[Cells],
    entities: Mapping[str, Sequence[bytes]],
    request_data: Mapping[str, Sequence[bytes]],
) -> dict[str, InputColumn]:
    """What an on-demand view's function sees: join keys, the request data, and the features that it declared."""
    inputs = {
        name: InputColumn(entities[name], types[0]) for name, types in plan.key_columns.items() if name in entities
    }
    for name, field in plan.request_columns.items():
        inputs[name] = InputColumn(request_data[name], field.value_type)
    for name, (source, value_type) in computation.inputs.items():
        inputs[name] = InputColumn(views[source.read].column(source.feature), value_type)
    return inputs


def _request_data(plan: Plan, question: Question) -> Mapping[str, Sequence[bytes]]:
    """The request-data columns that are needed; Feast's callers may also send them among the entities."""
    dialect = question.dialect
    given = question.request_data if dialect.refuses_unknown_columns else {**question.entities, **question.request_data}
    violations = [
        FieldViolation(f'{dialect.request_field}["{name}"]', "is required by an on-demand view; send one value per row")
        for name in plan.request_columns
        if name not in given
    ]
    if dialect.refuses_unknown_columns:
        violations += [
            FieldViolation(f'{dialect.request_field}["{name}"]', "is not needed by these features; leave it out")
            for name in question.request_data
            if name not in plan.request_columns
        ]
    for name, field in plan.request_columns.items():
        place = dialect.request_field if name in question.request_data else dialect.entities_field
        violations += [
            FieldViolation(f'{place}["{name}"].val[{at}]', wrong)
            for at, value in enumerate(read_values(f'{place}["{name}"]', given.get(name, ())))
            if (wrong := _wrong_input(value, field.value_type)) is not None
        ]
    if violations:
        raise InvalidArgument(violations)
    return {name: given[name] for name in plan.request_columns}


def _wrong_input(value: Value, value_type: int) -> str | None:
    """What is wrong with a value that an on-demand view's function is to see; None if nothing is, or it is null."""
    kind = value.WhichOneof("val")
    if kind == "unix_timestamp_val" and not _FIRST_SECOND <= value.unix_timestamp_val <= _LAST_SECOND:
        return "is no time between the years 1 and 9999, which is all that a function can be given"
    takes = _INPUT_KINDS.get(value_type)
    if takes is None or kind is None or kind == "null_val" or kind in takes:
        return None
    return (
        f"is {kind.removesuffix('_val').upper()}, but the on-demand view takes {takes[-1].removesuffix('_val').upper()}"
    )


def _row_count(plan: Plan, question: Question, request_data: Mapping[str, Sequence[bytes]]) -> int:
    """How many rows are asked for; one if nothing that is needed has rows.

    Raises:
        InvalidArgument: a join key is missing or not needed, columns differ in length or have no rows.
    """
    dialect, entities = question.dialect, question.entities
    if entities.keys() == plan.key_columns.keys() and not question.request_data:
        # The usual case, without a path per column.
        lengths_seen = {len(column) for column in entities.values()} or {1}
        if len(lengths_seen) == 1 and (rows := lengths_seen.pop()) > 0:
            return rows
    path = dialect.entities_field
    violations = [
        FieldViolation(f'{path}["{name}"]', "is missing; these features need this join key")
        for name in plan.key_columns
        if name not in entities
    ]
    if dialect.refuses_unknown_columns:
        violations += [
            FieldViolation(f'{path}["{name}"]', "is not a join key of these features; leave it out")
            for name in entities
            if name not in plan.key_columns
        ]
    lengths = {f'{path}["{name}"]': len(column) for name, column in entities.items()}
    lengths |= {
        f'{dialect.request_field}["{name}"]': len(column)
        for name, column in question.request_data.items()
        if name in request_data
    }
    first = min(lengths, default="")  # a map on the wire has no order
    rows = lengths.get(first, 1)
    violations += [
        FieldViolation(field, f"has {length} values, but {first} has {rows}; send one value per row in every column")
        for field, length in lengths.items()
        if length != rows
    ]
    if not violations and rows == 0:
        violations = [FieldViolation(first, "has no values; ask for at least one row")]
    if violations:
        raise InvalidArgument(violations)
    return rows


def _entity_keys(plan: Plan, question: Question, rows: int) -> list[Sequence[bytes | None]]:
    """Per entity of the plan n entity keys, None where one of a row's join keys is null.

    Raises:
        InvalidArgument: a value is damaged or of another type than its join key.
    """
    path = question.dialect.entities_field
    for name, column in question.entities.items():
        # A column that is not needed is looked at, too: Feast's answers hold it, and one damaged value makes all of it
        # unreadable. So does one that nests too deeply, behind the value that a key is made of.
        if name not in plan.key_columns or max(map(len, column)) > SHALLOW_BYTES_MAX:
            read_values(f'{path}["{name}"]', column)
    columns = []
    for key in plan.keys:
        try:
            columns.append(key_column_bytes(question.entities[key.name], key.key_type))
        except WrongKey as error:
            raise InvalidArgument.at(f'{path}["{key.name}"].val[{error.position}]', error.reason) from error
    return [_joined_keys(entity, [columns[at] for at in entity.keys], rows) for entity in plan.entities]


def _joined_keys(entity: EntityColumns, columns: Sequence[Sequence[bytes | None]], rows: int) -> Sequence[bytes | None]:
    head = entity.head
    if not columns:
        return [head] * rows
    if len(columns) == 1:
        return framed(head, columns[0], b"")
    return [None if None in parts else b"".join((head, *parts)) for parts in zip(*columns, strict=True)]
