"""Generations: whole sets of a view's rows, of which one is served, so that a view can be filled anew and switched at once.

One document per project says which (docs/formats.md). It is read with the rows, and changed by compare-and-set alone.

Three rules hold it together. Readers take rows of the generation that a document read with them, or after them, calls serving.
Writers write a row to every target of the view, then read the document, and go on until it names no target that lacks the row
(`writer.write_rows`). And a generation that has left the targets never comes back, so its rows can be deleted at any time: it
waits in `going` until they are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from hindcast.clock import Clock, system_clock
from hindcast.errors import GenerationConflict, StoredDataError, StoreUnavailable
from hindcast.online.connection import RedisTarget, failing_as
from hindcast.online.keys import generations_key, later_generations_prefix, view_prefix

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster

DEFAULT_KEEP_SECONDS = 3600
KEEP_SECONDS_MIN = 10
"""A lookup that began before a flip may read the old rows; it waits for Redis for 2 s at the most (online/link.py)."""

FLIPS_MAX = 8
"""How many changes of the document one read or write follows. Even a view that is replaced all the time changes once in seconds."""

_FAILED = (
    "Redis failed while the generations of a view were read or changed; check that it runs, has memory left, and lets this "
    "user GET, SET, EVAL, SCAN and UNLINK the project's keys. Running it again is safe"
)
_CHANGES_MAX = 100
_SCAN_COUNT = 1000

_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('UNLINK', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""
"""Put a document in place of the one that was read; an empty one is none."""


class Going(msgspec.Struct, frozen=True):
    """A generation whose rows are to be deleted from an instant on (milliseconds since 1970)."""

    generation: int
    due_ms: int


class ViewGenerations(msgspec.Struct, frozen=True, omit_defaults=True):
    """One view's entry in the document. Instants are milliseconds since 1970.

    Attributes:
        last: the greatest number given so far; none is given twice.
        serving: whose rows are answered.
        since_ms: when it began to serve; 0 for what has served from the beginning.
        building: what a replace fills at this moment.
        builder: run id of that replace.
        previous: what served before, and can be rolled back to.
        previous_until_ms: until when it is kept.
        going: what is being deleted.
    """

    last: int = 0
    serving: int = 0
    since_ms: int = 0
    building: int | None = None
    builder: str | None = None
    previous: int | None = None
    previous_until_ms: int | None = None
    going: tuple[Going, ...] = ()

    @property
    def targets(self) -> tuple[int, ...]:
        """Every generation that a row must be written to, the serving one first.

        The previous one is a target until the document says otherwise, whatever its time, so that a rollback is never stale.
        """
        return (self.serving, *(one for one in (self.building, self.previous) if one is not None))


_UNTOUCHED = ViewGenerations()
_decode = msgspec.json.Decoder(dict[str, ViewGenerations]).decode


class Generations:
    """The document of one project, as it was at one moment. Immutable.

    Attributes:
        stored: its bytes, None where there is none.
        views: entries by stored name; a view without one serves generation 0.
    """

    __slots__ = ("_prefixes", "_project", "stored", "views")

    def __init__(self, project: str, stored: bytes | None) -> None:
        """Read it.

        Raises:
            StoredDataError: it is damaged.
        """
        self._project = project
        self._prefixes: dict[str, bytes] = {}
        self.stored = stored
        try:
            self.views: Mapping[str, ViewGenerations] = {} if stored is None else _decode(stored)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoredDataError(
                f"the key {generations_key(project).decode()} in Redis, which says what rows of each view are served, is damaged"
            ) from error

    def of(self, view: str) -> ViewGenerations:
        """A view's entry, by its stored name."""
        return self.views.get(view, _UNTOUCHED)

    def prefix(self, view: str) -> bytes:
        """What the keys of a view's served rows begin with."""
        prefix = self._prefixes.get(view)
        if prefix is None:
            prefix = self._prefixes[view] = view_prefix(self._project, view, self.of(view).serving)
        return prefix

    def with_view(self, view: str, entry: ViewGenerations | None) -> bytes:
        """The document with another entry of a view, None for none; empty bytes where nothing is left."""
        views = {name: other for name, other in self.views.items() if name != view}
        if entry is not None:
            views[view] = entry
        return msgspec.json.encode(views, order="sorted") if views else b""


class KnownGenerations:
    """The document as one reader or writer knows it; whoever reads it anew says so by `follow`.

    Attributes:
        key: where it is stored.
        now: the last one that was read.
        is_read: whether one was read yet; until then `now` is that of a project without any.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.key = generations_key(project)
        self.now = Generations(project, None)
        self.is_read = False

    def follow(self, stored: bytes | None) -> Generations:
        """Take the document's bytes, which are parsed only if they are others than before.

        Raises:
            StoredDataError: it is damaged; what was known stays.
        """
        # What is returned is what these bytes say, whatever another thread takes meanwhile.
        now = self.now
        read = now if stored == now.stored else Generations(self.project, stored)
        self.now, self.is_read = read, True
        return read


def begun(entry: ViewGenerations, *, view: str, builder: str, take_over: bool, now_ms: int) -> ViewGenerations:
    """With a new generation to be filled. Asked again by the same builder, nothing changes.

    Raises:
        GenerationConflict: another build is under way, and it is not to be taken over.
    """
    going = entry.going
    if entry.building is not None:
        if entry.builder == builder:
            return entry
        if not take_over:
            raise GenerationConflict(
                f"view {view!r} is being replaced by run {entry.builder} (generation {entry.building}). Wait for it; or, if that run "
                f"is gone, give it up first: hindcast materialize --abandon {view}"
            )
        going = (*going, Going(entry.building, now_ms))
    number = entry.last + 1
    return msgspec.structs.replace(entry, last=number, building=number, builder=builder, going=going)


def abandoned(entry: ViewGenerations, generation: int, *, now_ms: int) -> ViewGenerations:
    """Without a build; what it wrote goes, also where another one has taken over and it wrote on."""
    if generation in {entry.serving, entry.previous, *(one.generation for one in entry.going)}:
        return entry
    going = (*entry.going, Going(generation, now_ms))
    if entry.building == generation:
        return msgspec.structs.replace(entry, building=None, builder=None, going=going)
    return msgspec.structs.replace(entry, last=max(entry.last, generation), going=going)


def flipped(entry: ViewGenerations, generation: int, *, view: str, now_ms: int, keep_seconds: float) -> ViewGenerations:
    """With what was built as what is served; what was kept from before goes. Asked again, nothing changes.

    Raises:
        GenerationConflict: it is not being built (any more).
    """
    if entry.serving == generation:
        return entry
    if entry.building != generation:
        raise GenerationConflict(
            f"generation {generation} of view {view!r} is not being built any more: another replace took over, it was abandoned, or "
            "the view was deleted. What is served stays"
        )
    until_ms = now_ms + int(1000 * max(keep_seconds, KEEP_SECONDS_MIN))
    return ViewGenerations(
        last=entry.last,
        serving=generation,
        since_ms=now_ms,
        previous=entry.serving,
        previous_until_ms=until_ms,
        going=expired(entry, now_ms=now_ms).going,
    )


def rolled_back(entry: ViewGenerations, to: int, *, view: str, now_ms: int) -> ViewGenerations:
    """With serving and previous swapped, `to` being the latter. Asked again, nothing changes.

    Raises:
        GenerationConflict: it is not there any more.
    """
    if entry.serving == to:
        return entry
    if entry.previous != to or entry.previous_until_ms is None:
        raise GenerationConflict(f"generation {to} of view {view!r} is not kept any more; what is served stays")
    until_ms = max(entry.previous_until_ms, now_ms + 1000 * KEEP_SECONDS_MIN)
    return msgspec.structs.replace(
        entry, serving=to, since_ms=now_ms, previous=entry.serving, previous_until_ms=until_ms
    )


def expired(entry: ViewGenerations, *, now_ms: int) -> ViewGenerations:
    """Without the previous generation, which goes as soon as nobody can be reading it."""
    if entry.previous is None:
        return entry
    due_ms = max(now_ms, entry.since_ms + 1000 * KEEP_SECONDS_MIN)
    return msgspec.structs.replace(
        entry, previous=None, previous_until_ms=None, going=(*entry.going, Going(entry.previous, due_ms))
    )


def expired_if_due(entry: ViewGenerations, *, now_ms: int) -> ViewGenerations:
    """The same, but only once the previous generation's time is up."""
    return expired(entry, now_ms=now_ms) if (entry.previous_until_ms or now_ms) <= now_ms else entry


def gone(entry: ViewGenerations, generation: int) -> ViewGenerations:
    """Without a generation whose rows are deleted."""
    left = tuple(one for one in entry.going if one.generation != generation)
    return msgspec.structs.replace(entry, going=left)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A generation whose rows were deleted; `rows` counts those of this call."""

    view: str
    generation: int
    rows: int


class GenerationsOf:
    """Changes the generations of one project's views, in steps each of which is whole.

    Every method raises StoreUnavailable where Redis fails, and StoredDataError where the document is damaged. A call whose
    answer was lost can be made again. Views go by their stored names.
    """

    def __init__(self, client: "Redis | RedisCluster", *, project: str, clock: Clock = system_clock) -> None:
        self._client = client
        self._project = project
        self._key = generations_key(project)
        self._clock = clock

    def read(self) -> Generations:
        """The document as it is now."""
        with failing_as(_FAILED):
            return Generations(self._project, self._client.get(self._key))

    def begin_build(self, view: str, *, builder: str, take_over: bool = False) -> int:
        """Begin a generation; from now on every writer writes to it too. Fill it, then `flip` to it, or `abandon` it.

        Read the rows to fill it with after this returns: a row that went offline and then online before it is then among them,
        and any later one is written to the new generation by its own writer.

        Args:
            builder: the run's id, which no other run has.
            take_over: put an end to a build that is under way; its rows are deleted by the next `drop_due`.
        Returns:
            Its number; its rows' keys begin with `view_prefix(project, view, number)`.
        Raises:
            GenerationConflict: another build is under way.
        """
        begin = partial(begun, view=view, builder=builder, take_over=take_over, now_ms=self._now_ms())
        return self._change(view, begin).last

    def flip(self, view: str, generation: int, *, keep_seconds: float = DEFAULT_KEEP_SECONDS) -> None:
        """Serve what was built: every lookup that begins after this returns sees it. Call `drop_due` afterwards.

        Args:
            keep_seconds: for how long the old rows are kept up to date for a rollback, 10 at the least.
        Raises:
            GenerationConflict: it is not being built (any more).
        """
        flip = partial(flipped, generation=generation, view=view, now_ms=self._now_ms(), keep_seconds=keep_seconds)
        self._change(view, flip)

    def abandon_builder(self, view: str, builder: str) -> None:
        """Give up the build of a run, if it has one, also where the answer to its beginning was lost."""
        entry = self.read().of(view)
        if entry.building is not None and entry.builder == builder:
            self.abandon(view, entry.building)

    def abandon(self, view: str, generation: int) -> None:
        """Give up a build, one's own or a dead one's; its rows are deleted by the next `drop_due`."""
        self._change(view, partial(abandoned, generation=generation, now_ms=self._now_ms()))

    def roll_back(self, view: str) -> int:
        """Serve the previous generation again; the number that is served now. What was served becomes the previous one.

        Raises:
            GenerationConflict: there is none.
        """
        to = self.read().of(view).previous
        if to is None:
            raise GenerationConflict(
                f"view {view!r} has no earlier generation to go back to: it is kept for --keep-old-seconds after a replace, and "
                "there was none, or its time is over"
            )
        self._change(view, partial(rolled_back, to=to, view=view, now_ms=self._now_ms()))
        return to

    def expire_previous(self, view: str) -> int | None:
        """Do not keep the previous generation any longer: when it can be deleted (ms since 1970), None if there is none.

        `drop_due` deletes it from then on, which is 10 s after the flip at the soonest.
        """
        previous = self.read().of(view).previous
        if previous is None:
            return None
        now_ms = self._now_ms()

        def expire(entry: ViewGenerations) -> ViewGenerations:
            return expired(entry, now_ms=now_ms) if entry.previous == previous else entry

        left = self._change(view, expire)
        return max((one.due_ms for one in left.going if one.generation == previous), default=now_ms)

    def drop_due(self, *, should_stop: Callable[[], bool] = lambda: False) -> list[Dropped]:
        """Delete the rows of every generation whose time is up; whatever a killed call left over is finished.

        Any number of processes may call this at once. Reads one key where nothing is to be done.

        Args:
            should_stop: asked after each batch of rows; the next call goes on.
        """
        now_ms = self._now_ms()
        for view, entry in self.read().views.items():
            if expired_if_due(entry, now_ms=now_ms) != entry:
                self._change(view, partial(expired_if_due, now_ms=now_ms))
        dropped: list[Dropped] = []
        for view, entry in self.read().views.items():
            for going in entry.going:
                if going.due_ms <= now_ms:
                    with failing_as(_FAILED):
                        rows = delete_prefix(
                            self._client, view_prefix(self._project, view, going.generation), should_stop=should_stop
                        )
                    if rows is None:
                        return dropped
                    self._change(view, partial(gone, generation=going.generation))
                    dropped.append(Dropped(view, going.generation, rows))
        return dropped

    def clear(self, view: str, generations: Iterable[int]) -> None:
        """Delete rows that were written to generations which have been deleted meanwhile, and leave those that wait for it."""
        entry = self.read().of(view)
        with failing_as(_FAILED):
            for generation in set(generations) - {one.generation for one in entry.going} - set(entry.targets):
                delete_prefix(self._client, view_prefix(self._project, view, generation))

    def delete_view(self, view: str) -> None:
        """Delete a view's rows of every generation; what is left of its entry is the last number. A call that broke off is finished by the next."""
        # The entry first: a build that is under way then cannot flip, and writers go back to generation 0.
        self._change(view, lambda entry: ViewGenerations(last=entry.last) if entry.last else None)
        with failing_as(_FAILED):
            for prefix in (view_prefix(self._project, view), later_generations_prefix(self._project, view)):
                delete_prefix(self._client, prefix)

    def _now_ms(self) -> int:
        return self._clock() // 1000

    def _change(self, view: str, change: Callable[[ViewGenerations], ViewGenerations | None]) -> ViewGenerations:
        """Change a view's entry, whatever others do to the document meanwhile; the entry as it is then."""
        for _ in range(_CHANGES_MAX):
            document = self.read()
            before = document.views.get(view)
            after = change(before or _UNTOUCHED)
            if after == (before if after is None else before or _UNTOUCHED):
                return after or _UNTOUCHED
            with failing_as(_FAILED):
                if self._client.eval(_SWAP, 1, self._key, document.stored or b"", document.with_view(view, after)):
                    return after or _UNTOUCHED
        raise StoreUnavailable(f"the generations of project {self._project!r} keep changing; try again")


@contextmanager
def generations_in(target: RedisTarget, *, project: str, clock: Clock = system_clock) -> Iterator[GenerationsOf]:
    """The generations of a project, over a connection of their own.

    Raises:
        StoreUnavailable: no node of a Cluster answers; other deployments say so at the first step.
    """
    with failing_as(_FAILED):
        client = target.client()
    with closing(client):
        yield GenerationsOf(client, project=project, clock=clock)


def delete_prefix(
    client: "Redis | RedisCluster", prefix: bytes, *, should_stop: Callable[[], bool] = lambda: False
) -> int | None:
    """Delete every key that begins with a prefix, on all nodes of a Cluster; how many, or None if told to stop before the end.

    The keys are gone through until none is found: one that a Cluster moved meanwhile, or that a late writer wrote, can be missed
    by a single pass.

    Args:
        prefix: without a character that SCAN reads as a pattern.
    Raises:
        RedisError: as redis-py's.
    """
    deleted = 0
    while True:
        found = False
        for batch in _scanned(client, prefix):
            found = True
            deleted += client.unlink(*batch)
            if should_stop():
                return None
        if not found:
            return deleted


def _scanned(client: "Redis | RedisCluster", prefix: bytes) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in client.scan_iter(match=prefix + b"*", count=_SCAN_COUNT):
        batch.append(key)
        if len(batch) == _SCAN_COUNT:
            yield batch
            batch = []
    if batch:
        yield batch
