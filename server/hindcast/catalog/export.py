"""`python -m hindcast.catalog.export REPO`: the repo's registry, as Feast reads it, to standard output.

For registries that are neither a file nor a SQL database here. A process of its own, because importing Feast takes 1.3 s and
190 MB that the server would carry for its whole life.
"""

import sys
from pathlib import Path

from hindcast.catalog.unchecked import leave_out_checks


def main() -> int:
    """Export the registry of the repo given as the one argument."""
    leave_out_checks()
    import feast  # noqa: PLC0415 - not before the line above

    store = feast.FeatureStore(repo_path=Path(sys.argv[1]))
    sys.stdout.buffer.write(store.registry.proto().SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
