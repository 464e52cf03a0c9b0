"""Whether the process of a run lives, as far as that can be seen."""

from dataclasses import replace

import pytest

from hindcast.materialize import process
from hindcast.materialize.process import Liveness, RunProcess

THIS = RunProcess.this()
BOOT, PROCESS_IDS = THIS.boot.split("/")


def test_this_process_lives():
    """The process that asks is found again by what it says of itself."""
    assert Liveness.LIVES is THIS.liveness


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"process_id": 2**22 + 1}, Liveness.GONE, id="no-such-process"),
        pytest.param({"started_seconds": THIS.started_seconds - 2}, Liveness.GONE, id="its-id-is-anothers-now"),
        pytest.param({"boot": f"another/{PROCESS_IDS}"}, Liveness.GONE, id="before-a-restart-of-the-host"),
        pytest.param({"boot": f"{BOOT}/1"}, Liveness.UNKNOWN, id="in-another-container"),
        pytest.param({"host": "another"}, Liveness.UNKNOWN, id="on-another-host"),
        pytest.param({"boot": ""}, Liveness.GONE, id="nothing-known-of-its-start"),
    ],
)
def test_other_processes(change, expected):
    """A process that cannot be the one recorded is gone, and one that cannot be seen from here is unknown."""
    assert expected is replace(THIS, **change).liveness


def test_a_clock_that_is_set_changes_nothing(monkeypatch):
    """A process is known again after the host's clock was set by an hour, which moves its start by the clock."""
    real = process.psutil

    class Moved:
        """psutil, an hour later."""

        STATUS_ZOMBIE, NoSuchProcess = real.STATUS_ZOMBIE, real.NoSuchProcess

        @staticmethod
        def boot_time():
            return real.boot_time() + 3600

        class Process(real.Process):
            """A process that started an hour later."""

            def create_time(self):
                return super().create_time() + 3600

    monkeypatch.setattr(process, "psutil", Moved)
    assert Liveness.LIVES is THIS.liveness
