"""A log of lookups whose turns a test takes."""

import os
import threading

from hindcast.lookups.writer import LookupLog


class SteppedLog(LookupLog):
    """A log without a thread: the test takes its turns, so that a drawn story happens the same way again."""

    def _start(self):
        self._begin()
        self._thread = threading.Thread(target=lambda: None)
        self._thread.start()

    @property
    def open_from(self):
        """The first sequence of the segment that is open; what comes before is closed."""
        return self._segment.name.first_sequence

    def turn(self, *, closes=False):
        """Take a turn in which a sync is due, and close the open segment if that is wanted."""
        if closes:
            self._segment.began = -1e9
        self._synced_at = 0.0
        self._turn()

    def finish(self):
        """End in order."""
        self._turn()
        self._finish()

    def die(self):
        """Give everything back as the kernel does for a killed process; the path of the segment that was open."""
        path = self._segment.path
        for segment in (self._segment, *self._retired):
            segment.close()
        os.close(self._marks._handle)
        return path
