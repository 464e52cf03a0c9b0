"""What a supervisor does for the log beside its workers goes on after whatever fails of it, and takes nothing else down."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hindcast.lookups.directory import OPEN, SEALED, LogDirectory
from hindcast.lookups.seal_settings import SealSettings
from hindcast.lookups.sealing_process import has_work
from hindcast.serving import recovering
from hindcast.serving.companions import sealer
from hindcast.serving.recovering import Recovering
from sealing import make_failure, write_segment
from services import wait_for


async def until(condition) -> None:
    """Wait for a condition, while the loop goes on."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not hold within 20 s")


def sealers() -> list[psutil.Process]:
    """The sealing processes of this one."""
    children = psutil.Process().children()
    return [child for child in children if "hindcast.lookups.sealing_process" in child.cmdline()]


def test_a_sealer_that_cannot_be_started_is_tried_again(tmp_path, monkeypatch, caplog):
    """Without a process to be had the server goes on, says so, and has its sealer later."""
    settings = SealSettings(log_directory=str(tmp_path), repo_root=str(tmp_path), seconds=60)
    python = sys.executable

    async def run() -> list[psutil.Process]:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        keeping = asyncio.create_task(sealer(settings).keep())
        await until(lambda: "cannot be started" in caplog.text)
        monkeypatch.setattr(sys, "executable", python)
        await until(sealers)
        started = sealers()
        keeping.cancel()
        await asyncio.wait([keeping])
        return started

    (started,) = asyncio.run(run())
    assert "the sealer cannot be started (No such file or directory); another starts in 0.2 s" in caplog.text
    assert not started.is_running()


@pytest.mark.parametrize("how", ["terminate", "close"])
def test_a_sealer_ends_in_good_order(tmp_path, how):
    """A sealer that is told to end, by SIGTERM or by the end of its input, ends with code 0 and without a word."""
    settings = SealSettings(log_directory=str(tmp_path), repo_root=str(tmp_path), seconds=60)
    with subprocess.Popen(
        [sys.executable, "-m", "hindcast.lookups.sealing_process"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(settings.to_line())
        process.stdin.flush()
        # The thread that watches its input comes last, after the handler of SIGTERM.
        threads = psutil.Process(process.pid).num_threads
        wait_for(lambda: threads() > 1, seconds=60, what="the sealer that watches its input")
        if how == "terminate":
            process.terminate()
        else:
            process.stdin.close()
        assert (0, b"") == (process.wait(30), process.stderr.read())


def test_a_recovery_that_fails_is_tried_again(tmp_path, monkeypatch, caplog):
    """What workers left open is closed as soon as the directory can be read, and nothing is raised until then."""
    monkeypatch.setattr(recovering, "_AGAIN_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    segments = LogDirectory(tmp_path).segments
    segments.write_text("no folder")

    async def run() -> Path:
        keeping = asyncio.create_task(Recovering(tmp_path).keep())
        await until(lambda: "is tried again" in caplog.text)
        segments.unlink()
        left = write_segment(tmp_path, [make_failure()], suffix=OPEN)
        await until(lambda: not left.exists())
        await until(lambda: "is closed" in caplog.text)
        keeping.cancel()
        await asyncio.wait([keeping])
        return left

    left = asyncio.run(run())
    assert left.with_suffix(".sealed").exists()
    assert f"segment {left.name}, whose worker died, is closed (whole, records: 1)" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "keep_days", "tables", "expected"),
    [
        (None, None, False, False),
        (OPEN, None, True, False),
        (SEALED, None, False, True),
        (None, 30, False, False),
        (OPEN, 30, True, True),
    ],
)
def test_a_sealer_loads_what_it_needs_when_there_is_work(tmp_path, suffix, keep_days, tables, expected):
    """A closed segment is work, and so are old days of tables where only some are kept; what a worker writes to is not."""
    if suffix is not None:
        write_segment(tmp_path, [make_failure()], suffix=suffix)
    if tables:
        (tmp_path / "tables").mkdir()
    settings = SealSettings(log_directory=str(tmp_path), repo_root=str(tmp_path), seconds=60, keep_days=keep_days)

    assert expected == has_work(settings)
