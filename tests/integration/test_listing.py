"""Lists of lookups and request ids, asked of segments, of sealed tables, of both, and while one becomes the other: the answers are a ledger's."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from hindcast.clock import from_micros
from hindcast.errors import StoredDataError, UnknownName
from hindcast.lookups import delta_log
from hindcast.lookups.directory import WriterId
from hindcast.lookups.erase import erase
from hindcast.lookups.listing import DamagedTable, newest_lookups
from hindcast.lookups.places import RECORDS, TablePlaces
from hindcast.lookups.reading import Matching, Position, Summary
from hindcast.lookups.receipts import by_lookup_id, by_request_id
from hindcast.lookups.record import LookupRecord, Rpc
from hindcast.lookups.request_ids import digest_of, index_path, keep_indexes, rows_with
from hindcast.lookups.sealed import find_sealed
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.table_files import table_files
from hindcast.lookups.tables import sealing_lock
from lookup_segments import set_written
from sealing import DAY, NOON, keep, make_catalog, make_failure, make_record, write_segment

WRITERS = (WriterId(0, NOON), WriterId(1, NOON + 1), WriterId(7, NOON + 2))
SECOND = 1_000_000
SEGMENTS, RECORDS_EACH = 4, 12
ANSWER = {"trips": [7], "rating": [4.5], "city": ["Köln"]}


@dataclass(frozen=True)
class Line:
    """What a caller knows of its lookup, and where its record was written."""

    record: LookupRecord
    writer: WriterId
    sequence: int
    rows: int | None

    @property
    def position(self) -> Position:
        """What lists are in the order of."""
        return Position(self.record.served_at_micros, self.record.lookup_id)


def draw_record(draw: random.Random, number: int) -> tuple[LookupRecord, int | None]:
    """A lookup of some kind, and how many rows it asked for if anything stored was read."""
    # Of few times, so that many are equal, and not in the order of the log.
    served = NOON + draw.choice((0, 0, DAY, 2 * DAY)) + draw.randrange(6) * 2 * SECOND - draw.choice((0, 1, 999_999))
    more = {
        "request_id": draw.choice(("", f"r-{number}", "twice", "a 'b' \"c\" é\n")),
        "tags": draw.choice(({}, {"model": "m", "n": str(number % 3)}, {"model": "m\"'é", "set": "1"}, {"set": "m"})),
        "mode": draw.choice(("batched", "durable", "best_effort")),
    }
    kind = draw.randrange(4)
    if kind == 0:
        failed = {"code": draw.choice((3, 5, 14, 99)), "reason": "UNKNOWN_NAME", "response": b"", "rows": []}
        return make_record([1], {}, served_at_micros=served, service="fräud", **failed, **more), None
    if kind == 1:
        refs = [f"driver:{name}" for name in ANSWER]
        return make_record([1], ANSWER, served_at_micros=served, service="", refs=refs, **more), 1
    if kind == 2:
        nothing = {"rows": [], "rpc": Rpc.FEAST}
        return make_record([1, 2], {"trips": [1, 2]}, served_at_micros=served, service="ride", **nothing, **more), None
    drivers = list(range(1, draw.randrange(2, 4)))
    columns = {name: values * len(drivers) for name, values in ANSWER.items()}
    return make_record(drivers, columns, served_at_micros=served, rpc=draw.choice(list(Rpc)), **more), len(drivers)


def write_ledger(log: Path) -> list[Line]:
    """A log of closed segments of several writers, and what it must tell."""
    keep(log, make_catalog())
    draw, lines = random.Random(20261101), []
    for writer in WRITERS:
        for segment in range(SEGMENTS):
            first = 1 + segment * RECORDS_EACH
            drawn = [draw_record(draw, len(lines) + at) for at in range(RECORDS_EACH)]
            path = write_segment(log, [record for record, _ in drawn], writer=writer, first_sequence=first)
            set_written(path, max(record.served_at_micros for record, _ in drawn))
            lines += [Line(record, writer, first + at, rows) for at, (record, rows) in enumerate(drawn)]
    return lines


def expected(ledger: Sequence[Line], wanted: Matching) -> list[Line]:
    """All lines that match, newest first, by nothing but a look at each."""
    since, until = wanted.since_micros or 0, wanted.until_micros or 1 << 62
    found = [
        line
        for line in ledger
        if since <= line.record.served_at_micros < until
        and wanted.request_id in (None, line.record.request_id)
        and wanted.service in (None, line.record.service)
        and (wanted.codes is None or line.record.code in wanted.codes)
        and all(line.record.tags.get(name) == value for name, value in wanted.tags.items())
    ]
    return sorted(found, key=lambda line: line.position, reverse=True)


def told(line: Line) -> Summary:
    """What a list says of it."""
    record = line.record
    return Summary(
        lookup_id=record.lookup_id,
        served_at_micros=record.served_at_micros,
        rpc=record.rpc,
        request_id=record.request_id,
        tags=record.tags,
        service=record.service,
        refs=tuple(record.refs),
        mode=record.mode,
        code=record.code,
        reason=record.reason,
        catalog_version=record.catalog_version,
        entity_rows=line.rows,
        writer=line.writer,
        sequence=line.sequence,
    )


QUESTIONS = (
    Matching(),
    Matching(since_micros=NOON + DAY),
    Matching(until_micros=NOON + DAY),
    Matching(since_micros=NOON + 2 * SECOND, until_micros=NOON + 2 * DAY + 4 * SECOND),
    Matching(request_id="twice"),
    Matching(request_id="a 'b' \"c\" é\n", until_micros=NOON + 2 * DAY),
    Matching(request_id="nobody's"),
    Matching(service="fräud"),
    Matching(service=""),
    Matching(service="nope"),
    Matching(tags={"model": "m"}),
    Matching(tags={"model": "m\"'é", "set": "1"}),
    Matching(codes=frozenset({0})),
    Matching(codes=frozenset({5, 99}), since_micros=NOON),
    Matching(service="ride", codes=frozenset({0}), tags={"set": "m"}, request_id="twice"),
)


def pages(log: Path, wanted: Matching, *, size: int) -> Iterator[list[Summary]]:
    """Page after page, each asked for when it is wanted."""
    before = None
    while True:
        listed = newest_lookups(log, wanted, limit=size, before=before)
        assert [] == list(listed.damage)
        yield list(listed.summaries)
        if len(listed.summaries) < size:
            return
        before = listed.summaries[-1].position


def all_of(log: Path, wanted: Matching, *, size: int = 500) -> list[Summary]:
    """All pages in one."""
    return [summary for page in pages(log, wanted, size=size) for summary in page]


def seal_half(log: Path) -> None:
    """Seal two segments of each writer but the last."""
    left = iter(range(2 * (len(WRITERS) - 1)))
    Sealer(log, batch_bytes=1, stopping=lambda: next(left, None) is None).seal()


def seal_all(log: Path) -> None:
    """Seal everything, pass by pass with few segments, so that there are files to compact and a checkpoint."""
    seal_half(log)
    Sealer(log, batch_bytes=1).seal()


@pytest.fixture(scope="module")
def small_limits() -> Iterator[None]:
    """Tables that are compacted and get their checkpoints as if they were old."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_log, "FILES_MAX", 3)
        patch.setattr(delta_log, "_CHECKPOINT_VERSIONS", 5)
        yield


@pytest.fixture(scope="module", params=["segments", "sealed", "half"])
def log_and_ledger(request, tmp_path_factory, small_limits) -> tuple[Path, list[Line]]:
    """A log in one of three states, and the ledger of what was asked of it."""
    log = tmp_path_factory.mktemp(request.param) / "log"
    ledger = write_ledger(log)
    {"segments": lambda _: None, "sealed": seal_all, "half": seal_half}[request.param](log)
    left = {"segments": 12, "sealed": 0, "half": 8}[request.param]
    assert left == len(list((log / "segments").iterdir()))
    return log, ledger


@pytest.mark.parametrize("size", [1, 7, 500])
def test_pages_are_the_ledger_s(log_and_ledger, size):
    """Each question's pages, of whatever size, hold every lookup that matches once, newest first, with all that a list tells of it."""
    log, ledger = log_and_ledger
    for wanted in QUESTIONS if size > 1 else QUESTIONS[3:6]:
        assert [told(line) for line in expected(ledger, wanted)] == all_of(log, wanted, size=size)


def test_a_request_id_leads_to_the_newest_lookup_wherever_it_is(log_and_ledger):
    """Its receipt is the whole record, in a segment or in the table, and an id that nobody sent has none."""
    log, ledger = log_and_ledger
    for request_id in ("twice", "a 'b' \"c\" é\n", *(line.record.request_id for line in ledger[::9])):
        if request_id:
            newest = expected(ledger, Matching(request_id=request_id))[0]
            found = by_request_id(log, request_id).or_fail(request_id).found
            assert (newest.record, newest.writer, newest.sequence) == (found.record, found.writer, found.sequence)
    with pytest.raises(UnknownName):
        by_request_id(log, "nobody's").or_fail("nobody's")


def test_pages_go_on_while_their_lookups_are_sealed(tmp_path, small_limits):
    """Asked for one after the other between the steps of the sealer, pages hold every lookup once, and a request id is found at each step."""
    log = tmp_path / "log"
    ledger, size = write_ledger(log), 9
    unfinished = [(wanted, pages(log, wanted, size=size), []) for wanted in QUESTIONS]
    finished, steps, at_work = [], [], random.Random(size)

    def step(name: str) -> None:
        steps.append(name)
        walk = unfinished[at_work.randrange(len(unfinished))]
        page = next(walk[1], None)
        if page is None:
            finished.append(walk)
            unfinished.remove(walk)
            unfinished.append((walk[0], pages(log, walk[0], size=size), []))
        else:
            walk[2].extend(page)
        assert by_request_id(log, "twice").receipt is not None

    Sealer(log, batch_bytes=1, step=step).seal()
    for wanted, walk, read in unfinished:
        read.extend(summary for page in walk for summary in page)
        finished.append((wanted, walk, read))

    assert {"write", "commit", "remove", "compact", "checkpoint"} <= set(steps)
    for wanted, _, read in finished:
        assert [told(line) for line in expected(ledger, wanted)] == read


def test_what_is_sealed_while_a_page_is_read_is_on_it_once(tmp_path, small_limits):
    """Segments that go into tables, and files that are compacted, in the midst of reading a page take nothing from it and add nothing."""
    log = tmp_path / "log"
    ledger = [told(line) for line in expected(write_ledger(log), Matching())]
    turns = 0

    def seal_one() -> None:
        nonlocal turns
        turns += 1
        if turns % 5 == 0:
            left = iter([False])
            Sealer(log, batch_bytes=1, stopping=lambda: next(left, True)).seal()
        if turns % 11 == 0:
            with sealing_lock(log):
                records = delta_log.DeltaLog(TablePlaces(log).of(RECORDS), name=RECORDS)
                records.compact()
                records.rewrite(lambda rows: (rows, rows.num_rows))

    while list((log / "segments").iterdir()):
        before = turns
        listed = newest_lookups(log, Matching(), limit=500, tick=seal_one)
        assert (ledger, []) == (list(listed.summaries), list(listed.damage))
        assert before < turns


def record_files(log: Path) -> list[Path]:
    """The files of the table of all lookups."""
    return [file.path for file in table_files(TablePlaces(log).of(RECORDS))]


def test_the_table_s_own_log_says_its_files_as_delta_does(tmp_path, small_limits):
    """After appends, compaction, a checkpoint and dropped days the files are those that deltalake reads, with when their rows were served."""
    log = tmp_path / "log"
    write_ledger(log)
    table = TablePlaces(log).of(RECORDS)
    assert [] == table_files(table)
    seal_all(log)
    for seal in (lambda: None, Sealer(log, keep_days=1, clock=lambda: NOON + 2 * DAY).seal):
        seal()
        files = table_files(table)

        assert {Path(uri) for uri in DeltaTable(table).file_uris()} == {file.path for file in files}
        for file in files:
            served = pc.min_max(pq.ParquetFile(file.path).read(columns=["served_at"]).column(0).cast("int64")).as_py()
            assert 0 <= served["min"] - file.first_micros < 1_000
            assert 0 <= file.last_micros - served["max"] < 1_000
    assert list((table / "_delta_log").glob("*.checkpoint.parquet"))
    (table / "_delta_log" / f"{DeltaTable(table).version() + 1:020d}.json").touch()
    assert files == table_files(table)


def make_unreadable(path: Path) -> None:
    """Overwrite a file with as many zeros."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def three_days(tmp_path) -> Path:
    """A sealed log with a file for each of three days, of 20 lookups each; each has a request id of its own."""
    log = tmp_path / "log"
    keep(log, make_catalog())
    records = [
        make_record([1], ANSWER, served_at_micros=NOON + day * DAY + at * SECOND, request_id=f"r-{day}-{at}")
        for day in range(3)
        for at in range(20)
    ]
    write_segment(log, records)
    Sealer(log).seal()
    return log


def test_files_of_other_times_are_not_opened(three_days):
    """A list of a time, and a page that is full, do not look into files that cannot have any of it; what cannot be read otherwise is told."""
    for path in record_files(three_days):
        if not path.parent.name.endswith("02"):
            make_unreadable(path)
    middle = Matching(since_micros=NOON + DAY, until_micros=NOON + 2 * DAY)
    everything = newest_lookups(three_days, Matching(), limit=100)
    behind = newest_lookups(three_days, Matching(), limit=20, before=Position(NOON + 2 * DAY - SECOND, bytes(16)))

    assert [f"r-1-{at}" for at in range(19, -1, -1)] == [summary.request_id for summary in all_of(three_days, middle)]
    assert 20 == len(everything.summaries)
    assert [DamagedTable, DamagedTable] == [type(damage) for damage in everything.damage]
    assert "restore it from a copy" in str(everything.damage[0])
    assert (20, []) == (len(behind.summaries), list(behind.damage))


def test_a_file_that_is_gone_for_good_is_told(three_days):
    """A list says that a file is not there any more that the table's log names, and has what the others hold."""
    gone = max(record_files(three_days))
    gone.unlink()
    listed = newest_lookups(three_days, Matching(), limit=100)
    assert (40, [DamagedTable(gone)]) == (len(listed.summaries), list(listed.damage))


def test_a_log_that_lacks_an_entry_is_no_shorter_log(three_days):
    """Where entries are missing, as in a listing that was made while they were removed, the files are not told from the rest."""
    table = TablePlaces(three_days).of(RECORDS)
    (table / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(StoredDataError, match="cannot be read"):
        table_files(table)


def test_groups_of_other_times_are_not_read(tmp_path):
    """Of a file with many groups of rows a list reads those alone that have its lookups, and a request id the one with its record."""
    log = tmp_path / "log"
    records = [make_failure(served_at_micros=NOON + at * SECOND) for at in range(1_500)]
    write_segment(log, records)
    Sealer(log).seal()
    (path,) = record_files(log)
    first, second, _ = (pq.read_metadata(path).row_group(number).column(0) for number in range(3))
    with path.open("r+b") as file:
        begin = first.dictionary_page_offset or first.data_page_offset
        file.seek(begin)
        file.write(bytes((second.dictionary_page_offset or second.data_page_offset) - begin))
    newest = newest_lookups(log, Matching(since_micros=NOON + 600 * SECOND), limit=500)
    oldest = newest_lookups(log, Matching(until_micros=NOON + 600 * SECOND), limit=500)

    assert ([record.lookup_id for record in records[:999:-1]], []) == (
        [summary.lookup_id for summary in newest.summaries],
        list(newest.damage),
    )
    assert [DamagedTable(path)] == list(oldest.damage)


def test_a_request_id_is_found_without_a_look_at_other_files(three_days):
    """The index says which file has it, and which row; without the index, or with that of another file, it is found all the same."""
    (first,) = [path for path in record_files(three_days) if path.parent.name.endswith("01")]
    assert [7] == list(rows_with(three_days, first, "r-0-7"))
    assert [] == list(rows_with(three_days, first, "r-1-7"))
    index = index_path(three_days, first)
    content = index.read_bytes()
    for spoilt in (None, content[:-1], content[:20] + b"\1" + content[21:], b""):
        index.unlink()
        if spoilt is not None:
            index.write_bytes(spoilt)
        else:
            assert rows_with(three_days, first, "r-0-7") is None
        assert "r-0-7" == by_request_id(three_days, "r-0-7").or_fail("").record.request_id
        index.touch()
    index.unlink()
    keep_indexes(three_days)
    assert content == index.read_bytes()
    for path in record_files(three_days):
        if path != first:
            make_unreadable(path)
    search = by_request_id(three_days, "r-0-7")

    assert ("r-0-7", []) == (search.or_fail("").record.request_id, list(search.damage))


def test_erased_lookups_are_in_no_list_and_no_index(tmp_path):
    """After an erasure a lookup that asked for the person is not listed, nor found by its request id, whose digest is nowhere; others are."""
    log = tmp_path / "log"
    keep(log, make_catalog())
    write_segment(
        log,
        [
            make_record([driver], ANSWER, request_id=f"r-{driver}", served_at_micros=NOON + driver)
            for driver in (1, 2, 3)
        ],
    )
    Sealer(log).seal()
    before = list((log / "tables" / "_request_ids").rglob("*.ids"))
    erase(log, key="driver_id", value="2")
    after = list((log / "tables" / "_request_ids").rglob("*.ids"))

    assert ["r-3", "r-1"] == [summary.request_id for summary in all_of(log, Matching())]
    assert None is by_request_id(log, "r-2").receipt
    assert "r-3" == by_request_id(log, "r-3").or_fail("").record.request_id
    assert (1, 1, False) == (len(before), len(after), before == after)
    assert [True, False] == [digest_of(f"r-{driver}") in after[0].read_bytes() for driver in (1, 2)]


def test_days_that_were_dropped_are_in_no_list_and_no_index(three_days):
    """Retention takes a day from lists and request ids at once, and its indexes with it."""
    today = from_micros(NOON + 2 * DAY)
    everything = all_of(three_days, Matching())
    oldest, newest = everything[-1].lookup_id, everything[0].lookup_id
    Sealer(three_days, keep_days=1, clock=lambda: NOON + 2 * DAY).seal()

    assert date(2026, 11, 3) == today.date()
    assert 40 == len(all_of(three_days, Matching()))
    assert None is by_request_id(three_days, "r-0-7").receipt
    assert [None, 1] == [
        None if found is None else found.record.code + 1
        for found in (find_sealed(three_days, lookup_id) for lookup_id in (oldest, newest))
    ]
    assert "r-1-7" == by_request_id(three_days, "r-1-7").or_fail("").record.request_id
    assert {"__log_date=2026-11-02", "__log_date=2026-11-03"} == {
        path.name for path in (three_days / "tables" / "_request_ids").iterdir()
    }


def test_an_answer_that_was_never_given_is_a_failure_in_the_table_too(tmp_path):
    """Of a durable answer and the failure that its caller was told instead, the latter is the receipt, in whichever file it is."""
    log = tmp_path / "log"
    keep(log, make_catalog())
    answer = make_record([1], ANSWER, mode="durable", request_id="r")
    told = {"served_at_micros": NOON + SECOND, "code": 14, "reason": "LOG_UNAVAILABLE", "response": b"", "rows": []}
    failure = make_record([1], ANSWER, mode="durable", request_id="r", lookup_id=answer.lookup_id, **told)
    write_segment(log, [answer])
    write_segment(log, [failure], first_sequence=2)
    Sealer(log, batch_bytes=1).seal()

    assert 2 == len(record_files(log))
    assert failure == by_lookup_id(log, UUID(bytes=answer.lookup_id)).or_fail("").record
    assert failure == by_request_id(log, "r").or_fail("").record


def test_lookups_without_a_request_id_are_in_no_index(tmp_path):
    """An empty id is none: nothing is kept of it, and nobody is found by it."""
    log = tmp_path / "log"
    records = [make_failure(), make_failure()]
    write_segment(log, records)
    Sealer(log).seal()
    (path,) = record_files(log)

    assert [] == list(rows_with(log, path, ""))
    assert 32 == index_path(log, path).stat().st_size
    assert {record.lookup_id for record in records} == {summary.lookup_id for summary in all_of(log, Matching())}
    assert [UUID(bytes=records[0].lookup_id)] == [
        UUID(bytes=by_lookup_id(log, UUID(bytes=records[0].lookup_id)).or_fail("").record.lookup_id)
    ]


def test_a_log_of_a_table_that_cannot_be_read_is_told(three_days):
    """A damaged log of the table leaves lists of segments, and says what cannot be read."""
    (entry, *_) = sorted((TablePlaces(three_days).of(RECORDS) / "_delta_log").glob("*.json"))
    entry.write_text("{")
    write_segment(three_days, [make_failure()], first_sequence=100)
    listed = newest_lookups(three_days, Matching(), limit=10)

    assert (1, [DamagedTable(entry.parent)]) == (len(listed.summaries), list(listed.damage))
