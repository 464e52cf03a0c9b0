"""One digest: whatever threads, hash seed, locale, time zone and working directory a training set is made under."""

import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pyarrow as pa

from dataset_repo import definitions, ratings
from hindcast.clock import to_micros
from hindcast.datasets import KeySplits, TrainingSets
from offline_repo import NOON, UTC_MICROS, hours, offline_repo, write

DRIVERS, ROWS, ASKED = 500, 10_000, 70_000  # two row groups, and many rows of equal times
SPLITS = KeySplits({"train": 3, "test": 1}, "driver_id", seed=3)
SETTINGS = (
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"},
    {"PYTHONHASHSEED": "4", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"},
)

SCRIPT = """
import sys
from datetime import datetime, UTC
from hindcast.datasets import KeySplits, TrainingSets

repo, sets = sys.argv[1:]
report = TrainingSets(repo).rebuild("rides@v1")
print(report.id, report.digest, report.files_identical)
for threads in (1, 2, 4):
    made = TrainingSets(repo, sets).build(
        "rides",
        features="rides",
        entity_frame=f"{repo}/data/labels.parquet",
        known_at=datetime(2026, 3, 3, 12, tzinfo=UTC),
        splits=KeySplits({"train": 3, "test": 1}, "driver_id", seed=3),
        threads=threads,
    )
    print(made.id, made.digest, TrainingSets(repo, sets).verify(made.ref).intact)
"""


def make_large_repo(root):
    """Two sources of two parts each, whose times often are equal, and a frame of 70,000 rows with words of several scripts."""
    chance = np.random.default_rng(5)
    for part in range(2):
        rows = zip(
            chance.integers(0, DRIVERS, ROWS), chance.integers(0, 48, ROWS), chance.integers(1, 99, ROWS), strict=True
        )
        drivers, at, counts = zip(*((int(driver), int(hour), int(count)) for driver, hour, count in rows), strict=True)
        table = {
            "driver_id": pa.array(drivers),
            "event_timestamp": pa.array(map(hours, at), UTC_MICROS),
            "trips": pa.array(counts),
        }
        write(root / f"data/trips.parquet/{part}.parquet", pa.table(table))
        created = [hour + int(late) for hour, late in zip(at, chance.integers(0, 3, ROWS), strict=True)]
        values = [None if count % 9 == 0 else float("nan") if count % 7 == 0 else count / 7 for count in counts]
        write(root / f"data/ratings.parquet/{part}.parquet", ratings(*zip(drivers, at, values, created, strict=True)))
    asked_at = to_micros(NOON) + chance.integers(0, 48 * 3_600_000_000, ASKED)
    labels = {
        "driver_id": pa.array(chance.integers(0, DRIVERS + 9, ASKED)),
        "event_timestamp": pa.array(asked_at, UTC_MICROS),
        "amount": pa.array(chance.random(ASKED)),
        "city": pa.array(chance.choice(["İzmir", "ISPARTA", "\u0131rmak", "Kāṭhmāḍau~", "St. John's", ""], ASKED)),
    }
    write(root / "data/labels.parquet", pa.table(labels))
    with offline_repo(root) as store:
        store.apply(definitions())


def test_a_set_is_the_same_for_every_number_of_threads_and_every_setting_of_a_process(tmp_path):
    """Two processes of different hash seeds, time zones, locales and directories build one set with 1, 2 and 4 threads, and make a given one again."""
    root = tmp_path / "repo"
    make_large_repo(root)
    made = TrainingSets(root).build(
        "rides",
        features="rides",
        entity_frame=str(root / "data/labels.parquet"),
        known_at=NOON + timedelta(days=2),
        splits=SPLITS,
    )
    running = []
    for number, settings in enumerate(SETTINGS):
        place = tmp_path / f"process-{number}"
        place.mkdir()
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, root, place / "sets"]
        running.append(
            subprocess.Popen(command, env=os.environ | settings, cwd=place, stdout=subprocess.PIPE, text=True)
        )
    found = [process.communicate()[0] for process in running]
    assert 2 * [4 * f"{made.id} {made.digest} True\n"] == found
    assert made.to_arrow(columns=["rating"])["rating"].null_count < ASKED / 2
