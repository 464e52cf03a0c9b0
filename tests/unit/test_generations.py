"""The document of generations: what each step makes of a view's entry, and what it refuses."""

from functools import partial

import pytest

from hindcast.errors import GenerationConflict, StoredDataError
from hindcast.online.generations import (
    Generations,
    Going,
    KnownGenerations,
    ViewGenerations,
    abandoned,
    begun,
    expired,
    expired_if_due,
    flipped,
    gone,
    rolled_back,
)

NOW = 1_000_000
NEVER = ViewGenerations()
begin = partial(begun, view="v", take_over=False, now_ms=NOW)
flip = partial(flipped, view="v", now_ms=NOW, keep_seconds=60)
SERVING_ONE = flip(begin(NEVER, builder="a"), 1)


def test_a_view_without_an_entry_serves_generation_0():
    """Without a document, or without an entry in it, generation 0 is served and is the one target."""
    for stored in (None, b"{}", b'{"other":{"last":3,"serving":3}}'):
        document = Generations("p", stored)
        assert (0,) == document.of("v").targets
        assert b"hc:p:v:{" == document.prefix("v")


def test_a_replace_from_its_beginning_to_its_end():
    """A build is a target beside what is served; a flip serves it and keeps the old rows as a target; then they go."""
    building = begin(NEVER, builder="a")
    assert (0, 1) == building.targets
    assert (1, 0) == SERVING_ONE.targets
    assert NOW + 60_000 == SERVING_ONE.previous_until_ms
    assert SERVING_ONE == expired_if_due(SERVING_ONE, now_ms=NOW + 59_999)
    without = expired_if_due(SERVING_ONE, now_ms=NOW + 60_000)
    assert ((1,), (Going(0, NOW + 60_000),)) == (without.targets, without.going)
    assert ViewGenerations(last=1, serving=1, since_ms=NOW) == gone(without, 0)


def test_no_number_is_given_twice():
    """After builds that were given up, flipped and rolled back, the next number is one that never was."""
    entry = abandoned(begin(NEVER, builder="a"), 1, now_ms=NOW)
    entry = flip(begin(entry, builder="b"), 2)
    entry = gone(gone(expired(rolled_back(entry, 0, view="v", now_ms=NOW), now_ms=NOW), 2), 1)
    assert ViewGenerations(last=2, serving=0, since_ms=NOW) == entry
    assert 3 == begin(entry, builder="c").building


def test_a_second_build_is_refused_unless_it_takes_over():
    """While one build is under way another is refused, by the name of the run; taking over lets go of what the first wrote."""
    building = begin(NEVER, builder="a")
    with pytest.raises(GenerationConflict, match=r"replaced by run a \(generation 1\).*--abandon v"):
        begin(building, builder="b")
    taken = begun(building, view="v", builder="b", take_over=True, now_ms=NOW)
    assert (2, "b", (Going(1, NOW),)) == (taken.building, taken.builder, taken.going)
    with pytest.raises(GenerationConflict, match="generation 1 of view 'v' is not being built any more"):
        flip(taken, 1)


def test_what_a_build_wrote_after_it_lost_its_turn_goes_too():
    """A build that another one took over, or whose view was deleted, can still give up what it wrote; no other rows go."""
    taken = begun(begin(NEVER, builder="a"), view="v", builder="b", take_over=True, now_ms=NOW)
    assert taken == abandoned(taken, 1, now_ms=NOW)
    assert (Going(1, NOW),) == abandoned(gone(taken, 1), 1, now_ms=NOW).going
    assert ViewGenerations(last=4, going=(Going(4, NOW),)) == abandoned(NEVER, 4, now_ms=NOW)
    for served in (0, 1):
        assert SERVING_ONE == abandoned(SERVING_ONE, served, now_ms=NOW)


def test_each_step_done_twice_is_done_once():
    """A step whose answer was lost, and that is asked again, changes nothing more."""
    building = begin(NEVER, builder="a")
    assert building == begin(building, builder="a")
    assert SERVING_ONE == flipped(SERVING_ONE, 1, view="v", now_ms=NOW + 5, keep_seconds=999)
    back = rolled_back(SERVING_ONE, 0, view="v", now_ms=NOW)
    assert back == rolled_back(back, 0, view="v", now_ms=NOW + 5)
    assert expired(back, now_ms=NOW) == expired(expired(back, now_ms=NOW), now_ms=NOW + 5)


def test_a_rollback_swaps_and_can_be_taken_back():
    """Serving and previous change places, both stay targets, and the time to change back is 10 s at the least."""
    late = NOW + 59_000
    back = rolled_back(SERVING_ONE, 0, view="v", now_ms=late)
    assert ((0, 1), late + 10_000) == (back.targets, back.previous_until_ms)
    assert (1, 0) == rolled_back(back, 1, view="v", now_ms=late).targets
    with pytest.raises(GenerationConflict, match="generation 0 of view 'v' is not kept any more"):
        rolled_back(expired(SERVING_ONE, now_ms=NOW), 0, view="v", now_ms=NOW)


def test_rows_that_lookups_may_be_reading_are_kept():
    """No rows go within 10 s of the moment at which they were served last, however short they are to be kept."""
    hasty = flipped(begin(NEVER, builder="a"), 1, view="v", now_ms=NOW, keep_seconds=0)
    assert NOW + 10_000 == hasty.previous_until_ms
    assert (Going(0, NOW + 10_000),) == expired(hasty, now_ms=NOW + 1).going
    next_one = flipped(begin(hasty, builder="b"), 2, view="v", now_ms=NOW + 2, keep_seconds=0)
    assert (1, (Going(0, NOW + 10_000),)) == (next_one.previous, next_one.going)


def test_the_document_holds_no_more_than_it_must():
    """The bytes of an entry name what differs from a view that was never replaced, and a document without entries is none."""
    document = Generations("p", None)
    stored = document.with_view("a/b", ViewGenerations(last=1, serving=1))
    assert b'{"a/b":{"last":1,"serving":1}}' == stored
    assert b"hc:p:a%2Fb@1:{" == Generations("p", stored).prefix("a/b")
    assert b"" == Generations("p", stored).with_view("a/b", None)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"v":{"serving":"one"}}', b'{"v":7}', b"\xff", b'{"\xff":{}}'])
def test_a_damaged_document_is_no_document_without_entries(damage):
    """Bytes that are no document are an error, and what was known before them stays known."""
    known = KnownGenerations("p")
    known.follow(b'{"v":{"last":1,"serving":1}}')
    with pytest.raises(StoredDataError, match="hc:p::generations"):
        known.follow(damage)
    assert b"hc:p:v@1:{" == known.now.prefix("v")
