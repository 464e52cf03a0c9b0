"""What differs between two definitions, in an order in which it can be made step by step."""

from dataclasses import replace

import pytest

from hindcast.datasets.definitions import PICKLED, Feature, Key, definition_changes, duration
from manifests import make_manifest

BEFORE = make_manifest().definitions
VIEW, FUNCTION = BEFORE.views[0], BEFORE.on_demand[0]


def with_view(**changed):
    return replace(BEFORE, views=(replace(VIEW, **changed),))


def with_source(**changed):
    return with_view(source=replace(VIEW.source, **changed))


def with_function(**changed):
    return replace(BEFORE, on_demand=(replace(FUNCTION, **changed),))


CHANGES = {
    "ttl": (with_view(ttl_micros=0), ("definition", "trips", "ttl", "1 hour", "none")),
    "key": (
        with_view(keys=(Key(name="driver_id", column="rider", value_type="Int64"),)),
        ("definition", "trips", "join keys", "driver_id Int64 from driver", "driver_id Int64 from rider"),
    ),
    "type": (
        with_view(features=(Feature(name="trips", column="trips", value_type="Int32"),)),
        ("definition", "trips", "feature types", "trips Int64", "trips Int32"),
    ),
    "path": (with_source(path="x"), ("definition", "trips", "source path", "data/trips.parquet", "x")),
    "created": (
        with_source(created_timestamp_column=""),
        ("definition", "trips", "source created timestamp column", "created", "none"),
    ),
    "mapping": (
        with_source(field_mapping={"n": "trips"}),
        ("definition", "trips", "source field mapping", "drv as driver_id, n as trips", "n as trips"),
    ),
    "mode": (with_function(mode="python"), ("definition", "checks", "mode", "pandas", "python")),
    "inputs": (
        with_function(inputs=("amount",)),
        ("definition", "checks", "inputs", "amount, trips:trips", "amount"),
    ),
    "service": (
        replace(BEFORE, refs=("trips:trips",), on_demand=()),
        ("definition", "rides", "features", "checks:per_trip", "trips:trips"),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_attribute_is_named_with_both_values(what):
    """Each attribute of a definition that is another one is named, with what it was and is."""
    after, expected = CHANGES[what]
    (change,) = definition_changes(BEFORE, after)
    assert (*expected, after) == (
        change.kind,
        change.name,
        change.attribute,
        change.before,
        change.after,
        change.result,
    )


def test_edited_code_is_a_transform():
    """A function whose text is another one is a changed transform, with the digests of both."""
    (change,) = definition_changes(BEFORE, with_function(code="def checks(inputs): pass\n", spec="eA=="))
    assert ("transform", "checks", "code", f"sha256:{FUNCTION.code_sha256}") == (
        change.kind,
        change.name,
        change.attribute,
        change.before,
    )


def test_a_function_that_reads_the_same_is_pickled_otherwise():
    """A function of which only the pickled bytes differ has the same digest, and that is all that is said."""
    after = with_function(spec="eA==")
    assert [PICKLED] == [change.attribute for change in definition_changes(BEFORE, after)]
    assert BEFORE.digest() == after.digest()


def test_several_changes_lead_from_one_to_the_other():
    """Changes come one at a time, each on top of those before it, and the last one makes the whole of the other side."""
    after = replace(
        with_view(ttl_micros=1, source=replace(VIEW.source, name="n", path="p")),
        on_demand=(replace(FUNCTION, code="x"),),
    )
    changes = list(definition_changes(BEFORE, after))
    assert ["ttl", "source name", "source path", "code"] == [change.attribute for change in changes]
    assert after == changes[-1].result
    assert 1 == changes[0].result.views[0].ttl_micros
    assert VIEW.source == changes[0].result.views[0].source


def test_equal_definitions_have_no_change():
    """Nothing is named where nothing differs, and the digests are equal."""
    assert [] == list(definition_changes(BEFORE, make_manifest().definitions))
    assert BEFORE.digests() == make_manifest().definitions.digests()


@pytest.mark.parametrize(
    ("micros", "expected"),
    [
        (0, "none"),
        (86_400_000_000, "1 day"),
        (172_800_000_000, "2 days"),
        (5_400_000_000, "90 minutes"),
        (1_500_000, "1,500,000 microseconds"),
    ],
)
def test_a_time_to_live_is_said_in_words(micros, expected):
    """A time to live is said in the largest unit that it is whole in."""
    assert expected == duration(micros)
