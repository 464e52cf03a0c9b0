"""`hindcast materialize` and `hindcast generations`: what they do to the rows of a view, and say of it."""

import json

import pytest
from click.testing import CliRunner

from faults.repos import PROJECT, make_repo, store_rows
from hindcast.cli.main import cli
from hindcast.clock import system_clock
from hindcast.online.generations import GenerationsOf
from hindcast.online.keys import generations_key, view_prefix
from hindcast.v1.value_pb2 import Value

HOUR = 3_600_000_000


@pytest.fixture
def client(redis):
    """Its client, on an empty Redis."""
    with redis.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def repo(tmp_path, redis, client):
    """A repo on packed rows."""
    return make_repo(tmp_path / "repo", redis.connection_string)


def command(repo, *arguments):
    """Exit code, output and error output."""
    name, *options = arguments
    done = CliRunner().invoke(cli, [name, "--repo", str(repo), *options])
    return done.exit_code, done.stdout, done.stderr


def shown(repo, view="driver"):
    """What `hindcast generations` says of one view."""
    code, output, _ = command(repo, "generations", "--view", view, "--output", "json")
    assert code == 0
    (entry,) = json.loads(output)
    return entry


def generations(client, *, ago=0):
    """By a clock that is some microseconds behind."""
    return GenerationsOf(client, project=PROJECT, clock=lambda: system_clock() - ago)


def fill(redis, generation, *, rows=3):
    """Rows of a generation."""
    store_rows(
        redis.connection_string,
        "driver",
        [(Value(int64_val=at), {"trips": Value(int64_val=generation)}) for at in range(rows)],
        generation=generation,
    )


def replaced(client, redis, *, ago=0):
    """Replace the view once; the generation that is served then."""
    of_project = generations(client, ago=ago)
    generation = of_project.begin_build("driver", builder="019b0c5e-8a00-7000-8000-000000000000")
    fill(redis, generation)
    of_project.flip("driver", generation)
    return generation


def rows_of(client, generation):
    """How many rows a generation has."""
    return sum(1 for _ in client.scan_iter(match=view_prefix(PROJECT, "driver", generation) + b"*"))


def test_views_that_were_never_replaced(repo):
    """Every view of the registry is shown, and serves generation 0."""
    code, output, errors = command(repo, "generations", "--output", "json")
    views = {entry["view"]: entry for entry in json.loads(output)}
    assert (0, "") == (code, errors)
    assert {"driver", "driver_week", "platform"} <= views.keys()
    untouched = {"view": "driver", "serving": 0, "since": None, "building": None, "builder": None}
    assert {**untouched, "previous": None, "previous_until": None, "going": []} == views["driver"]


def test_a_build_that_is_under_way_is_shown_and_can_be_given_up(repo, client, redis):
    """The run that builds is named; giving it up deletes what it wrote, and giving up nothing says so."""
    generations(client).begin_build("driver", builder="some run")
    fill(redis, 1)
    code, output, _ = command(repo, "generations", "--view", "driver")
    head, line = output.splitlines()
    assert (0, ["view", "serving", "since"]) == (code, head.split()[:3])
    assert ["driver", "0", "-", "1", "(run", "some", "run)", "-", "-", "-"] == line.split()
    given_up = "view driver: generation 1 is given up, and 3 rows of it are deleted\n"
    assert (0, given_up, "") == command(repo, "materialize", "--abandon", "driver")
    assert 0 == rows_of(client, 1)
    assert (0, "view driver: no replace is under way\n", "") == command(repo, "materialize", "--abandon", "driver")


def test_a_rollback_serves_the_rows_before(repo, client, redis):
    """After a replace the old rows are served again, and after another rollback the new ones; without old rows it fails and says why."""
    fill(redis, 0)
    replaced(client, redis)
    for serving, previous in ((0, 1), (1, 0)):
        assert (0, f"view driver: generation {serving} is served again\n", "") == command(
            repo, "materialize", "--rollback", "driver"
        )
        entry = shown(repo)
        assert (serving, previous) == (entry["serving"], entry["previous"])
    assert (
        1,
        "",
        (
            "hindcast: view 'driver_week' has no earlier generation to go back to: it is kept for --keep-old-seconds after a "
            "replace, and there was none, or its time is over\n"
        ),
    ) == command(repo, "materialize", "--rollback", "driver_week")


def test_old_rows_are_dropped_when_told(repo, client, redis):
    """Old rows go before their time when they are told to, and what is served stays."""
    fill(redis, 0)
    replaced(client, redis, ago=HOUR // 60)
    gone = "view driver: generation 0 is gone, with 3 rows\n"
    assert (0, gone, "") == command(repo, "materialize", "--drop-old", "driver")
    assert (0, 3) == (rows_of(client, 0), rows_of(client, 1))
    assert (0, "view driver: there are no old rows\n", "") == command(repo, "materialize", "--drop-old", "driver")


def test_json_says_what_was_done(repo, client, redis):
    """Rollbacks, old rows that are dropped and replaces that are given up are told to programs too, and so is that there was nothing to do."""

    def told(*options):
        code, output, errors = command(repo, "materialize", *options, "--output", "json")
        assert (0, "") == (code, errors)
        return json.loads(output)

    fill(redis, 0)
    replaced(client, redis, ago=HOUR // 60)
    assert {"view": "driver", "serving": 0} == told("--rollback", "driver")
    assert {"view": "driver", "serving": 1} == told("--rollback", "driver")
    generations(client).begin_build("driver_week", builder="some run")
    assert {"view": "driver_week", "abandoned": 1, "rows": 0} == told("--abandon", "driver_week")
    assert {"view": "driver_week", "abandoned": None, "rows": 0} == told("--abandon", "driver_week")
    assert {"view": "driver_week", "dropped": []} == told("--drop-old", "driver_week")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "take one of --replace, --rollback, --drop-old and --abandon, with the name of a view"),
        (("--rollback", "driver", "--drop-old", "driver"), "take one of --replace"),
        (("--rollback", "driver", "--start", "2026-03-01"), "--start, --end and --take-over go with --replace"),
        (("--replace", "driver", "--start", "2026-03-02", "--end", "2026-03-01T12:00:00Z"), "--start is after --end"),
        (
            ("--replace", "driver", "--end", "soon"),
            "'soon' is no time; write 2026-11-01T12:00:00 (UTC where no zone is given)",
        ),
        (("--replace", "driver", "--keep-old-seconds", "9"), "9 is not in the range 10<=x<=315360000"),
        (("--rollback", "nowhere"), "view 'nowhere' is not in the registry; there are "),
        (("--replace", "asleep"), "view 'asleep' has no rows of its own: "),
    ],
)
def test_bad_usage(repo, client, options, message):
    """What cannot be meant is said so with exit code 2, and changes nothing."""
    code, output, errors = command(repo, "materialize", *options)
    assert (2, "") == (code, output)
    assert message in errors
    assert not client.exists(generations_key(PROJECT))


def test_a_repo_on_feasts_layout_has_no_generations(repo):
    """Feast's own rows cannot be replaced as a whole; the message says what to change."""
    config = repo / "feature_store.yaml"
    config.write_text(config.read_text().replace("hindcast.online.plugin.PackedRedisOnlineStore", "redis"))
    for arguments in (("materialize", "--rollback", "driver"), ("generations",)):
        assert (
            2,
            "",
            (
                f"hindcast: {config} has online_store.type 'redis', whose rows have one generation only; change it to "
                "hindcast.online.plugin.PackedRedisOnlineStore, see docs/migration.md\n"
            ),
        ) == command(repo, *arguments)


def test_a_damaged_document_is_said_to_be_damaged(repo, client):
    """A key of generations that holds something else is named, with exit code 1, and stays as it is."""
    client.set(generations_key(PROJECT), b"{")
    for arguments in (("materialize", "--rollback", "driver"), ("generations",)):
        code, output, errors = command(repo, *arguments)
        assert (1, "") == (code, output)
        assert "the key hc:tiny::generations in Redis" in errors
    assert b"{" == client.get(generations_key(PROJECT))
