"""Work that takes long, in threads of its own: so much at a time, so much waiting, told of while it goes on, and ended when nobody wants it any more."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import Generic, TypeVar

import grpc

from hindcast.clock import Deadline
from hindcast.datasets.progress import Progress
from hindcast.errors import DeadlineExceeded, Overloaded

T = TypeVar("T")

_AGAIN_SECONDS = 10.0
"""After so long without news the last is told again: proxies end calls on which nothing passes."""


class _NobodyWaits(Exception):
    """Raised in the thread of work that nobody waits for any more."""


class Job:
    """A piece of work, between its thread and the loop.

    Attributes:
        ended: set when nobody waits for it any more.
        changed: set when there is news, or when it is done.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._news: dict[str, Progress] = {}
        self._last: Progress | None = None

    def run(self, work: Callable[["Job"], T]) -> T:
        """Do it, in its thread."""
        self.look()
        return work(self)

    def note(self, progress: Progress) -> None:
        """Keep the last of each phase for the caller."""
        self._news.pop(progress.phase, None)
        self._news[progress.phase] = progress
        self.changed.set()

    def news(self) -> Iterator[Progress]:
        """What the caller has not heard yet."""
        self.changed.clear()
        while self._news:
            self._last = self._news.pop(next(iter(self._news)))
            yield self._last

    async def wait(self, deadline: Deadline) -> None:
        """Wait until something has changed, or the last is worth telling again.

        Raises:
            DeadlineExceeded: the time is up.
        """
        try:
            await asyncio.wait_for(self.changed.wait(), min(_AGAIN_SECONDS, max(0.0, deadline.remaining_seconds())))
        except TimeoutError:
            if deadline.remaining_seconds() <= 0:
                raise _late() from None
            if self._last is not None:
                self.note(self._last)

    def tell(self, progress: Progress) -> None:
        """Say how far it is; called in the thread of the work.

        Raises:
            An exception that ends it, when nobody waits for it any more.
        """
        self.look()
        self._loop.call_soon_threadsafe(self.note, progress)

    def look(self) -> None:
        """As `tell`, with nothing to say."""
        if self.ended.is_set():
            raise _NobodyWaits


class Lane:
    """A queue for one kind of work."""

    def __init__(self, name: str, *, threads: int, waiting_max: int) -> None:
        """Args:
        name: what a refusal calls the work.
        threads: that work at a time.
        """
        self._name = name
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hindcast-training-sets")
        self._at_once = threads
        self._places = threads + waiting_max
        self._taken = 0
        self._wanted: set[threading.Event] = set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue while the block runs.

        Raises:
            Overloaded: there is none left.
        """
        if self._taken >= self._places:
            raise Overloaded(self._name, f"{self._taken} {self._name} run or wait here already; try again later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def stop(self) -> None:
        """End all work as soon as it looks up."""
        for ended in self._wanted:
            ended.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def follow(
        self, work: Callable[[Job], T], context: grpc.aio.ServicerContext, *, deadline: Deadline
    ) -> AsyncGenerator["Progress | Done[T]"]:
        """Do some work, within a `place`, and tell how far it is; the last is what came of it.

        Where the caller is too slow to hear all news, it hears the last of each phase. When it is gone, or its time is up, the work ends where it
        looks up next.

        Raises:
            DeadlineExceeded: the deadline passed before it was done.
            What the work raises.
        """
        job = Job()
        # Not in the `finally` alone: a generator that waits for its caller to take an answer is not told that the caller is gone.
        context.add_done_callback(lambda _: job.ended.set())
        if self._taken > self._at_once:
            job.note(Progress("waiting", 0, 0))
        self._wanted.add(job.ended)
        done = asyncio.get_running_loop().run_in_executor(self._threads, job.run, work)
        done.add_done_callback(lambda _: job.changed.set())
        try:
            while True:
                for progress in job.news():
                    yield progress
                if done.done():
                    yield Done(done.result())
                    return
                await job.wait(deadline)
        finally:
            job.ended.set()
            if not done.cancel() and not done.cancelled():
                # Looked at, or asyncio complains of what it raised.
                done.exception()
            self._wanted.discard(job.ended)

    async def answer(self, work: Callable[[Job], T], context: grpc.aio.ServicerContext, *, deadline: Deadline) -> T:
        """As `follow`, for a caller who hears only what came of it."""
        async with aclosing(self.follow(work, context, deadline=deadline)) as steps:
            async for step in steps:
                if isinstance(step, Done):
                    return step.result
        raise AssertionError

    async def run(self, work: Callable[[], T], *, deadline: Deadline) -> T:
        """Do some work that tells nothing, within a `place`. When its time is up it goes on, and nobody hears of it.

        Raises:
            DeadlineExceeded: the deadline passed before it was done.
            What the work raises.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.wait_for(running, max(0.0, deadline.remaining_seconds()))
        except TimeoutError:
            raise _late() from None


class Done(Generic[T]):
    """What came of some work."""

    __slots__ = ("result",)

    def __init__(self, result: T) -> None:
        self.result = result


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before it was done; give it more time, or ask for less")
