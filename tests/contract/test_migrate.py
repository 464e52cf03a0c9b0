"""What Feast wrote, migrated: whatever is defined and written, packed rows answer as Feast's own rows did."""

import tempfile
from pathlib import Path

from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from hypothesis import Phase, given, settings

from feast_writer import hash_fields, hash_key
from hindcast.catalog import load_catalog, read_repo
from hindcast.clock import from_micros, system_clock
from hindcast.online.layouts import LayoutName
from hindcast.online.migration import MigrationSettings, migrate
from hindcast.v1.value_pb2 import Value
from strategies import repos
from twins import FEAST_DB, SERVICE, asked_of_feast, asked_of_hindcast, build, feast_rows, plain_bytes, twins, write

# Rows of any age stay: what the packed store lets go is another test's matter.
ALL_STAY = ", ttl_grace_seconds: 4000000000"


def moved(stores):
    """The report of a migration from Feast's store to the packed one."""
    source = f"{stores.redis.connection_string},db={FEAST_DB}"
    return migrate(MigrationSettings(repo_root=stores.root, source=source), progress=lambda *_: None)


def answered(stores, questions, layout):
    """The answers' bytes, without the moment they were given at."""
    answers = stores.lookup(*questions, layout=layout)
    answers[1].ClearField("served_at")
    return [plain_bytes(answer) for answer in answers]


# An example applies a repo, so shrinking would take minutes; a failure prints the draft that failed.
@settings(max_examples=20, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(draft=repos())
def test_any_repo_answers_the_same_after_its_migration(shared_redis, draft):
    """All types, nulls, composite keys and entity-less views: values, statuses and times are the same from both layouts."""
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), shared_redis, options=ALL_STAY) as stores:
        stores.apply(build(draft))
        for view, row in feast_rows(draft, now_micros=system_clock()):
            write(stores.plain, view, [row])

        report = moved(stores)

        assert report.equal
        assert report.source_digest == report.target_digest
        assert report.totals["copied"] == report.totals["rows"]
        assert bool(draft.rows) == bool(report.totals["rows"])
        if draft.question:
            questions = [ask(SERVICE, draft.question, full_names=True) for ask in (asked_of_feast, asked_of_hindcast)]
            assert answered(stores, questions, LayoutName.FEAST) == answered(stores, questions, LayoutName.PACKED)


@settings(max_examples=20, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(draft=repos())
def test_the_tests_own_rows_are_feasts(shared_redis, draft):
    """The writer of quick tests puts under each row's key, byte for byte, the fields that Feast puts there."""
    with tempfile.TemporaryDirectory() as folder, twins(Path(folder), shared_redis) as stores:
        stores.apply(build(draft))
        views = load_catalog(read_repo(stores.root)).views
        now = system_clock()
        client = shared_redis.client(db=FEAST_DB)
        for row in draft.rows:
            view = views[row.view]
            (keys,) = (of.join_keys for of in draft.views if of.name == row.view)
            by_name = dict(zip(keys, row.key, strict=True))
            event_micros = now - row.age_micros
            names = list(keys) or ["__dummy_id"]
            values = [FeastValue.FromString(value) for value in row.key] or [FeastValue(string_val="")]
            features = {name: FeastValue.FromString(value) for name, value in row.values.items()}
            client.flushdb()

            write(
                stores.plain,
                row.view,
                [(EntityKey(join_keys=names, entity_values=values), features, from_micros(event_micros), None)],
            )

            ours = [Value.FromString(by_name[key.name]) for key in view.join_keys]
            written = {name: Value.FromString(value) for name, value in row.values.items()}
            (key,) = client.scan_iter()
            assert hash_key("twins", view, ours) == key
            assert hash_fields(view, written, event_micros) == client.hgetall(key)
        client.close()
