"""A machine without a C compiler: the package is built there, and serves the same answers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from hindcast_client import Client
from services import run_hindcast

ROOT = Path(__file__).parents[2]
WITHOUT = "import sys\nsys.modules['hindcast.online._codec'] = None\n"


def test_a_wheel_is_built_without_a_compiler(tmp_path):
    """Where nothing compiles C, the wheel is one for any machine, and holds the Python form."""
    source = tmp_path / "source"  # of its own: a build takes away a compiled form that it cannot renew
    for name in ("server", "clients"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)],
        env={**os.environ, "CC": "false"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "hindcast/online/python_codec.py" in names
    assert [] == [name for name in names if name.endswith(".so")]


def test_a_server_without_the_compiled_form_answers_the_same_and_says_so(demo_repo, demo_server, tmp_path):
    """Every column, status and time is the same, and the server says at its start that it could be faster."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    entities = {"account_id": ["1", "12", "nobody", "1"], "device_id": [1, 2, 3, 1]}

    def answer(address):
        with Client(address) as client:
            found = client.get_online_features(features="account_screening", entities=entities)
        return found.to_dict(), found.statuses, found.event_timestamps

    with run_hindcast(demo_repo.root, env={"PYTHONPATH": str(tmp_path)}) as server:
        assert answer(demo_server.address) == answer(server.address)

    assert any("the codec runs in Python" in line for line in server.output)
    assert not any("the codec runs in Python" in line for line in demo_server.output)
