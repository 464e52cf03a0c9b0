"""The demo, as `make demo` runs it."""

import subprocess
import sys


def test_the_demo_ends_by_itself_and_tells_the_whole_story(checkout):
    """`demo/run.py` exits 0, ends the Redis it started, and has served, shown a receipt, trained and replayed."""
    done = subprocess.run(
        [sys.executable, "demo/run.py"], cwd=checkout, capture_output=True, text=True, check=False, timeout=300
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "logged       batched, as record 1 of writer" in done.stdout
    assert "equal: all 58 values are those of the offline store, bit for bit" in done.stdout
    assert "2,000 rows" in done.stdout
    assert (checkout / "demo/out/training_set.parquet").is_file()
    assert not (checkout / "demo/out/feature_repo/.hindcast/redis/redis.sock").exists()
    assert "" == done.stderr
