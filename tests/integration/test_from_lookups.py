"""Training sets of what a service served: values as they left, labels, cells read as of then, and rebuilds."""

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import timedelta

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from feast import FeatureService, FeatureStore
from msgspec import structs

from dataset_repo import RATINGS, TRIPS, definitions, ratings
from faults.repos import make_repo as make_served_repo
from faults.repos import store_rows
from hindcast.catalog import Field as CatalogField
from hindcast.catalog import Logging, Projection, Service, View
from hindcast.cli.dataset import dataset
from hindcast.clock import from_micros, to_micros
from hindcast.datasets import KeySplits, TimeSplits, TrainingSets
from hindcast.datasets.proven import proven
from hindcast.errors import InvalidArgument, NotProven, SealError, UnknownName
from hindcast.lookups import delta_log
from hindcast.lookups.delta_log import DeltaLog
from hindcast.lookups.directory import WriterId
from hindcast.lookups.erase import erase
from hindcast.lookups.record import Rpc, StoredRows
from hindcast.lookups.sealer import Sealer
from hindcast.lookups.segment import Gap, GapReason
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.value_pb2 import Value
from hindcast_client import Client
from kinds import KINDS
from logged import log_directory, record_id
from offline_repo import hours, offline_repo, trips, write
from sealing import (
    DAY,
    DOUBLE,
    INT64,
    NOON,
    STRING,
    header,
    keep,
    make_catalog,
    make_failure,
    make_record,
    write_segment,
)
from services import run_hindcast, run_redis
from twins import close

SECOND = 1_000_000
NAN_WITH_CONTENT = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
LATE = {"service": "late", "until": hours(24 * 365)}


def late_service(*features):
    """A service of two views of the repo."""
    objects = definitions()
    return [*objects, FeatureService(name="late", features=list(features or objects[3:5]))]


@pytest.fixture(scope="module")
def applied(tmp_path_factory):
    """A repo with the service `late` over the views `trips` and `ratings`; tests copy it."""
    root = tmp_path_factory.mktemp("from-lookups") / "repo"
    write(root / "data/trips.parquet", trips(*TRIPS))
    write(root / "data/ratings.parquet", ratings(*RATINGS))
    with offline_repo(root) as store:
        store.apply(late_service())
    return root


@pytest.fixture
def repo(applied, tmp_path):
    """A copy of it with an empty log, and the usual catalog kept there."""
    shutil.copytree(applied, tmp_path / "repo")
    keep(log_directory(tmp_path / "repo"), make_catalog())
    return tmp_path / "repo"


@pytest.fixture
def log(repo):
    """Its log."""
    return log_directory(repo)


@pytest.fixture
def sets(repo):
    """Its sets."""
    return TrainingSets(repo)


def answered(drivers, at=0, **more):
    """A lookup of drivers, so many seconds after noon."""
    columns = {
        "trips": [10 * driver for driver in drivers],
        "rating": [driver / 2 for driver in drivers],
        "city": [f"of {driver}" for driver in drivers],
    }
    return make_record(drivers, columns, served_at_micros=NOON + at * SECOND, **more)


def rows_of(made, *columns):
    """Some columns of a set, row by row."""
    return [tuple(row.values()) for row in made.to_arrow(columns=list(columns)).to_pylist()]


def ids(*records):
    """Labels by lookup id, numbered from 1."""
    return pa.table({"lookup_id": list(map(record_id, records)), "label": range(1, len(records) + 1)})


def bits(number):
    """A double's."""
    return None if number is None else struct.pack("<d", number)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A running server, its answers, and the set of them; its segments were open when it was built."""
    root = tmp_path_factory.mktemp("served")
    with run_redis() as redis:
        repo = make_served_repo(root / "repo", redis.connection_string)
        settings = (repo / "feature_store.yaml").read_text()
        (repo / "feature_store.yaml").write_text(
            f"{settings}offline_store:\n  type: hindcast.offline.plugin.AsOfOfflineStore\n"
        )
        whole = {
            "trips": Value(int64_val=-7),
            "city": Value(string_val="Köln"),
            "rating": Value(double_val=NAN_WITH_CONTENT),
        }
        odd = {"trips": Value(int64_val=2**62), "rating": Value(double_val=-0.0)}
        store_rows(redis.connection_string, "driver", [(Value(int64_val=1), whole), (Value(int64_val=2), odd)])
        store_rows(redis.connection_string, "platform", [(None, {"surge": Value(double_val=1.5)})])
        with run_hindcast(repo) as server, Client(server.address) as client:
            answers = [
                client.get_online_features(
                    features="everything", entities={"driver_id": drivers}, request_id=f"call-{at}", tags={"who": "me"}
                )
                for at, drivers in enumerate([[1, 2, 3], [2], [3, 1]])
            ]
            client.get_online_features(features="ride", entities={"driver_id": [1]})
            labels = pa.table({"lookup_id": [one.lookup_id for one in answers], "label": [True, False, None]})
            made = TrainingSets(repo).from_lookups(
                "live", service="everything", labels=labels, statuses=True, ages=True
            )
            open_left = [path.name for path in (log_directory(repo) / "segments").glob("*.open")]
            again = TrainingSets(repo).rebuild("live")
        yield answers, made, again, open_left


def test_values_are_bit_for_bit_the_ones_served(served):
    """Of a running server's lookups the set has each row as it was answered: keys, values with their bits, nulls, statuses, times."""
    answers, made, _, _ = served
    expected = [
        (
            answer.lookup_id,
            at,
            answer.served_at,
            answer.to_dict()["driver_id"][at],
            *(answer.to_dict()[name][at] for name in ("trips", "city")),
            *(bits(answer.to_dict()[name][at]) for name in ("rating", "surge")),
            *(int(answer.statuses[name][at]) for name in ("trips", "city", "rating", "surge")),
        )
        for answer in sorted(answers, key=lambda one: (one.served_at, one.lookup_id))
        for at in range(len(answer))
    ]
    names = ["lookup_id", "lookup_row", "served_at", "driver_id", "trips", "city", "rating", "surge"]
    statuses = [f"{name}__status" for name in ("trips", "city", "rating", "surge")]
    found = [(*row[:6], *map(bits, row[6:8]), *row[8:]) for row in rows_of(made, *names, *statuses)]
    assert expected == found
    assert bits(NAN_WITH_CONTENT) in {row[6] for row in found}


def test_what_was_open_is_sealed_first_and_read(served):
    """A set has what a living server had in open segments when it was built, and says of each thing that is not there."""
    answers, made, again, _ = served
    log = made.manifest.lookups.log
    assert (3, 0, 0, 0, 6, ()) == (log.answered, log.failed, log.erased, log.unsealed, log.rows, log.losses)
    assert {"batched": 3} == log.modes
    assert (6, True, True) == (made.rows, again.identical, again.files_identical)
    ages = made.to_arrow(columns=["driver__age_seconds", "trips__status"]).to_pylist()
    assert all((row["driver__age_seconds"] is None) == (row["trips__status"] == 3) for row in ages)
    assert len(answers) == made.manifest.lookups.labels.used


def test_every_kind_of_value_is_in_the_set_as_in_the_log(log, sets):
    """Of each kind of value, lists and nulls among them, the set's column is the log's own: same type, same bytes."""
    names = {kind.name: kind.dtype.to_value_type().value for kind in KINDS}
    keep(log, make_catalog(names, version="sha256:kinds"))
    served = {kind.name: [proto.SerializeToString() for proto in kind.protos()] for kind in KINDS}
    rows = max(map(len, served.values()))
    columns = [
        shadow_pb2.HindcastColumn(
            name=name, values=values + [b""] * (rows - len(values)), statuses=b"\1" * rows, view_index=0
        )
        for name, values in served.items()
    ]
    response = shadow_pb2.HindcastResponse(columns=columns).SerializeToString()
    record = make_record(list(range(rows)), {}, catalog_version="sha256:kinds", response=response)
    write_segment(log, [record])
    made = sets.from_lookups("kinds", service="fraud", labels=ids(record))
    (path,) = (log / "tables" / "fraud").glob("*/*.parquet")
    logged, found = pq.ParquetFile(path).read(), made.to_arrow()
    expected = [logged.column(f"driver__{name}") for name in names]
    assert [str(column.type).replace("element", "item") for column in expected] == [
        str(found.column(name).type).replace("element", "item") for name in names
    ]
    assert [repr(column.to_pylist()) for column in expected] == [repr(found.column(name).to_pylist()) for name in names]
    assert all(column.null_count < rows for column in expected)
    assert True is sets.rebuild("kinds").identical


def test_labels_are_joined_by_lookup_id_and_row(log, sets):
    """A label is for the row it names, or for all rows of its lookup; of several the last is taken, and all others are counted."""
    one, two, three = answered([1, 2]), answered([3, 4], 1), answered([5], 2)
    write_segment(log, [one, two, three, make_failure()])
    per_row = pa.table(
        {
            "lookup_id": [record_id(one).upper(), record_id(one), record_id(two), "no such lookup", None],
            "hc_row": [1, 1, 0, 0, 0],
            "label": ["a", "b", "c", "d", "e"],
        }
    )
    made = sets.from_lookups("by-row", service="fraud", labels=per_row)
    record = made.manifest.lookups.labels
    assert [(1, 2, "b"), (0, 3, "c")] == rows_of(made, "lookup_row", "driver_id", "label")
    assert (2, 1, 1, 1, 3) == (
        record.used,
        record.superseded,
        record.unknown,
        record.without_key,
        record.unlabeled,
    )
    whole = sets.from_lookups("by-id", service="fraud", labels=ids(one), keep_unlabeled=True, pick="first")
    assert [(1, 1), (2, 1), (3, None), (4, None), (5, None)] == rows_of(whole, "driver_id", "label")
    assert (1, 3) == (whole.manifest.lookups.log.failed, whole.manifest.lookups.labels.unlabeled)


def test_labels_that_fit_nothing_give_an_empty_set(log, sets):
    """Where no label fits, the set has all of its columns and no rows, and is made again."""
    write_segment(log, [answered([1])])
    made = sets.from_lookups("empty", service="fraud", labels=pa.table({"lookup_id": ["x"], "label": [[1.5]]}))
    assert (0, 1, True) == (made.rows, made.manifest.lookups.labels.unlabeled, sets.rebuild("empty").identical)
    assert [
        "lookup_id",
        "lookup_row",
        "served_at",
        "driver_id",
        "label",
        "trips",
        "rating",
        "city",
    ] == made.schema.names


def test_labels_are_joined_by_request_id(log, sets):
    """Lookups are found by the id that their caller gave, which is a column then; those without one are found by none."""
    write_segment(log, [answered([1], request_id="a"), answered([2], 1), answered([3], 2, request_id="a")])
    labels = pa.table({"request_id": ["a", "", "b"], "label": [1, 2, 3]})
    made = sets.from_lookups("asked", service="fraud", labels=labels)
    assert [("a", 1, 1), ("a", 3, 1)] == rows_of(made, "request_id", "driver_id", "label")
    assert (1, 1) == (made.manifest.lookups.labels.without_key, made.manifest.lookups.labels.unknown)


@pytest.mark.parametrize(
    ("pick", "expected"), [("first", ["edge", "end", "b", None]), ("last", ["c", "end", "c", None])]
)
def test_late_labels_are_joined_by_key_and_window(log, sets, pick, expected):
    """A label fits where its key was asked for at its time or up to a window before, both edges closed; of several the first or last by
    time and then position is taken.
    """
    write_segment(log, [answered([1], 0), answered([3], 5), answered([1], 10), answered([1], 60)])
    labels = pa.table(
        {
            "driver_id": pa.array([1, 1, 1, 1, 2, None, 3], pa.int32()),
            "at": pa.array(
                [from_micros(NOON + at * SECOND) for at in (10, 0, 30, 30, 30, 30, 35)], pa.timestamp("us", "UTC")
            ),
            "label": ["b", "edge", "tie" if pick == "last" else "c", "c", "of another", "of nobody", "end"],
        }
    )
    made = sets.from_lookups(
        f"late-{pick}",
        service="fraud",
        labels=labels,
        on="driver_id",
        window=timedelta(seconds=30),
        pick=pick,
        keep_unlabeled=True,
    )
    record = made.manifest.lookups.labels
    assert expected == [label for (label,) in rows_of(made, "label")]
    assert (1, 1, 1, 2) == (record.unknown, record.without_key, record.unlabeled, record.open_windows)
    assert 7 == record.used + record.superseded + record.unknown + record.without_key


def test_labels_in_a_file_are_pinned_and_others_kept(repo, log, sets):
    """SQL, a path and rows give the same set; a path's files are pinned, and what has no file is kept with the set."""
    one = answered([1])
    write_segment(log, [one])
    write(repo / "labels.parquet", ids(one))
    given = ["labels.parquet", "SELECT * FROM 'labels.parquet'", ids(one).to_pandas()]
    made = [sets.from_lookups(f"form-{at}", service="fraud", labels=labels) for at, labels in enumerate(given)]
    assert [False, True, True] == [one.manifest.lookups.labels.frame.is_kept for one in made]
    assert 1 == len({one.digest for one in made})
    assert [True] * 3 == [sets.verify(one.ref).intact and sets.rebuild(one.ref).identical for one in made]


def old_catalog(version, *views):
    """A catalog with the service `late` on some views and their features."""
    made = {name: View(name, (CatalogField("driver_id", INT64),), fields, 0, 0, name) for name, fields in views}
    service = Service(
        "late", tuple(Projection(name, name, tuple(one.name for one in fields)) for name, fields in views)
    )
    return replace(make_catalog(version=version), views=made, services={"late": service})


TRIPS_VIEW = ("trips", (CatalogField("trips", INT64),))
RATINGS_VIEW = ("ratings", (CatalogField("rating", DOUBLE),))


def late(driver, hour, columns, version):
    """A lookup of `late` so many hours after noon in March."""
    at = to_micros(hours(hour))
    views = {"trips": "trips", "rating": "ratings"}
    stored = [StoredRows(views[name], header(at - SECOND)) for name in columns]
    return make_record(
        [driver],
        {name: [one] for name, one in columns.items()},
        served_at_micros=at,
        service="late",
        catalog_version=version,
        rows=stored,
    )


@pytest.fixture
def grown(log):
    """A log of `late` from before and after the view `ratings` was added to it."""
    keep(log, old_catalog("sha256:old", TRIPS_VIEW), old_catalog("sha256:new", TRIPS_VIEW, RATINGS_VIEW))
    records = [
        late(1, 1, {"trips": 777}, "sha256:old"),
        late(2, 6, {"trips": None}, "sha256:old"),
        late(1, 7, {"trips": 12, "rating": None}, "sha256:new"),
    ]
    write_segment(log, records)
    return records


def test_what_was_not_served_is_read_as_of_then(grown, sets):
    """A feature that came to a service later is read as of served_at, by what was known then, and marked; what was served stays, nulls too."""
    made = sets.from_lookups("grown", labels=ids(*grown), fill="point-in-time", **LATE)
    assert [(777, 4.5, "point-in-time"), (None, 3.0, "point-in-time"), (12, None, "served")] == rows_of(
        made, "trips", "rating", "rating__origin"
    )
    plain = sets.from_lookups("plain", labels=ids(*grown), **LATE)
    assert [(777, None), (None, None), (12, None)] == rows_of(plain, "trips", "rating")
    told = {one.column: (one.served, one.filled, one.lacking) for one in made.manifest.lookups.features}
    assert {"trips": (3, 0, 0), "rating": (1, 2, 0)} == told
    assert (1, 0, 2) == tuple(
        getattr(plain.manifest.lookups.features[1], name) for name in ("served", "filled", "lacking")
    )
    assert (True, True) == (sets.rebuild("grown").identical, sets.rebuild("plain").identical)
    assert made.digest != plain.digest


def test_the_marks_are_part_of_the_digest(grown, repo, sets):
    """Two sets whose cells are equal and differ in where one is from have two digests."""
    write(repo / "data/ratings.parquet", ratings((9, 0, 1.0, 0)))
    labels = ids(grown[2])
    filled = sets.from_lookups("marks", labels=ids(*grown), fill="point-in-time", features=["ratings:rating"], **LATE)
    origins = [origin for (origin,) in rows_of(filled, "rating__origin")]
    assert (["point-in-time", "point-in-time", "served"], [None] * 3) == (
        origins,
        [one for (one,) in rows_of(filled, "rating")],
    )
    served = sets.from_lookups("served", labels=labels, features=["ratings:rating"], **LATE)
    assert "rating__origin" in filled.schema.names
    assert 1 == served.rows


def test_a_rebuild_names_the_source_of_filled_cells(grown, repo, sets):
    """A source row that came late, a definition, and a service with another feature are named, with the filled cells that they changed."""
    sets.from_lookups("grown", labels=ids(*grown), fill="point-in-time", **LATE)
    write(repo / "data/ratings.parquet", ratings(*RATINGS, (1, 0.5, 4.9, 0.5)))
    report = sets.rebuild("grown")
    assert ("source", "data/ratings.parquet", {"rating": 1}, {"late row": 1}) == (
        report.first_change.kind,
        report.first_change.name,
        report.first_change.columns,
        report.first_change.reasons,
    )
    write(repo / "data/ratings.parquet", ratings(*RATINGS))
    store = FeatureStore(repo_path=str(repo))
    try:
        objects = definitions()
        store.apply([*objects, FeatureService(name="late", features=[objects[3]])])
    finally:
        close(store)
    report = sets.rebuild("grown")
    assert ("definition", "late", "rating") == (
        report.first_change.kind,
        report.first_change.name,
        report.first_change.before,
    )
    assert True is sets.rebuild("grown", as_recorded=True).identical


def test_a_rebuild_is_identical_after_lookups_came_and_tables_were_compacted(log, sets, monkeypatch):
    """Rows that are sealed later do not come into a set, and compaction of its tables changes nothing."""
    monkeypatch.setattr(delta_log, "FILES_MAX", 3)
    records = [answered([at], at) for at in range(3)]
    for at, record in enumerate(records):
        write_segment(log, [record], first_sequence=at + 1)
        Sealer(log).seal()
    made = sets.from_lookups(
        "compacted", service="fraud", labels=ids(*records), until=from_micros(NOON + DAY), keep_unlabeled=True
    )
    write_segment(log, [answered([99], 5, request_id="late")], first_sequence=4)
    write_segment(log, [answered([98], 6)], writer=WriterId(7, NOON))
    Sealer(log).seal()
    files = DeltaLog(log / "tables" / "fraud").files()
    report = sets.rebuild("compacted")
    assert 1 == len(files)
    assert (3, True, True, ()) == (made.rows, report.identical, report.files_identical, report.changes)


def test_after_an_erasure_the_rebuild_says_exactly_that(repo, log, sets):
    """The rows of a person that are gone from the log are counted, and so is another row that lost its request id; the tombstone is named."""
    write_segment(
        log, [answered([1, 2], request_id="a"), answered([2], 1, request_id="b"), answered([3], 2, request_id="c")]
    )
    labels = pa.table({"request_id": ["a", "b", "c"], "label": [1, 2, 3]})
    sets.from_lookups("people", service="fraud", labels=labels)
    erased = erase(log, key="driver_id", value="2", repo_root=repo)
    report = sets.rebuild("people")
    change = report.first_change
    assert (False, 1, "erasure", f"tombstones/{erased.tombstone.name}") == (
        report.identical,
        report.rows,
        change.kind,
        change.name,
    )
    assert (3, {"erased row": 2, "row of a lookup whose request id was erased": 1}) == (change.rows, change.reasons)
    assert 1 == len(report.changes)


def test_rows_dropped_for_their_age_are_told(log, sets):
    """Where the log was kept for some days only, the rebuild says that rows were dropped, and how many."""
    records = [answered([1]), answered([2], 86_400 * 3)]
    write_segment(log, records)
    sets.from_lookups("old", service="fraud", labels=ids(*records))
    Sealer(log, keep_days=1, clock=lambda: NOON + 3 * DAY).seal()
    change = sets.rebuild("old").first_change
    assert ("log", "dropped", 1, {"dropped row": 1}) == (change.kind, change.what, change.rows, change.reasons)


def test_a_rebuild_names_the_labels_that_were_changed(repo, log, sets):
    """Another label file is named with the cells and rows that it changed; the set's own labels make it again."""
    records = [answered([1]), answered([2], 1), answered([3], 2)]
    write_segment(log, records)
    write(repo / "labels.parquet", ids(*records[:2]))
    sets.from_lookups("file", service="fraud", labels="labels.parquet")
    write(
        repo / "labels.parquet",
        pa.table({"lookup_id": [record_id(records[0]), record_id(records[2])], "label": [7, 3]}),
    )
    report = sets.rebuild("file")
    assert ("labels", "labels.parquet", 3) == (
        report.first_change.kind,
        report.first_change.name,
        report.first_change.rows,
    )
    assert {"other label": 1, "row without a label now": 1, "row with a label now": 1} == report.first_change.reasons
    assert True is sets.rebuild("file", as_recorded=True).identical
    (repo / "labels.parquet").unlink()
    report = sets.rebuild("file")
    assert ("labels", "removed", False) == (report.first_change.kind, report.first_change.what, report.identical)
    shutil.rmtree(log)
    report = sets.rebuild("file")
    assert ("log", "removed") == (report.first_change.kind, report.first_change.what)


def test_a_type_that_changed_is_widened_or_refused(log, sets):
    """A feature that was of two types is one column where one holds all values of both, and is refused where none does."""
    keep(log, make_catalog({"trips": 3, "city": STRING}, version="sha256:narrow"))
    keep(log, make_catalog({"trips": INT64, "city": INT64}, version="sha256:wide"))
    records = [
        make_record([1], {"trips": [1], "city": ["x"]}, catalog_version="sha256:narrow"),
        make_record(
            [1], {"trips": [2**40], "city": [5]}, catalog_version="sha256:wide", served_at_micros=NOON + SECOND
        ),
    ]
    write_segment(log, records)
    made = sets.from_lookups("typed", service="fraud", labels=ids(*records), features=["driver:trips"])
    assert [(1,), (2**40,)] == rows_of(made, "trips")
    with pytest.raises(InvalidArgument, match=r"string from .* then int64 from"):
        sets.from_lookups("typed", service="fraud", labels=ids(*records))


def test_destinations_and_samples_are_read_and_told(repo, log, sets):
    """Rows in the folder that a service's LoggingConfig names are read too, and the manifest says which share of keys was logged."""
    logging = Logging(0.25, "file", "logs")
    keep(log, make_catalog({"trips": INT64}, version="sha256:sampled", logging=logging))
    records = [
        answered([1]),
        make_record([2], {"trips": [2]}, catalog_version="sha256:sampled", served_at_micros=NOON + SECOND),
    ]
    write_segment(log, records)
    made = sets.from_lookups("sampled", service="fraud", labels=ids(*records))
    assert [(1, 10, 0.5), (2, 2, None)] == rows_of(made, "driver_id", "trips", "rating")
    told = made.manifest.lookups.log
    assert [("1.0", 1), ("0.25", 1)] == [(one.sample_rate, one.rows) for one in told.catalogs]
    assert [None] == [table.version for table in told.tables if table.path == "logs"]
    assert True is sets.rebuild("sampled").identical


def test_what_the_log_lost_is_told(log, sets):
    """Records that `best_effort` lost between those of the time are in the manifest, and those before it are not."""
    gap = Gap(first_sequence=1, last_sequence=1, reason=GapReason.OVERFLOW)
    write_segment(log, [gap, answered([1], -100), answered([2]), gap, answered([3], 1)])
    labels = pa.table({"lookup_id": ["none"], "label": [1]})
    made = sets.from_lookups(
        "lossy",
        service="fraud",
        labels=labels,
        since=from_micros(NOON),
        until=from_micros(NOON + DAY),
        keep_unlabeled=True,
    )
    assert [(4, 1, "overflow")] == [
        (one.first_sequence, one.lookups, one.reason) for one in made.manifest.lookups.log.losses
    ]
    assert [(2,), (3,)] == rows_of(made, "driver_id")


def test_an_answer_that_was_refused_is_no_row(log, sets):
    """A durable answer behind which a failure stands did not reach its caller, and is left out."""
    refused = answered([1], mode="durable")
    failure = structs.replace(make_failure(), lookup_id=refused.lookup_id, served_at_micros=NOON + 1)
    kept = answered([2], 1, mode="durable")
    write_segment(log, [refused, failure, kept])
    made = sets.from_lookups("refused", service="fraud", labels=ids(refused, kept))
    assert [(2, 2)] == rows_of(made, "driver_id", "label")
    assert (1, 1) == (made.manifest.lookups.log.answered, made.manifest.lookups.log.failed)


def test_without_sealing_what_is_not_sealed_is_counted(log, sets):
    """Where nothing may be written, only tables are read, and lookups in segments are counted."""
    first, second = answered([1]), answered([2], 1)
    write_segment(log, [first])
    Sealer(log).seal()
    write_segment(log, [second], first_sequence=2)
    made = sets.from_lookups("sealed", service="fraud", labels=ids(first, second), seal=False)
    assert (1, 1) == (made.rows, made.manifest.lookups.log.unsealed)


def test_splits_and_diffs_work_as_of_other_sets(log, sets):
    """Splits go by served_at or by keys, and two sets of lookups are told apart by id and row."""
    records = [answered([at, 100 + at], at) for at in range(10)]
    write_segment(log, records)
    common = {"service": "fraud", "until": from_micros(NOON + DAY)}
    by_time = sets.from_lookups(
        "split",
        labels=ids(*records),
        splits=TimeSplits({"train": from_micros(NOON + 5 * SECOND), "test": None}),
        **common,
    )
    by_key = sets.from_lookups(
        "split", labels=ids(*records[:4]), splits=KeySplits({"train": 1, "test": 1}, "driver_id"), **common
    )
    assert {"train": 10, "test": 10} == by_time.splits
    assert 8 == sum(by_key.splits.values())
    found = sets.diff("split@v1", "split@v2")
    assert (("lookup_id", "lookup_row"), 8, 20) == (found.keys, found.rows_both, found.rows_before)


def test_the_rpc_and_writer_do_not_matter(log, sets):
    """Answers in every dialect and of several writers are rows alike, in the order of served_at."""
    records = [answered([at], at, rpc=rpc) for at, rpc in enumerate(Rpc)]
    for at, record in enumerate(records):
        write_segment(log, [record], writer=WriterId(at, NOON))
    made = sets.from_lookups("dialects", service="fraud", labels=ids(*records))
    assert [(at, 10 * at, at + 1) for at in range(len(records))] == rows_of(made, "driver_id", "trips", "label")


WRONG = {
    "an unknown service": ({"service": "nothing"}, InvalidArgument, "has no lookups"),
    "labels without an id": ({"labels": pa.table({"label": [1]})}, InvalidArgument, "name the columns of keys"),
    "keys without a window": ({"on": ["driver_id"]}, InvalidArgument, "window"),
    "keys without a time": (
        {"on": ["driver_id"], "window": timedelta(1), "labels": pa.table({"driver_id": [1]})},
        InvalidArgument,
        "need the time of each",
    ),
    "a key of another type": (
        {
            "on": ["driver_id"],
            "window": timedelta(1),
            "labels": pa.table({"driver_id": ["1"], "at": pa.array([0], pa.timestamp("us"))}),
        },
        InvalidArgument,
        "lookups were asked by int64",
    ),
    "a window for an id": ({"window": timedelta(1)}, InvalidArgument, "leave it out"),
    "a label that is called as a feature": (
        {"labels": pa.table({"lookup_id": ["a"], "trips": [1]})},
        InvalidArgument,
        "rename it",
    ),
    "a feature that was not served": ({"features": ["driver:age"]}, InvalidArgument, "no lookup"),
    "a feature that is not there": ({"features": ["driver:age"], "fill": "point-in-time"}, UnknownName, "driver"),
    "no time at all": ({"since": from_micros(NOON), "until": from_micros(NOON)}, InvalidArgument, "not after"),
    "another fill": ({"fill": "zero"}, InvalidArgument, "point-in-time"),
    "no log": ({"log_dir": "/nowhere"}, SealError, "no log of lookups"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_built_is_refused(log, sets, what):
    """What cannot be built is refused in words that say what to do, and leaves no set."""
    changed, error, said = WRONG[what]
    one = answered([1])
    write_segment(log, [one])
    labels = ids(one).append_column("driver_id", [[1]]).append_column("at", pa.array([0], pa.timestamp("us")))
    usual = labels if "on" in changed else ids(one)
    with pytest.raises(error, match=said):
        sets.from_lookups(**{"name": "wrong", "service": "fraud", "labels": usual, **changed})
    assert [] == sets.list()


def saved_sets(root):
    """The saved data sets of a repo's registry, by name."""
    store = FeatureStore(repo_path=str(root))
    try:
        return {one.name: one for one in store.list_saved_datasets()}
    finally:
        close(store)


def test_a_set_of_lookups_is_listed_by_feast(repo, log, sets):
    """Feast lists a set of lookups with its service, its features and its times, unless it is not to be registered, and no more when it was removed."""
    one, other = answered([1]), answered([2], 3)
    write_segment(log, [one, other])
    made = sets.from_lookups("listed", service="fraud", labels=ids(one, other))
    quiet = sets.from_lookups("listed", service="fraud", labels=ids(one, other), register=False)
    listed = saved_sets(repo)
    found = listed[made.ref]
    assert (False, "fraud", ["driver:trips", "driver:rating", "driver:city"], made.id) == (
        quiet.ref in listed,
        found.feature_service_name,
        found.features,
        found.tags["hindcast.id"],
    )
    assert [NOON, NOON + 3 * SECOND] == [to_micros(at) for at in (found.min_event_timestamp, found.max_event_timestamp)]
    sets.remove(made.ref)
    sets.register(quiet.ref)
    assert [quiet.ref] == list(saved_sets(repo))


def test_a_set_of_lookups_can_be_a_delta_table(grown, sets):
    """As a Delta table a set of lookups has the digest that it has as Parquet, other readers find its rows, and a rebuild gives the same files."""
    asked = {"labels": ids(*grown), "fill": "point-in-time", **LATE}
    plain = sets.from_lookups("plain", **asked)
    made = sets.from_lookups("table", format="delta", **asked)
    rows = deltalake.DeltaTable(made.path / "data").to_pyarrow_table().to_pylist()
    assert (plain.digest, plain.to_arrow().to_pylist(), 0) == (made.digest, rows, made.manifest.delta_version)
    report = sets.rebuild(made.ref)
    assert (True, True, True) == (report.identical, report.files_identical, sets.verify(made.ref).intact)


def test_the_commit_is_in_the_manifest_unless_it_is_not_to_be(repo, log, sets):
    """A set of lookups says at which commit the repo was, and with `git=False` does not."""
    one = answered([1])
    write_segment(log, [one])
    git = ["git", "-C", str(repo), "-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "Begin"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    made, without = (
        sets.from_lookups("commit", service="fraud", labels=ids(one), git=has_git) for has_git in (True, False)
    )
    assert (head, None) == (made.manifest.git.commit, without.manifest.git)


def test_a_set_of_lookups_is_told_as_lineage(grown, repo, sets, monkeypatch, tmp_path):
    """START and COMPLETE of a set of lookups are sent, the latter with the log's tables, the labels' file, the sources of filled cells, and the set."""
    write(repo / "labels.parquet", ids(*grown))
    config = {"transport": {"type": "file", "log_file_path": str(tmp_path / "events.json"), "append": True}}
    (tmp_path / "openlineage.yml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    made = sets.from_lookups("told", labels=repo / "labels.parquet", fill="point-in-time", **LATE)
    began, ended = map(json.loads, (tmp_path / "events.json").read_text().splitlines())
    tables = [(str(repo / one.path), str(one.version)) for one in made.manifest.lookups.log.tables]
    files = [*tables, (str(repo / "labels.parquet"), made.manifest.lookups.labels.frame.digest)]
    assert ("START", [], "COMPLETE") == (began["eventType"], began["inputs"], ended["eventType"])
    assert [("rides", "ratings"), *(("file", name) for name, _ in files)] == [
        (one["namespace"], one["name"]) for one in ended["inputs"]
    ]
    assert [version for _, version in files] == [
        one["facets"]["version"]["datasetVersion"] for one in ended["inputs"][1:]
    ]
    assert made.digest == ended["outputs"][0]["facets"]["version"]["datasetVersion"]


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_rows_of_lookups_that_are_gone_are_made_again(grown, repo, sets, form):
    """Where the files of a set's rows are gone, who was told its digest gets them from the log, the labels and the sources; of a Delta table a table."""
    made = sets.from_lookups("gone", labels=ids(*grown), fill="point-in-time", format=form, **LATE)
    rows = made.to_arrow()
    shutil.rmtree(made.path / "data")
    found = proven(made.ref, set_id=made.id, digest=made.digest, directory=sets.directory, repo=repo)
    assert (made.id, rows, False) == (found.id, found.to_arrow(), (made.path / "data").exists())
    if form == "delta":
        table = deltalake.DeltaTable(found.path / "data").to_pyarrow_table()
        assert rows.to_pylist() == table.to_pylist()


def test_gone_rows_of_somebody_who_was_erased_do_not_come_back(repo, log, sets):
    """Where the files of a set's rows are gone and a row of it was erased from the log, nothing is given, and the tombstone is named."""
    one, other = answered([1]), answered([2], 1)
    write_segment(log, [one, other])
    made = sets.from_lookups("forgotten", service="fraud", labels=ids(one, other))
    erased = erase(log, key="driver_id", value="2", repo_root=repo)
    shutil.rmtree(made.path / "data")
    with pytest.raises(NotProven, match=f"erasure tombstones/{erased.tombstone.name} .erased."):
        proven(made.ref, set_id=made.id, digest=made.digest, directory=sets.directory, repo=repo)
    change = sets.rebuild("forgotten").first_change
    assert ("erasure", None, 0) == (change.kind, change.has_effect, change.rows)


def test_the_command_builds_shows_and_rebuilds(repo, log):
    """`hindcast dataset from-lookups` builds the set, `show` says what it is made of, and `rebuild` ends with 0."""
    records = [answered([1]), answered([2], 1)]
    write_segment(log, records)
    labels = pa.table(
        {
            "driver_id": [1, 2],
            "at": pa.array([from_micros(NOON + 2 * SECOND)] * 2, pa.timestamp("us", "UTC")),
            "label": [0, 1],
        }
    )
    write(repo / "labels.parquet", labels)

    def run(*arguments):
        done = CliRunner().invoke(dataset, [*arguments, "--repo", str(repo)])
        assert 0 == done.exit_code, done.output
        return done.stdout

    more = ["--format", "delta", "--no-register", "--no-git"]
    joined = ["--labels", "labels.parquet", "--on", "driver_id", "--window", "1h", "--since", "2026-11-01"]
    built = json.loads(
        run("from-lookups", "cli", "--service", "fraud", *joined, *more, "--until", "2026-11-02", "--output", "json")
    )
    assert (2, 2, 0, {}) == (
        built["rows"],
        built["lookups"]["labels"]["used"],
        built["delta_version"],
        saved_sets(repo),
    )
    assert "2 of 2 by key" in run("show", "cli")
    assert "identical" in run("rebuild", "cli")
