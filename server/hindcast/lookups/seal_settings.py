"""What a sealing process is told by who starts it. Needs neither pyarrow nor deltalake."""

import msgspec


class SealSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealing process is told.

    Attributes:
        log_directory, repo_root: absolute paths.
        seconds: between two passes, and before the first.
        keep_days: None for all.
    """

    log_directory: str
    repo_root: str
    seconds: float
    keep_days: int | None = None

    def to_line(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self) + b"\n"
