"""A manifest of a training set, with something in every field."""

from hindcast.datasets.definitions import (
    Definitions,
    Feature,
    Key,
    OnDemandRecord,
    SourceDefinition,
    ViewRecord,
)
from hindcast.datasets.manifest import (
    CatalogRecord,
    Column,
    EvidenceRecord,
    FileRecord,
    FrameRecord,
    GitRecord,
    GroupRecord,
    KnownAt,
    LabelsRecord,
    LeakRecord,
    LogRecord,
    LogTableRecord,
    LookupsRecord,
    LossRecord,
    Manifest,
    ModuleRecord,
    ServedRecord,
    SourceRecord,
    SplitsRecord,
    WriterRecord,
)
from hindcast.datasets.statistics import ColumnStatistics


def sha(letter):
    """A digest of one digit."""
    return f"sha256:{letter * 64}"


def file(path, letter):
    """A file of 1,000 bytes."""
    return FileRecord(path=path, bytes=1_000, sha256=letter * 64)


def make_manifest():
    """One with something in every field, and text that is not ASCII."""
    trips = ViewRecord(
        name="trips",
        keys=(Key(name="driver_id", column="driver", value_type="Int64"),),
        features=(Feature(name="trips", column="trips", value_type="Int64"),),
        ttl_micros=3_600_000_000,
        source=SourceDefinition(
            name="trips",
            kind="file",
            path="data/trips.parquet",
            file_format="parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
            field_mapping={"n": "trips", "drv": "driver_id"},
        ),
    )
    checks = OnDemandRecord(
        name="checks",
        mode="pandas",
        singleton=False,
        inputs=("amount", "trips:trips"),
        features=(Feature(name="per_trip", column="per_trip", value_type="Float64"),),
        code="def checks(inputs): ...\n",
        spec="c3BlYw==",
    )
    definitions = Definitions(
        service="rides",
        refs=("trips:trips", "checks:per_trip"),
        full_feature_names=False,
        views=(trips,),
        on_demand=(checks,),
    )
    return Manifest(
        name="rides",
        features=("rides",),
        known_at=KnownAt(kind="time", micros=1_772_366_400_000_000),
        splits=SplitsRecord(kind="key", names=("train", "test"), parts=(80, 20), keys=("driver",), seed=7, rows=(2, 1)),
        frame=FrameRecord(
            form="path",
            text="data/Fahrgäste.parquet",
            is_kept=False,
            files=(file("data/Fahrgäste.parquet", "a"),),
            columns=("driver", "event_timestamp", "amount"),
            as_of="event_timestamp",
            rows=3,
            digest=sha("b"),
        ),
        sources=(
            SourceRecord(
                name="trips", path="data/trips.parquet", views=("trips",), files=(file("data/trips.parquet", "c"),)
            ),
        ),
        definitions=definitions,
        definitions_digest=f"sha256:{definitions.digest()}",
        definition_digests={name: f"sha256:{digest}" for name, digest in definitions.digests().items()},
        code_digests={"checks": f"sha256:{checks.code_sha256}"},
        modules=(ModuleRecord(path="amounts.py", sha256="7" * 64, views=("checks",)),),
        git=GitRecord(commit="d" * 40, is_dirty=True, changed=("views.py",)),
        libraries={"python": "3.11.7", "duckdb": "1.4.5"},
        columns=(Column(name="driver", type="int64"), Column(name="trips", type="int64")),
        rows=3,
        digest=sha("e"),
        groups=(GroupRecord(rows=3, digest=sha("f")),),
        files=(file("data/part-00000.parquet", "0"),),
        delta_version=0,
        evidence=EvidenceRecord(
            origins=(file("evidence/origins/part-00000.parquet", "1"),),
            snapshots={"trips": file("evidence/snapshot-000/part-00000.parquet", "2")},
        ),
        leaks=(LeakRecord(view="trips", found=3, rows=1, worst_micros=7_200_000_000),),
        statistics=(
            ColumnStatistics(
                name="trips",
                kind="number",
                rows=3,
                nulls=1,
                distinct=2,
                minimum="10",
                maximum="12",
                mean="11",
                deviation="1.4142135623730951",
                quantiles=(("0.5", "11"),),
            ),
        ),
        lookups=LookupsRecord(
            service="rides",
            since_micros=None,
            until_micros=1_793_534_400_000_000,
            log=LogRecord(
                path=".hindcast/lookups",
                tables=(
                    LogTableRecord(path=".hindcast/lookups/tables/_records", version=7),
                    LogTableRecord(path="logs", version=None),
                ),
                writers=(WriterRecord(writer="0000-00065f35c4cdf000", last_sequence=12),),
                catalogs=(CatalogRecord(version=sha("3"), rows=3, sample_rate="0.25"),),
                answered=2,
                failed=1,
                erased=1,
                rows=3,
                unsealed=1,
                modes={"batched": 3, "best_effort": 1},
                losses=(LossRecord(writer="0000-00065f35c4cdf000", first_sequence=5, lookups=None, reason="overflow"),),
            ),
            labels=LabelsRecord(
                frame=FrameRecord(
                    form="rows",
                    is_kept=True,
                    files=(file("labels/part-00000.parquet", "4"),),
                    columns=("driver_id", "at", "label"),
                    as_of="at",
                    rows=4,
                    digest=sha("5"),
                ),
                on="key",
                columns=("driver_id",),
                row="",
                window_micros=3_600_000_000,
                pick="first",
                keeps_unlabeled=False,
                used=1,
                superseded=1,
                unknown=1,
                without_key=1,
                unlabeled=2,
                open_windows=1,
            ),
            asked=("trips:trips",),
            features=(ServedRecord(column="trips", view="trips", feature="trips", served=2, filled=1, lacking=0),),
            fill="point-in-time",
            has_statuses=True,
            has_ages=False,
            places=(file("evidence/lookups/part-00000.parquet", "6"),),
        ),
    )
