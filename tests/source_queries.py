"""Questions to a source of keys, times and one feature, for tests of every place that a source can be at."""

import pyarrow as pa

from hindcast.offline.winners.winners import WinnersQuery, read_winners

FUTURE = 10_000
UTC_MICROS = pa.timestamp("us", tz="UTC")


def rows(*triples, **more):
    """A table of (key, event micros, feature), with further columns."""
    keys, events, features = zip(*triples, strict=True) if triples else ((), (), ())
    return pa.table(
        {
            "k": pa.array(keys, pa.int64()),
            "at": pa.array(events, UTC_MICROS),
            "f": pa.array(features, pa.int64()),
            **more,
        }
    )


def asked(source, root, **changes):
    """A query of the source for key `k` and feature `f`."""
    options = {
        "source": source, "keys": {"key": "k"}, "fields": {"f": "f"}, "event_column": "at", "created_column": None,
        "start_micros": 0, "end_micros": FUTURE, "future_after_micros": FUTURE, "quarantine": root / "q" / "ahead.parquet",
        "memory_limit_bytes": 64 * 2**20, "threads": 2, "spill_dir": root / "spill",
    }  # fmt: skip
    return WinnersQuery(**options | changes)


def won(query):
    """The winners as key -> feature (or the tuple of features)."""
    with read_winners(query, batch_rows=100) as winners:
        found = [
            tuple(row.values())
            for batch in winners.batches()
            for row in batch.drop_columns(["event_ts", "created_ts"]).to_pylist()
        ]
        assert winners.count == len(found)
    assert [] == list(query.spill_dir.glob("*"))
    return dict(found) if all(len(row) == 2 for row in found) else {row[0]: row[1:] for row in found}
