"""The demo, as `make demo` runs it."""

import re
import subprocess
import sys


def test_the_demo_ends_by_itself_and_tells_the_whole_story(checkout):
    """`demo/run.py` exits 0, ends the Redis it started, and has served, shown a receipt, replayed, trained, and made a training set again: the same, and not the same."""
    done = subprocess.run(
        [sys.executable, "demo/run.py"], cwd=checkout, capture_output=True, text=True, check=False, timeout=300
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "logged       batched, as record 1 of writer" in done.stdout
    assert "equal: all 58 values are those of the offline store, bit for bit" in done.stdout
    assert "✓ built fraud@v1: 2,000 rows, 37 columns" in done.stdout
    assert "✓ fraud@v1 is identical: the same rows, and the same bytes in every file" in done.stdout
    assert "first change: source file data/account_profile.parquet was changed" in done.stdout
    assert re.search(r"  account_profile__risk_score: 0\.\d+ → 0\.\d+  changed value$", done.stdout, re.MULTILINE)
    assert (checkout / "demo/out/feature_repo/.hindcast/datasets/fraud/v1/manifest.json").is_file()
    assert ["data/account_profile.parquet"] == [
        str(path.relative_to(checkout / "demo/out/feature_repo"))
        for path in (checkout / "demo/out/feature_repo/data").glob("account_profile*")
    ]
    assert not (checkout / "demo/out/feature_repo/.hindcast/redis/redis.sock").exists()
    assert "" == done.stderr
