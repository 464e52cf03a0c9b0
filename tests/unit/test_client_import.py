"""What importing the client costs."""

import json
import subprocess
import sys

_PROBE = """
import json, sys, time
began = time.process_time()
import hindcast_client
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""

_FRAMELESS = """
import sys
for name in ("numpy", "pandas", "pyarrow"):
    sys.modules[name] = None
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from hindcast_client._request import Question
from hindcast_client._result import read_result
result = read_result(Question(None, {}, 0), GetOnlineFeaturesResponse())
for take in (result.to_numpy, result.to_pandas, result.to_arrow):
    try:
        take()
    except ImportError as error:
        print(error)
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_importing_the_client_is_quick_and_light():
    """The client imports in under 0.3 s of CPU time, and neither Feast nor a data frame library comes with it."""
    # The best of three: the machine's other work is not the client's cost.
    probes = [json.loads(run(_PROBE)) for _ in range(3)]
    assert set() == {"feast", "numpy", "pandas", "pyarrow", "msgspec"} & set(probes[0]["modules"])
    assert min(probe["seconds"] for probe in probes) < 0.3


def test_without_the_frames_extra_the_error_names_it():
    """Where a data frame library is missing, asking for its type says which extra to install."""
    told = [
        f"this needs {library}; install it with: pip install 'hindcast[frames]'"
        for library in ("numpy", "pandas", "pyarrow")
    ]
    assert told == run(_FRAMELESS).splitlines()
