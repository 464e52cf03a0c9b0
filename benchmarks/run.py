"""`make bench`: run every claim against Feast in the same run, print a table each, and keep the figures.

Ratios are evidence, single times are not: machines are noisy. Figures of all claims go to benchmarks/results/latest.json; of the
claims named on the command line, to a file of their own name. A floor that is not met is printed and kept, and is no
failure; a server that errs or answers wrongly is.
"""

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the same real services that tests run on

import hotpath  # noqa: E402
import materialize  # noqa: E402
import metrics  # noqa: E402
import point_in_time  # noqa: E402
import receipts  # noqa: E402
import serving  # noqa: E402
import training_sets  # noqa: E402
from failure import BenchmarkFailed  # noqa: E402
from load import h2load_version  # noqa: E402

CLAIMS = {
    "serving": serving.run,
    "materialize": materialize.run,
    "hotpath": hotpath.run,
    "metrics": metrics.run,
    "point-in-time": point_in_time.run,
    "receipts": receipts.run,
    "training-sets": training_sets.run,
}
PACKAGES = (
    "duckdb",
    "feast",
    "grpcio",
    "hiredis",
    "hindcast",
    "msgspec",
    "pandas",
    "polars",
    "protobuf",
    "pyarrow",
    "redis",
    "uvloop",
)


def main() -> int:
    """Run all claims, or those named on the command line."""
    began = time.monotonic()
    wanted = sys.argv[1:] or list(CLAIMS)
    if unknown := set(wanted) - CLAIMS.keys():
        print(f"no claim is called {', '.join(sorted(unknown))}; there are: {', '.join(CLAIMS)}", file=sys.stderr)
        return 2
    try:
        results = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"system": platform.platform(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]},
            "versions": {
                "python": platform.python_version(),
                "h2load": h2load_version(),
                **{name: version(name) for name in PACKAGES},
            },
            "claims": {name: CLAIMS[name]() for name in wanted},
        }
    except BenchmarkFailed as failure:
        print(f"\nthe benchmark failed: {failure}", file=sys.stderr)
        return 1
    path = HERE / "results" / f"{'-'.join(sys.argv[1:]) or 'latest'}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(HERE.parent)} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
