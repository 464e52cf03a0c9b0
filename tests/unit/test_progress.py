"""What a run says where there is no terminal: lines that are neither many nor wrong, and a summary."""

import io
from dataclasses import replace
from datetime import timedelta

from hindcast.materialize.progress import Lines, summary
from ledgers import ended, new_run


class Watch:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.seconds = 100.0

    def now(self):
        """Seconds since some moment."""
        return self.seconds


def test_a_line_every_ten_seconds():
    """After ten seconds a line says how many rows of how many, how many a second, and how long the rest takes at that rate."""
    out, watch = io.StringIO(), Watch()
    with Lines("ride", 1_000_000, out=out, clock=watch.now) as lines:
        for seconds, rows in ((4, 1_000), (9.9, 1_000), (10, 248_000), (15, 250_000), (20, 250_000)):
            watch.seconds = 100 + seconds
            lines.advance(rows)

    assert [
        "ride: 250,000 of 1,000,000 rows, 25,000 a second, 30 s left",
        "ride: 750,000 of 1,000,000 rows, 37,500 a second, 7 s left",
    ] == out.getvalue().splitlines()


def test_a_short_run_says_nothing_but_its_summary():
    """A run of less than ten seconds, and one of no rows, print no line."""
    out, watch = io.StringIO(), Watch()
    with Lines("ride", 5, out=out, clock=watch.now) as lines:
        watch.seconds += 9
        lines.advance(5)
    with Lines("ride", 0, out=out, clock=watch.now):
        watch.seconds += 60

    assert "" == out.getvalue()


def test_the_summary_names_what_was_left_out():
    """The summary has the rows written, and only those other counts that are not zero, with the place of the quarantine."""
    run = ended(new_run("ride"), rows_read=1_234_567, rows_written=1_000, rows_older=250, quarantine="")
    run = replace(run, ended_at=run.began_at + timedelta(seconds=2.5))

    assert (
        "ride: 1,000 rows written, 250 older than what is stored; read 1,234,567 in 2.5 s, 500 keys a second; "
        f"run {run.run_id}"
    ) == summary(run)
    assert (
        "ride: 1,000 rows written, 250 older than what is stored, 3 skipped for a null join key, "
        "2 dated too far ahead, kept in /q/x.parquet; read 1,234,567 in 2.5 s, 500 keys a second; "
        f"run {run.run_id}"
    ) == summary(replace(run, rows_null_key=3, rows_quarantined=2, quarantine="/q/x.parquet"))


def test_the_summary_of_a_run_that_found_its_rows():
    """Rows that were stored already are named as unchanged, and count in the rate."""
    run = ended(new_run("ride"), rows_read=10_000, rows_unchanged=1_000)

    assert (
        f"ride: 0 rows written, 1,000 unchanged; read 10,000 in 2.5 s, 400 keys a second; run {run.run_id}"
        == summary(run)
    )


def test_the_summary_of_no_time_at_all():
    """A run that took no measurable time has no rate, and divides by nothing."""
    run = new_run("ride")
    assert f"ride: 0 rows written; read 0 in 0.0 s; run {run.run_id}" == summary(replace(run, ended_at=run.began_at))
