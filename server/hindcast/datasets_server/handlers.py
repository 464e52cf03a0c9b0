"""The RPCs of `hindcast.v1.TrainingSets`: bytes in, bytes out."""

import base64
import binascii
import contextlib
import logging
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from hindcast.clock import Deadline
from hindcast.datasets.sets import TrainingSets
from hindcast.datasets.store import check_name
from hindcast.datasets_server import answers
from hindcast.datasets_server.job_process import JobProcess
from hindcast.datasets_server.jobs import Done, Job, Lane
from hindcast.datasets_server.orders import Defect, Order
from hindcast.datasets_server.patience import Patience
from hindcast.datasets_server.private import without_paths
from hindcast.datasets_server.refusals import Refusals
from hindcast.datasets_server.requests import Asked, asked, asked_of_lookups
from hindcast.datasets_server.uploads import Upload
from hindcast.errors import (
    CatalogError,
    FieldViolation,
    HindcastError,
    InvalidArgument,
    RepoError,
    SourceError,
    UnknownName,
)
from hindcast.offline.spill import spill_directory
from hindcast.serving.calls import deadline_of
from hindcast.serving.messages import message_of
from hindcast.serving.rpcs import Rpcs
from hindcast.serving.status import abort
from hindcast.settings import TrainingSetsSettings, state_dir
from hindcast.v1 import training_sets_pb2 as pb

logger = logging.getLogger(__name__)

TRAINING_SETS = "hindcast.v1.TrainingSets"

_PAGE_SIZE, _PAGE_SIZE_MAX = 50, 500
_PAGE_BYTES = 2**20
"""Of manifests; a page ends with the one that passes it, so that it fits into a message of gRPC's own limit."""
_BATCH_ROWS, _BATCH_ROWS_MAX = 65_536, 2**20
_READERS, _READS_MAX = 2, 32
"""Threads that read sets, and calls that may have one open: each has a batch in memory."""
_QUESTIONS_MAX = 256
"""Calls that wait to get, list or remove: milliseconds each, but for the first `Remove`, which imports Feast."""

R = TypeVar("R", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What one of the two RPCs that build has of its own.

    Attributes:
        rows: the field of the request that has pieces of rows.
        asked: reads a spec.
    """

    rpc: str
    request: Any
    response: Any
    rows: str
    asked: Callable[[Any], Asked]


_BUILD = _Kind(
    rpc="Build",
    request=pb.TrainingSetsBuildRequest,
    response=pb.TrainingSetsBuildResponse,
    rows="entity_frame_bytes",
    asked=asked,
)
_FROM_LOOKUPS = _Kind(
    rpc="FromLookups",
    request=pb.TrainingSetsFromLookupsRequest,
    response=pb.TrainingSetsFromLookupsResponse,
    rows="labels_bytes",
    asked=asked_of_lookups,
)


class Handlers:
    """The RPCs of one server."""

    def __init__(self, settings: TrainingSetsSettings) -> None:
        self._settings = settings
        self._root = settings.repo_root
        self._sets = TrainingSets(self._root, settings.directory)
        self._builds = Lane("builds", threads=1, waiting_max=settings.waiting_max)
        self._comparisons = Lane("comparisons", threads=1, waiting_max=settings.waiting_max)
        # Calls that are read have places of their own: those who read slowly are in the way of nobody who asks what there is.
        self._reads = Lane("reads", threads=_READERS, waiting_max=_READS_MAX)
        self._questions = Lane("questions", threads=_READERS, waiting_max=_QUESTIONS_MAX)
        self._builder = JobProcess(settings, builds=True, left_in=self._spills)
        self._comparer = JobProcess(settings, builds=False, left_in=lambda: ())
        self._refusals = Refusals()
        self._builder.start()

    def rpcs(self) -> Rpcs:
        """All of them."""
        return Rpcs(
            unary={
                TRAINING_SETS: {
                    "Get": self.get,
                    "List": self.list,
                    "Verify": self.verify,
                    "Diff": self.diff,
                    "Remove": self.remove,
                }
            },
            # Those that take one request too: on the wire it is a stream of one.
            streams={
                TRAINING_SETS: {
                    "Build": self.build,
                    "FromLookups": self.from_lookups,
                    "Rebuild": self.rebuild,
                    "Read": self.read,
                }
            },
        )

    def stop(self) -> None:
        """End what is built within a second; nothing of it stays."""
        for lane in (self._builds, self._comparisons, self._reads, self._questions):
            lane.stop()
        for process in (self._builder, self._comparer):
            process.stop()

    async def build(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """`Build`."""
        async with aclosing(self._built(_BUILD, requests, context)) as responses:
            async for response in responses:
                yield response

    async def from_lookups(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """`FromLookups`."""
        async with aclosing(self._built(_FROM_LOOKUPS, requests, context)) as responses:
            async for response in responses:
                yield response

    async def _built(
        self, kind: "_Kind", requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncGenerator[bytes]:
        deadline = self._deadline(context)
        patience = Patience(self._settings.patience_seconds, deadline)
        async with self._failing(context), self._heard_out(requests, deadline):
            spec = message_of(kind.request, await _first(requests, patience))
            if spec.WhichOneof("part") != "spec":
                raise InvalidArgument.at("spec", "is not given; the first message has it")
            wanted = kind.asked(spec.spec)
            check_name(wanted.name)
            # The place comes first: rows are not taken from a caller who is refused then.
            with self._builds.place(), self._uploads() as directory:
                rows = await self._given(kind, wanted, requests, patience, directory / "rows.arrow")
                order = Order(rpc=kind.rpc, request_bytes=spec.spec.SerializeToString(), rows=rows)
                async for response in self._ordered(order, kind.response, context, deadline):
                    yield response

    async def _ordered(
        self, order: Order, response: Any, context: grpc.aio.ServicerContext, deadline: Deadline
    ) -> AsyncGenerator[bytes]:
        """How far an order for the builder is, and its answer."""

        def work(job: Job) -> bytes:
            return self._builder.run(order, job)

        async with aclosing(self._builds.follow(work, context, deadline=deadline)) as steps:
            async for step in steps:
                yield (
                    step.result
                    if isinstance(step, Done)
                    else response(progress=answers.progress(step)).SerializeToString()
                )

    def _telling(self, unregistered: "list[str]") -> TrainingSets:
        """The sets, for one call: what Feast's registry does not take of it is for its caller."""
        return TrainingSets(self._root, self._settings.directory, on_unregistered=unregistered.append)

    async def rebuild(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """`Rebuild`."""
        deadline = self._deadline(context)
        async with self._failing(context):
            patience = Patience(self._settings.patience_seconds, deadline)
            request = message_of(pb.TrainingSetsRebuildRequest, await _first(requests, patience))
            order = Order(rpc="Rebuild", request_bytes=request.SerializeToString())
            with self._builds.place():
                async for response in self._ordered(order, pb.TrainingSetsRebuildResponse, context, deadline):
                    yield response

    async def read(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """`Read`: the next rows are read when the caller has taken those before, as gRPC's flow control says."""
        deadline = self._deadline(context)
        async with self._failing(context):
            patience = Patience(self._settings.patience_seconds, deadline)
            request = message_of(pb.TrainingSetsReadRequest, await _first(requests, patience))

            def begun() -> Iterator[bytes]:
                reader = self._sets.get(request.ref).to_reader(
                    min(request.batch_rows or _BATCH_ROWS, _BATCH_ROWS_MAX),
                    split=request.split if request.HasField("split") else None,
                    columns=list(request.columns.names) if request.HasField("columns") else None,
                )
                return answers.arrow_pieces(reader)

            with self._reads.place():
                pieces = [await self._reads.run(begun, deadline=deadline)]
                try:
                    last = b""
                    while (
                        piece := await self._reads.run(lambda: next(pieces[0], None), deadline=deadline)
                    ) is not None:
                        if last:
                            # Not by `yield`, which waits for a caller as long as that likes.
                            await patience.taken(context.write(_read_response(last)))
                        last = piece
                finally:
                    # With them the set's files are closed now, and not when a caller who reads nothing has taken the status.
                    pieces.clear()
            # The place is another's already.
            yield _read_response(last)

    async def get(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`Get`."""

        def work(asks: pb.TrainingSetsGetRequest) -> Message:
            return pb.TrainingSetsGetResponse(training_set=answers.training_set(self._sets.get(asks.ref)))

        return await self._answered(self._questions, pb.TrainingSetsGetRequest, work, request, context)

    async def list(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`List`."""
        return await self._answered(self._questions, pb.TrainingSetsListRequest, self._page, request, context)

    async def verify(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`Verify`."""
        return await self._compared(pb.TrainingSetsVerifyRequest, request, context, rpc="Verify")

    async def diff(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`Diff`."""
        return await self._compared(pb.TrainingSetsDiffRequest, request, context, rpc="Diff")

    async def _compared(
        self, kind: type[Message], request: bytes, context: grpc.aio.ServicerContext, *, rpc: str
    ) -> bytes:
        deadline = self._deadline(context)
        async with self._failing(context):
            order = Order(rpc=rpc, request_bytes=message_of(kind, request).SerializeToString())
            with self._comparisons.place():
                return await self._comparisons.answer(
                    lambda job: self._comparer.run(order, job), context, deadline=deadline
                )
        raise AssertionError

    async def remove(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`Remove`."""

        def work(asks: pb.TrainingSetsRemoveRequest) -> Message:
            unregistered: list[str] = []
            self._telling(unregistered).remove(asks.ref)
            return pb.TrainingSetsRemoveResponse(not_registered=self._without_paths("; ".join(unregistered)))

        return await self._answered(self._questions, pb.TrainingSetsRemoveRequest, work, request, context)

    async def _answered(
        self,
        lane: Lane,
        kind: type[R],
        work: Callable[[R], Message],
        request: bytes,
        context: grpc.aio.ServicerContext,
    ) -> bytes:
        deadline = self._deadline(context)
        async with self._failing(context):
            asks = message_of(kind, request)
            with lane.place():
                answer = await lane.run(lambda: work(asks), deadline=deadline)
            return answer.SerializeToString()
        raise AssertionError

    def _page(self, asks: pb.TrainingSetsListRequest) -> Message:
        if not 0 <= asks.page_size <= _PAGE_SIZE_MAX:
            raise InvalidArgument.at("page_size", f"is {asks.page_size}; give 1 to {_PAGE_SIZE_MAX}, or none")
        places = [_place(ref) for ref in self._sets.refs()]
        page: list[pb.TrainingSet] = []
        size = 0
        begin = bisect_right(places, _place(_ref_of(asks.page_token))) if asks.page_token else 0
        for name, version in places[begin:]:
            if len(page) >= (asks.page_size or _PAGE_SIZE) or size > _PAGE_BYTES:
                last = page[-1]
                token = base64.urlsafe_b64encode(f"{last.name}@v{last.version}".encode()).decode()
                return pb.TrainingSetsListResponse(training_sets=page, next_page_token=token)
            try:
                page.append(answers.training_set(self._sets.get(f"{name}@v{version}")))
            except UnknownName:
                continue  # it was removed meanwhile
            size += len(page[-1].manifest_json)
        return pb.TrainingSetsListResponse(training_sets=page)

    async def _given(
        self, kind: "_Kind", wanted: Asked, requests: AsyncIterator[bytes], patience: Patience, path: Path
    ) -> str:
        """The file of the rows that were sent, `path`; empty where rows are given otherwise."""
        upload = Upload(path, bytes_max=self._settings.frame_max_bytes) if wanted.given == "uploaded" else None
        try:
            while (request := await patience.next(requests)) is not None:
                piece = message_of(kind.request, request)
                if upload is None or piece.WhichOneof("part") != kind.rows:
                    raise InvalidArgument.at(
                        "spec", "is followed by what does not belong to it; send one, and rows if it says `uploaded`"
                    )
                upload.add(getattr(piece, kind.rows))
        finally:
            if upload is not None:
                upload.close()
        return "" if upload is None else str(path)

    def _spills(self) -> Iterator[Path]:
        """Where builds set things aside: within the folder of their set, and in the state directory."""
        yield state_dir(self._root) / "spill"
        with contextlib.suppress(OSError):
            yield from (one for one in self._sets.directory.iterdir() if one.is_dir())

    @contextmanager
    def _uploads(self) -> Iterator[Path]:
        with spill_directory(state_dir(self._root) / "uploads", prefix="frame-") as directory:
            yield directory

    @contextlib.asynccontextmanager
    async def _heard_out(self, requests: AsyncIterator[bytes], deadline: Deadline) -> AsyncIterator[None]:
        """Has callers whom the block refuses come to an end of what they send, within bounds."""
        try:
            yield
        except Exception:
            await self._refusals.hear_out(requests, deadline)
            raise

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        return deadline_of(context, timeout_ms=int(self._settings.call_timeout_seconds * 1000))

    @contextlib.asynccontextmanager
    async def _failing(self, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        """Turns what the block raises into the call's status."""
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            if not isinstance(error, HindcastError | Defect):
                logger.exception("a call of %s met a defect", TRAINING_SETS)
            await abort(context, self._said(error))

    def _said(self, error: Exception) -> Exception:
        """An error without the paths of this machine that are nobody's business elsewhere."""
        if isinstance(error, InvalidArgument):
            return InvalidArgument(
                [FieldViolation(one.field, self._without_paths(one.description)) for one in error.violations]
            )
        if isinstance(error, RepoError | CatalogError):
            logger.error("a call failed: %s", error)
            return SourceError(
                "the repo of this server cannot be used as it is, and its log says why; tell whoever runs it"
            )
        if isinstance(error, HindcastError) and len(error.args) == 1 and not isinstance(error, UnknownName):
            logger.info("a call failed: %s", error)
            error.args = (self._without_paths(str(error)),)
        return error

    def _without_paths(self, text: str) -> str:
        return without_paths(text, self._settings)


def _place(ref: str) -> tuple[str, int]:
    """Where a set stands in the list."""
    name, _, version = ref.rpartition("@v")
    return name, int(version)


def _ref_of(token: str) -> str:
    try:
        ref = base64.urlsafe_b64decode(token.encode()).decode()
        _place(ref)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument.at("page_token", "is not one that a page before ended with") from error
    return ref


async def _first(requests: AsyncIterator[bytes], patience: Patience) -> bytes:
    request = await patience.next(requests)
    if request is None:
        raise InvalidArgument.at("request", "is missing; send one")
    return request


def _read_response(piece: bytes) -> bytes:
    return pb.TrainingSetsReadResponse(arrow_bytes=piece).SerializeToString()
