"""The process of `engine.py`: REPO VIEW START END, `ready` on standard output, a line to begin, then a line of JSON.

It imports nothing but Feast, so that its memory is that of `feast materialize`.
"""

import contextlib
import json
import resource
import sys
import time
from datetime import datetime
from pathlib import Path


def _peak_mb() -> float:
    (peak,) = (
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(peak) * 1024 / 1e6


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def main() -> None:
    """Import, wait, materialize, report; what Feast prints goes to standard error."""
    repo, view, start, end = sys.argv[1:]
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        import feast  # noqa: PLC0415 - only this process needs it

        store = feast.FeatureStore(repo_path=repo)
        provider = store._get_provider()  # noqa: SLF001 - there is no other way to have the plug-ins imported
        for _plugin in (provider.online_store, provider.offline_store, provider.batch_engine):
            pass
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        before_mb, cpu_before, began = _peak_mb(), _cpu_seconds(), time.perf_counter()
        store.materialize(datetime.fromisoformat(start), datetime.fromisoformat(end), [view])
        seconds = time.perf_counter() - began
        report = {
            "seconds": seconds,
            "cpu_seconds": _cpu_seconds() - cpu_before,
            "before_mb": before_mb,
            "peak_mb": _peak_mb(),
        }
    print(json.dumps(report), file=answers, flush=True)


if __name__ == "__main__":
    main()
