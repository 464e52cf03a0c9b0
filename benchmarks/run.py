"""`make bench`: run every claim against Feast in the same run, print a table each, and keep the figures.

Ratios are evidence, single times are not: machines are noisy. Figures go to benchmarks/results/latest.json.
"""

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the same real services that tests run on

import metrics  # noqa: E402
import serving  # noqa: E402

CLAIMS = {"serving": serving.run, "metrics": metrics.run}


def main() -> int:
    """Run all claims, or those named on the command line."""
    wanted = sys.argv[1:] or list(CLAIMS)
    results = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("feast", "grpcio", "redis", "protobuf")},
        "claims": {name: CLAIMS[name]() for name in wanted},
    }
    path = HERE / "results" / "latest.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(HERE.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
