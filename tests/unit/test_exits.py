"""How commands end: each error by one exit code, each defect and Ctrl-C by one line, and nothing by a traceback."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hindcast import errors
from hindcast.cli.exits import CODES, Exit, Group, exit_code_of, told
from hindcast.errors import (
    CatalogError,
    DatasetError,
    HindcastError,
    InvalidArgument,
    NotWritable,
    RepoError,
    SourceError,
    TransformError,
    UnknownName,
)

DOCS = Path(__file__).parent.parent.parent / "docs"


def run(error, *arguments):
    """What a command that raises so prints and ends with."""

    @click.group(cls=Group)
    def cli():
        """A command line."""

    @cli.command()
    def fail():
        """Fail."""
        raise error

    return CliRunner().invoke(cli, ["fail", *arguments])


def classes(of=HindcastError):
    """All errors of the tree below one."""
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from classes(kind)


def test_every_error_of_the_tree_has_a_code():
    """No error of the tree ends a command with a code that nobody chose."""
    assert set() == {kind for kind in classes() if not kind.__subclasses__()} - set(CODES)


def test_the_documented_table_is_the_one_in_force():
    """docs/exit-codes.md names each code, and each error beside the code that it ends a command with."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    assert {int(code) for code in Exit} == {int(code) for code, _ in rows}
    named = {name: int(code) for code, text in rows for name in re.findall(r"`([A-Z]\w+)`", text)}
    assert {kind.__name__: int(code) for kind, code in CODES.items()} == named


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RepoError("x"), 2),
        (NotWritable("x"), 2),
        (InvalidArgument.at("ref", "x"), 2),
        (UnknownName("feature view", "x"), 2),
        (UnknownName("receipt", "x"), 1),
        (UnknownName("run", "x"), 1),
        (UnknownName("training set", "x"), 1),
        (CatalogError("x"), 1),
        (DatasetError("x"), 1),
    ],
)
def test_codes(error, code):
    """What was given wrong is 2; that nothing of a name was kept, or that something failed, is 1."""
    assert code == exit_code_of(error) == run(error).exit_code


def _because(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DatasetError("it is gone"), 1, "it is gone"),
        (InvalidArgument.at("entity_frame", "is not given"), 2, "--entities: is not given"),
        (InvalidArgument.at("driver_id", "is not given"), 2, "driver_id: is not given"),
        (_because(TransformError("failed"), ZeroDivisionError("by 0")), 1, "failed (ZeroDivisionError: by 0)"),
        (_because(SourceError("failed"), OSError("s3cret")), 1, "failed"),
        (
            PermissionError(errno.EACCES, "no", "/x"),
            1,
            "/x cannot be read or written; run this as the server's user",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "/x: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "Broken pipe"),
        (MemoryError(), 1, "there is not enough memory for this; ask for less at once, or give it more"),
        (
            ModuleNotFoundError("no", name="redis"),
            1,
            "the Python package 'redis' is not installed here; pip install 'hindcast[server]' has what most commands need",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (_because(RuntimeError("Query interrupted"), KeyboardInterrupt()), 130, "interrupted"),
        (_because(SourceError("x"), _because(RuntimeError("y"), KeyboardInterrupt())), 130, "interrupted"),
    ],
)
def test_every_end_is_one_line(error, code, said):
    """Whatever a command raises is one line on standard error, and its exit code; Ctrl-C is 130 whatever others make of it."""
    done = run(error)
    assert (code, "", f"hindcast: {said}\n") == (done.exit_code, done.stdout, done.stderr)


def test_bytes_that_are_no_utf8_are_bad_usage():
    """An argument that is no UTF-8 is told in one line, with exit code 2."""
    with pytest.raises(UnicodeEncodeError) as caught:
        os.fsdecode(b"\xff").encode()
    done = run(caught.value)
    assert (2, "hindcast: '\\udcff' is no UTF-8, and so nothing that there can be\n") == (done.exit_code, done.stderr)


def test_a_defect_is_a_line_that_can_be_reported(monkeypatch):
    """An error from outside the tree says of what kind it is and nothing that it said; with the variable set, all of it."""
    done = run(ValueError("s3cret"))
    assert (
        1,
        "hindcast: a defect in Hindcast (ValueError at cli/exits.py:N); report this line. HINDCAST_TRACEBACK=1 shows where it came from\n",
    ) == (done.exit_code, re.sub(r"py:\d+", "py:N", done.stderr))
    monkeypatch.setenv("HINDCAST_TRACEBACK", "1")
    assert "ValueError: s3cret\n" in run(ValueError("s3cret")).stderr


def test_a_command_may_have_a_code_of_its_own_for_what_fails():
    """Where 1 says something else, failures have the code that the command says, and Ctrl-C stays 130."""
    ends = []
    for error in (DatasetError("x"), RepoError("x"), ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(click.exceptions.Exit) as caught, told(failed=Exit.USAGE):
            raise error
        ends.append(caught.value.exit_code)
    assert [2, 2, 2, 130] == ends


def test_usage_errors_of_click_stay_as_they_are():
    """An option that there is not is click's to tell."""
    done = run(DatasetError("x"), "--nope")
    assert (2, True) == (done.exit_code, done.stderr.startswith("Usage: cli fail"))


def started(code, *arguments, **options):
    """A Python that runs the code with those arguments."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, **options)


def test_a_reader_that_has_gone_ends_a_command_without_a_word():
    """`hindcast --help | true` has the exit code that a shell gives to a program ended by SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    with started("from hindcast.cli.entry import main; main()", "--help", stdout=writer) as process:
        os.close(writer)
        _, said = process.communicate(timeout=60)
    assert (Exit.OUTPUT_CLOSED, "") == (process.returncode, said)


INTERRUPTED = """
import signal, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "hindcast.cli.main":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Slow())
from hindcast.cli.entry import main
main()
"""


def test_ctrl_c_while_the_command_line_is_imported():
    """Who interrupts before anything has begun gets no traceback either."""
    with started(INTERRUPTED) as process:
        _, said = process.communicate(timeout=60)
    assert (Exit.INTERRUPTED, "") == (process.returncode, said)


def test_ctrl_c_in_a_command():
    """SIGINT ends a command with 130 and a word."""

    @click.group(cls=Group)
    def cli():
        """A command line."""

    @cli.command()
    def wait():
        """Be interrupted."""
        signal.raise_signal(signal.SIGINT)

    done = CliRunner().invoke(cli, ["wait"])
    assert (130, "", "hindcast: interrupted\n") == (done.exit_code, done.stdout, done.stderr)
