"""`python -m hindcast.materialize.summarize PATH PROJECT`: a ledger's summary as JSON, or one line why there is none.

A program of its own: a Delta reader takes 70 MB and a dozen threads, and the supervisor, which wants a summary after each run,
would keep them for good.
"""

import sys
from pathlib import Path

import msgspec

from hindcast.errors import LedgerError
from hindcast.materialize.ledger import Ledger


def main() -> None:
    """Print the summary."""
    path, project = sys.argv[1:]
    try:
        summary = Ledger(Path(path), project=project).summary()
    except LedgerError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(summary))


if __name__ == "__main__":
    main()
