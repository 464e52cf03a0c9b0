"""Where the program `hindcast` begins. It imports nothing itself, so that Ctrl-C ends it quietly while the rest is imported."""

import sys

_INTERRUPTED = 130
"""`exits.Exit.INTERRUPTED`, which is not imported yet."""


def main() -> None:
    """Run the command line."""
    try:
        from hindcast.cli.main import main as run  # noqa: PLC0415 - see above

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
