"""The winners of drawn histories, cell by cell against a plain loop over the rows, by NumPy and by DuckDB, with one thread and several."""

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hindcast.offline.sources.source import find_source
from hindcast.offline.winners import few, newest
from hindcast.offline.winners.winners import WinnersQuery, read_winners

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the source's own naive form
NOW = 1_800_000_000_000_000
MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}

# Ties, neighbours by a microsecond, before 1970, and far apart enough that the order is no number of 126 bits.
events = st.one_of(st.none(), st.integers(-3, 3), st.integers(NOW - 3, NOW + 3), st.integers(-2_000_001, -1_999_999))
created = st.one_of(st.none(), st.integers(-2, 2), st.integers(NOW - 2, NOW + 2))
far_created = st.one_of(created, st.sampled_from([-62_135_596_800_000_000, 253_402_300_799_000_000]))
NAMES = st.text(min_size=1, max_size=4) | st.sampled_from(
    [
        'a"b',
        "a b",
        "x_y",
        "e",
        "o",
        "p",
        "k0",
        "event_ts",
        "candidates",
        "file_row_number",
        "filename",
        "a.b",
        "'; --",
        "é",
    ]
)
KEYS = {
    pa.int64(): st.none() | st.integers(0, 2) | st.sampled_from([-(2**63), 2**63 - 1]),
    pa.int32(): st.none() | st.integers(0, 2),
    pa.string(): st.none() | st.sampled_from(["", "1", "12", "a\0", "é", "e\u0301"]),
    pa.large_string(): st.none() | st.sampled_from(["", "1"]),
    pa.binary(): st.none() | st.sampled_from([b"", b"\xff", b"\0"]),
    pa.dictionary(pa.int8(), pa.string()): st.none() | st.sampled_from(["", "1"]),
    pa.timestamp("us"): st.none() | st.integers(0, 2).map(lambda micros: EPOCH + timedelta(microseconds=micros)),
    pa.bool_(): st.none() | st.booleans(),
}
TIME_TYPES = [
    pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"),
    pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns", "America/St_Johns"), pa.date32(),
]  # fmt: skip


def stored(micros, kind, rest_nanos=0):
    """What a time is in a column of a type, as its number, and what is left of it there in microseconds."""
    if micros is None:
        return None, None
    if pa.types.is_date32(kind):
        days = micros // 86_400_000_000
        return days, days * 86_400_000_000
    if kind.unit == "ns":
        # Beyond 292 years nanoseconds do not reach.
        micros = max(min(micros, 9_000_000_000_000_000), -9_000_000_000_000_000)
        return micros * 1_000 + rest_nanos, micros
    number = micros // MICROS[kind.unit]
    return number, number * MICROS[kind.unit]


def times(numbers, kind):
    """A column of a time type."""
    return pa.array(numbers, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)


@st.composite
def histories(draw):
    """Files of rows, what is asked of them, and the rows again as Python sees them, in the order of their positions."""
    key_types = draw(st.lists(st.sampled_from(list(KEYS)), max_size=2))
    names = draw(st.lists(NAMES, min_size=len(key_types) + 3, max_size=len(key_types) + 3, unique=True))
    event_name, created_name, feature_name, *key_names = names
    has_created = draw(st.booleans())
    created_times = far_created if draw(st.booleans()) else created
    files, rows = [], []
    for _ in range(draw(st.integers(1, 3))):
        event_type, created_type = draw(st.sampled_from(TIME_TYPES)), draw(st.sampled_from(TIME_TYPES))
        count = draw(st.integers(0, 8))
        keys = [[draw(KEYS[kind]) for _ in range(count)] for kind in key_types]
        event = [stored(draw(events), event_type, draw(st.sampled_from([0, 999]))) for _ in range(count)]
        known = [stored(draw(created_times), created_type) for _ in range(count)]
        features = [draw(st.none() | st.integers(0, 9)) for _ in range(count)]
        columns = {
            event_name: times([number for number, _ in event], event_type),
            **{name: pa.array(column, kind) for name, column, kind in zip(key_names, keys, key_types, strict=True)},
            feature_name: pa.array(features, pa.int16()),
        }
        if has_created:
            columns[created_name] = times([number for number, _ in known], created_type)
        files.append((pa.table(columns), draw(st.integers(1, 3)), draw(st.booleans())))
        rows += [
            (tuple(column[at] for column in keys), event[at][1], known[at][1] if has_created else None, features[at])
            for at in range(count)
        ]
    start, end = draw(st.sampled_from([(-5, 5), (NOW - 2, NOW + 1), (-(2**60), 2**60), (0, NOW), (1, 1)]))
    return {
        "files": files,
        "rows": rows,
        "names": (event_name, created_name if has_created else None, feature_name, key_names),
        "interval": (start, end, draw(st.sampled_from([NOW, NOW + 1, 2**61, 2]))),
    }


def expected_winners(history):
    """The rule, read aloud."""
    start, end, bound = history["interval"]
    winners = {}
    for position, (key, event, known, feature) in enumerate(history["rows"]):
        if event is None or not start <= event <= end or event > bound or None in key:
            continue
        order = (event, known is not None, known or 0, position)
        if key not in winners or order > winners[key][0]:
            winners[key] = (order, (*key, feature, event, known))
    return sorted((row for _, row in winners.values()), key=repr)


def expected_counts(history):
    """Rows in the interval, those with a null key, rows ahead."""
    start, end, bound = history["interval"]
    dated = [(key, event) for key, event, _, _ in history["rows"] if event is not None]
    inside = [key for key, event in dated if start <= event <= min(end, bound)]
    return (
        len(inside),
        sum(None in key for key in inside),
        sum(event > bound for _, event in dated),
    )


@given(history=histories(), batch_rows=st.sampled_from([1, 3, 1000]), key_bytes=st.sampled_from([320, 2**25]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_winners_are_those_of_the_rule(history, batch_rows, key_bytes):
    """Whatever the history, its files, types, names and threads, each key's winner comes out whole, and what is said to be counted is."""
    event_name, created_name, feature_name, key_names = history["names"]
    start, end, bound = history["interval"]
    with TemporaryDirectory() as directory:
        root = Path(directory)
        for at, (table, group_rows, has_statistics) in enumerate(history["files"]):
            (root / "source" / f"day={at}").mkdir(parents=True)
            pq.write_table(
                table,
                root / "source" / f"day={at}" / "part.parquet",
                row_group_size=group_rows,
                write_statistics=has_statistics,
            )
        for threads, few_row_bytes in ((1, 80), (1, 2**23), (1, 2**40), (4, 2**40)):
            query = WinnersQuery(
                source=find_source("source", "parquet", repo_root=root),
                keys={f"key {at}": name for at, name in enumerate(key_names)},
                fields={"feature": feature_name, "day": "day"}
                if "day" not in history["names"]
                else {"feature": feature_name},
                event_column=event_name,
                created_column=created_name,
                start_micros=start,
                end_micros=end,
                future_after_micros=bound,
                quarantine=root / "ahead.parquet",
                memory_limit_bytes=64 * 2**20,
                threads=threads,
                spill_dir=root / "spill",
            )
            # Rows said to be so large are held by eights, or DuckDB's, and keys said to be so large are found in several passes.
            with (
                patch.object(few, "_ROW_BYTES", few_row_bytes),
                patch.object(newest, "_KEY_BYTES", key_bytes),
                read_winners(query, batch_rows=batch_rows) as winners,
            ):
                batches = list(winners.batches())
                count, report = winners.count, winners.report
            found = [as_row(row, len(key_names)) for batch in batches for row in batch_rows_of(batch)]

            assert expected_winners(history) == sorted(found, key=repr)
            assert count == len(found)
            assert expected_counts(history) == (report.rows_read, report.null_keys, report.quarantined)
            assert report.quarantined == (
                pq.read_metadata(root / "ahead.parquet").num_rows if (root / "ahead.parquet").exists() else 0
            )
            due = [min(-(-batch_rows // 8) * 2**at, batch_rows) for at in range(len(batches))]
            assert due[:-1] == [batch.num_rows for batch in batches[:-1]]
            assert [] == list((root / "spill").glob("*"))
            assert all(batch.schema.types[-2:] == [pa.timestamp("us", tz="UTC")] * 2 for batch in batches)


def batch_rows_of(batch):
    """The rows of a batch as tuples, by position: names may meet."""
    columns = [column.to_pylist() for column in batch.columns[:-2]]
    instants = [column.cast(pa.int64()).to_pylist() for column in batch.columns[-2:]]
    return zip(*columns, *instants, strict=True)


def as_row(row, keys):
    """Without the partition column."""
    return (*row[: keys + 1], *row[-2:])
