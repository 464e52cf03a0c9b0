"""The process of `engine.py`: REPO VIEW START END, `ready` on standard output, a line to begin, then a line of JSON.

It imports nothing but Feast, so that its memory is that of `feast materialize`.
"""

import contextlib
import json
import sys
from datetime import datetime

from usage import measured


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
        _, report = measured(
            lambda: store.materialize(datetime.fromisoformat(start), datetime.fromisoformat(end), [view])
        )
    print(json.dumps(report), file=answers, flush=True)


if __name__ == "__main__":
    main()
