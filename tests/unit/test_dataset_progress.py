"""The bars of a build: on a terminal one for each phase, elsewhere none."""

import io
import os
import pty
import subprocess
import sys
import termios

from hindcast.cli.dataset_progress import PhaseBars
from hindcast.datasets.progress import Progress


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self):
        """It is."""
        return True


PHASES = [
    Progress("frame", 0, 0),
    Progress("read", 0, 1_000),
    Progress("write", 500, 1_000),
    Progress("write", 1_000, 1_000),
    Progress("read", 0, 1_000),
    Progress("write", 400, 1_000),
    Progress("write", 200, 1_000),
]


def shown(out):
    """What is told to bars on that."""
    with PhaseBars(out=out) as bars:
        for progress in PHASES:
            bars(progress)
    return out.getvalue()


def test_each_phase_has_a_bar_and_none_stays():
    """On a terminal each phase gets a bar with its rows, also one that begins again, and at the end the line is empty."""
    text = shown(Terminal())
    assert [2, 3] == [text.count(f"{phase:<8}:   0%") for phase in ("read", "write")]
    assert "frame   : 0.00 rows" in text
    assert "" == text.rpartition("\r")[2].strip()
    assert "" == text.split("\r")[-2].strip()


def test_nothing_is_shown_where_there_is_no_terminal():
    """In a file or a pipe there is no word of it."""
    assert "" == shown(io.StringIO())


SCRIPT = """
from hindcast.cli.dataset_progress import PhaseBars
from hindcast.datasets.progress import Progress
with PhaseBars() as bars:
    bars(Progress("write", 10, 100))
print("done")
"""


def test_bars_are_on_standard_error():
    """Bars go to standard error, which alone decides: what is printed for machines has none of it."""
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=theirs, check=True, text=True)
    seen = os.read(terminal, 65_536).decode()
    os.close(theirs)
    os.close(terminal)
    assert ("done\n", True) == (done.stdout, "write" in seen)
