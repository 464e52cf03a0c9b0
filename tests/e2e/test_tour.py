"""The README's tour, run as it is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services import held_port, wait_for

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def port():
    """A port that the tour's server can listen on."""
    with held_port() as port:
        yield port


def test_the_tour_works_when_pasted(checkout, port):
    """Every block of the README's tour runs in order, the client prints what its comments promise, the lookup is replayed, and training sets print what is quoted."""
    tour = (ROOT / "README.md").read_text().split("<!-- tour:")[1].split("<!-- end of tour -->")[0]
    commands, program, questions, training = re.findall(r"```(?:bash|python)\n(.*?)```", tour, re.DOTALL)
    (quoted,) = re.findall(r"```text\n(.*?)```", tour, re.DOTALL)
    # The one change: a free port, since 50051 may be taken where tests run.
    address = f"127.0.0.1:{port}"
    assert commands.count("hindcast serve --workers 2") == 1
    commands = commands.replace("hindcast serve --workers 2", f"exec hindcast serve --workers 2 --address {address}")
    assert program.count("127.0.0.1:50051") == 1
    program = program.replace("127.0.0.1:50051", address)
    log = checkout / "tour.log"

    with log.open("w") as output:
        shell = subprocess.Popen(["bash", "-ec", commands], cwd=checkout, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(
            lambda: shell.poll() is not None or re.search(r"^serving ", log.read_text(), re.MULTILINE),
            seconds=180,
            what="the tour's server",
        )
        assert shell.poll() is None, log.read_text()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        # In another terminal, with the environment that the first one has entered.
        asked, trained = (
            subprocess.run(
                ["bash", "-ec", f"source .venv/bin/activate\n{block}"],
                cwd=checkout,
                capture_output=True,
                text=True,
                check=False,
            )
            for block in (questions, training)
        )
    finally:
        shell.terminate()
        ended = shell.wait(30)

    assert 0 == done.returncode, done.stderr
    assert ended == 0
    statuses = re.search(r"PRESENT.*PRESENT.*NOT_FOUND", done.stdout)
    assert statuses is not None, done.stdout
    assert re.search(r"^[0-9a-f]{8}-[0-9a-f]{4}-7", done.stdout, re.MULTILINE)
    assert 0 == asked.returncode, asked.stdout + asked.stderr
    assert "request id   tour" in asked.stdout
    assert "values are those of the offline store, bit for bit" in asked.stdout
    assert "1 lookups, 3 rows" in asked.stdout
    assert 0 == trained.returncode, trained.stdout + trained.stderr
    for line in quoted.splitlines():
        expected = ".+".join(re.escape(part) for part in line.split("…"))
        assert re.search(f"^ *{expected}$", trained.stdout, re.MULTILINE), line + trained.stdout
