"""Feast without typeguard's checks, in processes of ours and nowhere else."""

import subprocess
import sys

import pytest
from feast import Project
from typeguard import TypeCheckError

# Runs what a worker and a command run first.
PROCESS = """
from hindcast.catalog.unchecked import leave_out_checks

leave_out_checks()
from feast import Project
from typeguard import CollectionCheckStrategy, TypeCheckError, typechecked

assert Project(name="drivers", description=3).description == 3


@typechecked
def double(number: int) -> int:
    return 2 * number


@typechecked(collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
def total(numbers: list[int]) -> int:
    return sum(numbers)


for call in (lambda: double("2"), lambda: total([1, 2.0])):
    try:
        call()
    except TypeCheckError:
        print("checked")
"""


def test_only_feasts_checks_are_left_out(tmp_path):
    """In a process that leaves them out Feast takes an argument of any type, and others' functions are checked, with options too."""
    script = tmp_path / "process.py"  # typeguard checks nothing that has no source
    script.write_text(PROCESS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    assert ("checked\nchecked\n", "") == (done.stdout, done.stderr)


def test_who_writes_definitions_has_them_checked():
    """Nothing is left out where no process was told to."""
    with pytest.raises(TypeCheckError):
        Project(name="drivers", description=3)
