"""The main job, end to end: what `make demo` runs. Every step is a command or a call that a user would make.

It works in demo/out, anew each time, on an embedded Redis that it ends again; it changes nothing else.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pandas as pd
import pyarrow.parquet as pq

from change import change, undo
from generate import LiveEntity, generate
from hindcast.cli.dataset_text import built_text, rebuild_text
from hindcast.clock import system_clock
from hindcast.datasets import KeySplits, TrainingSet, TrainingSets
from hindcast.replay import replay
from hindcast.replay.replay_text import replay_text
from hindcast_client import Client

DEMO = Path(__file__).resolve().parent
OUT = DEMO / "out"
REPO = OUT / "feature_repo"
BIN = Path(sys.executable).parent
SERVICE = "payment_risk"
STEPS = 10
SHOWN_LINES = 9


def main() -> int:
    """Run every step; the exit code is 0 only if all of them did what they say."""
    began = time.monotonic()
    print("Hindcast: Feast, with receipts. A payments company asks, while a card waits: is this fraud?")
    live = step_data()
    try:
        step_apply()
        step_materialize()
        with step_serve() as address:
            lookup_id = step_lookup(address, live)
            step_receipt(lookup_id)
            step_replay(lookup_id)
        training_set = step_training_set()
        step_rebuild(training_set)
        step_change(training_set)
    finally:
        run("hindcast", "redis", "stop", "--repo", str(REPO))
    print(f"\nDone in {time.monotonic() - began:.0f} s. The training set is in {shown(training_set.path)}.")
    print("To do the same by hand: README.md, 'Five minutes'. To keep a server running: make serve.")
    return 0


def step_data() -> tuple[LiveEntity, ...]:
    """Write the sources."""
    begin(1, "Thirty days of payments, as Parquet files")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(
        DEMO.parent / "feature_repo", REPO, ignore=shutil.ignore_patterns("data", ".hindcast", "__pycache__")
    )
    report = generate(REPO, end=datetime.now(UTC).replace(second=0, microsecond=0))
    for table in report.tables:
        say(
            f"{table.name:<17}{table.rows:>7,} rows, {table.late:>5,} arrived late, {table.corrections:>5,} corrections"
        )
    say("Keys that run together, such as ('1', '23') and ('12', '3'), nulls and exact duplicates included.")
    return report.live


def step_apply() -> None:
    """Register the definitions."""
    begin(2, "feast apply: the definitions go into Feast's registry")
    run("feast", "apply", cwd=REPO)
    listed = run("feast", "feature-services", "list", cwd=REPO)
    services = [line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("NAME")]
    say(f"feature services: {', '.join(sorted(services))}")


def step_materialize() -> None:
    """Load the online store."""
    begin(3, "feast materialize-incremental: from DuckDB into Redis, newest row of each key wins")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    run("feast", "materialize-incremental", now, cwd=REPO)
    say("Redis is this repo's own, started beside it (connection_string: embedded).")


@contextlib.contextmanager
def step_serve() -> Iterator[str]:
    """Serve until the block ends; gives the address."""
    begin(4, "hindcast serve: two workers share a port")
    command = [BIN / "hindcast", "serve", "--repo", REPO, "--address", "127.0.0.1:0", "--workers", "2"]
    with (OUT / "serve.log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = server.stdout.readline().strip() if server.stdout else ""
            if not line.startswith("serving"):
                raise SystemExit(f"the server did not start; see {shown(OUT / 'serve.log')}")
            say(line)
            yield line.split(" on ")[1].split(" ")[0]
        finally:
            server.terminate()
            server.communicate(timeout=30)


def step_lookup(address: str, live: tuple[LiveEntity, ...]) -> str:
    """Ask for features of two payments; gives the lookup's id."""
    begin(5, "Two payments wait. What is known about them?")
    asked = pd.DataFrame(
        {
            "account_id": [entity.account_id for entity in live[:2]],
            "merchant_id": [entity.merchant_id for entity in live[:2]],
            "device_id": [entity.device_id for entity in live[:2]],
            "amount": [25.0, 2_500.0],
            "card_country": ["DE", "BR"],
        }
    )
    keys = ["account_id", "merchant_id", "device_id"]
    with Client(address) as client:
        client.get_server_info()
        began = time.perf_counter()
        answer = client.get_online_features(
            features=SERVICE, entities=asked[keys], request_data=asked.drop(columns=keys), tags={"model": "demo"}
        )
        took_ms = (time.perf_counter() - began) * 1000
    columns = answer.to_dict()
    for name in ["account_id", "merchant_id", *answer.names[:8], "amount_to_mean", "card_is_foreign"]:
        say(f"{name:<20} {columns[name][0]!s:>22} {columns[name][1]!s:>22}")
    say(f"{len(answer.names)} features x {len(answer)} rows in {took_ms:.1f} ms; lookup {answer.lookup_id}")
    return str(answer.lookup_id)


def step_receipt(lookup_id: str) -> None:
    """Read what the log has of it."""
    begin(6, f"hindcast receipt {lookup_id}: what did the model see, and where was it from?")
    show(run("hindcast", "receipt", lookup_id, "--repo", str(REPO), "--rows", "1"))


def step_replay(lookup_id: str) -> None:
    """Ask the same again: offline as of the moment of the answer, and online as of now."""
    begin(7, f"hindcast replay {lookup_id}: was it the truth, and is it still?")
    warnings.simplefilter("ignore")  # Feast calls on-demand views experimental, at every use
    replayed = replay(REPO, lookup_id)  # in this process, which has Feast in it from now on; the command takes 5 s more
    show(replay_text(replayed, now_micros=system_clock(), rows_max=1))
    if not replayed.is_equal:
        raise SystemExit("what was served differs from the offline truth")


def step_training_set() -> TrainingSet:
    """Build a training set, each row as of its own time."""
    begin(8, "hindcast dataset build fraud: what was known at the time of 2,000 past payments")
    labels = REPO / "data" / "labels.parquet"
    made = TrainingSets(REPO).build(
        "fraud",
        features=SERVICE,
        entity_frame=labels,
        full_feature_names=True,
        splits=KeySplits({"train": 80, "test": 20}, by="account_id", seed=7),
    )
    payments = pq.read_metadata(labels).num_rows
    if payments != made.rows:
        raise SystemExit(f"{payments} payments gave {made.rows} rows; every payment must stand there once")
    say_all(built_text(made).replace(str(made.path), shown(made.path)))
    means = made.to_pandas().groupby("is_fraud")["amount_checks__amount_to_mean"].mean()
    say(f"  amount against the account's own mean: {means[True]:.2f}x where fraud, {means[False]:.2f}x elsewhere")
    return made


def step_rebuild(made: TrainingSet) -> None:
    """Make it again from its manifest."""
    begin(9, f"hindcast dataset rebuild {made.ref}: the same again, from the manifest alone?")
    report = TrainingSets(REPO).rebuild(made.ref)
    say_all(rebuild_text(report))
    if not (report.identical and report.files_identical):
        raise SystemExit("the training set did not come out the same")


def step_change(made: TrainingSet) -> None:
    """Change one row of a source, ask again, and put the row back."""
    begin(10, f"One row of a source is changed. hindcast dataset rebuild {made.ref}: which?")
    try:
        say(str(change(REPO, made)))
        report = TrainingSets(REPO).rebuild(made.ref)
    finally:
        undo(REPO)
    say_all(rebuild_text(report))
    first = report.first_change
    if report.identical or first is None or (first.kind, first.name) != ("source", "data/account_profile.parquet"):
        raise SystemExit("the rebuild did not name the source that was changed")


def run(program: str, *arguments: str, cwd: Path = OUT) -> str:
    """Run one of the environment's commands; its words are shown only if it fails."""
    done = subprocess.run(
        [BIN / program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
    )
    if done.returncode != 0:
        raise SystemExit(f"{program} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def begin(number: int, title: str) -> None:
    """Announce a step."""
    print(f"\n[{number}/{STEPS}] {title}", flush=True)


def say(line: str) -> None:
    """One line of a step."""
    print(f"      {line}", flush=True)


def say_all(page: str) -> None:
    """A page of a command, without its colours."""
    for line in click.unstyle(page).splitlines():
        print(f"      {line}".rstrip(), flush=True)


def show(page: str) -> None:
    """A command's page, of its table the first lines."""
    head, _, table = page.rstrip().partition("\n\n")
    lines = table.split("\n\n")[0].splitlines()
    shown_lines, left_out = lines[:SHOWN_LINES], len(lines) - SHOWN_LINES
    for line in [*head.splitlines(), "", *shown_lines, f"  … {left_out} more features, and the other payment"]:
        print(f"      {line}".rstrip(), flush=True)


def shown(path: Path) -> str:
    """A path as the reader, who stands in the checkout, would type it."""
    return str(path.relative_to(DEMO.parent))


if __name__ == "__main__":
    sys.exit(main())
