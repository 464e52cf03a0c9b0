"""Entity frames and labels that callers send: an Arrow IPC stream in pieces, set aside on disk, where the process that builds reads them."""

from pathlib import Path

from hindcast.errors import Overloaded, StoreUnavailable


class Upload:
    """Rows as they come in. They are written to a file, so that they are not in memory as a whole."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        """Args: path: is made."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._file = path.open("xb")

    def add(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            Overloaded: these are more than the server takes.
            StoreUnavailable: the disk did not take them.
        """
        self._bytes += len(piece)
        if self._bytes > self._bytes_max:
            raise Overloaded(
                "frame",
                f"the rows that were sent have more than the {self._bytes_max:,} bytes that are taken here; put them where the server can read them, and give the path",
            )
        try:
            self._file.write(piece)
        except OSError as error:
            raise StoreUnavailable("the disk did not take the rows that were sent; check the space on it") from error

    def close(self) -> None:
        """There are no more, or they are not wanted any more."""
        self._file.close()
