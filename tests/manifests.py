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
    Column,
    EvidenceRecord,
    FileRecord,
    FrameRecord,
    GitRecord,
    GroupRecord,
    KnownAt,
    LeakRecord,
    Manifest,
    SourceRecord,
    SplitsRecord,
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
    )
