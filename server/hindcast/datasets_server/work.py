"""A process that builds, makes again, verifies and compares for the server: `python -m hindcast.datasets_server.work`, whose standard input has a
`TrainingSetsSettings` and then orders, and whose standard output has what it says of them.

One order at a time, in the main thread: so an order that nobody wants any more can be interrupted like a command by Ctrl-C, which all rooms know, and
where something does not hear that, the process can be ended, and its server goes on.
"""

import _thread
import contextlib
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hindcast.datasets.progress import Progress
from hindcast.datasets.sets import TrainingSets
from hindcast.datasets.training_set import TrainingSet
from hindcast.datasets_server import answers
from hindcast.datasets_server.confinement import entity_frame
from hindcast.datasets_server.orders import Failure, Messages, Order, Said, encoded
from hindcast.datasets_server.private import without_paths
from hindcast.datasets_server.requests import Asked, asked, asked_of_lookups, threads
from hindcast.errors import HindcastError
from hindcast.offline.frames.sent import SentRows
from hindcast.settings import TrainingSetsSettings
from hindcast.v1 import training_sets_pb2 as pb

logger = logging.getLogger(__name__)

BUILDS = "--builds"
"""An argument: Feast is imported before the first order comes."""
_SCORE = "500"
"""Where memory runs out the kernel ends this process, and not Redis or a worker beside it; 1,000 is the most."""
_END_SECONDS = 1.0
"""For an order that nobody waits for because the server is gone."""


class _Unwanted(Exception):
    """Raised in work that nobody wants any more."""


class _Desk:
    """The orders of one process, and who hears of them."""

    def __init__(self, settings: TrainingSetsSettings, *, orders: int, said: int) -> None:
        """Args: orders, said: descriptors."""
        self._settings = settings
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._messages = Messages(orders, Order)
        self._said = said
        self._at_work = False
        self._unwanted = threading.Event()
        self._rpcs = {
            "Build": self._build,
            "FromLookups": self._from_lookups,
            "Rebuild": self._rebuild,
            "Verify": self._verify,
            "Diff": self._diff,
        }

    def open(self) -> None:
        """Listen, so that this process ends with its server whatever it is at."""
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._listen, name="hindcast-orders", daemon=True).start()

    def run(self) -> None:
        """Do what is ordered until there are no more orders."""
        self._say(Said(is_ready=True))
        while (order := self._orders.get()) is not None:
            self._say(self._done(order))

    def _done(self, order: Order) -> Said:
        try:
            self._at_work = True
            self._look()
            answer = self._rpcs[order.rpc](order)
        except (_Unwanted, KeyboardInterrupt):
            self._at_work = False
            return Said(was_unwanted=True)
        except Exception as error:
            self._at_work = False
            if self._unwanted.is_set():
                # DuckDB calls an interrupt a failure of its own.
                return Said(was_unwanted=True)
            if not isinstance(error, HindcastError):
                logger.exception("a call of %s met a defect", order.rpc)
            return Said(failure=Failure.of(error))
        finally:
            self._at_work = False
        return Said(answer=answer)

    def _listen(self) -> None:
        """Take orders beside the work."""
        is_open = True
        while is_open:
            is_open = self._messages.read()
            for order in self._messages.whole():
                if order.rpc:
                    self._unwanted.clear()
                    self._orders.put(order)
                else:
                    self._end_order()
        self._orders.put(None)
        self._end_order()
        # The server is gone. Whatever does not hear of that is ended with the process, and what it leaves is swept by the next.
        threading.Event().wait(_END_SECONDS)
        os._exit(1)

    def _end_order(self) -> None:
        self._unwanted.set()
        if self._at_work:
            _thread.interrupt_main()

    def _interrupted(self, number: int, frame: object) -> None:
        del number, frame
        if self._at_work:
            raise KeyboardInterrupt

    def _look(self) -> None:
        if self._unwanted.is_set():
            raise _Unwanted

    def _tell(self, progress: Progress) -> None:
        self._look()
        self._say(Said(progress=progress))

    def _say(self, said: Said) -> None:
        left = memoryview(encoded(said))
        # The server is gone, and with it whoever wanted to hear this.
        with contextlib.suppress(BrokenPipeError):
            while left:
                left = left[os.write(self._said, left) :]

    def _build(self, order: Order) -> bytes:
        wanted = asked(pb.TrainingSetSpec.FromString(order.request_bytes))
        frame = self._rows(wanted, order)
        return self._made(
            lambda sets: sets.build(wanted.name, entity_frame=frame, **wanted.arguments, on_progress=self._tell),
            pb.TrainingSetsBuildResponse,
        )

    def _from_lookups(self, order: Order) -> bytes:
        wanted = asked_of_lookups(pb.LookupSetSpec.FromString(order.request_bytes))
        labels = self._rows(wanted, order)
        return self._made(
            lambda sets: sets.from_lookups(wanted.name, labels=labels, **wanted.arguments, on_progress=self._tell),
            pb.TrainingSetsFromLookupsResponse,
        )

    def _made(self, make: Callable[[TrainingSets], TrainingSet], response: Any) -> bytes:
        """The answer to a build: the set, and what Feast's registry did not take of it."""
        unregistered: list[str] = []
        made = answers.training_set(make(self._sets(unregistered)))
        answer = response(training_set=made, not_registered=self._hidden("; ".join(unregistered)))
        return bytes(answer.SerializeToString())

    def _rebuild(self, order: Order) -> bytes:
        request = pb.TrainingSetsRebuildRequest.FromString(order.request_bytes)
        report = self._sets([]).rebuild(
            request.ref, as_recorded=request.as_recorded, threads=threads(request.threads), on_progress=self._tell
        )
        made = answers.rebuild_report(report)
        made.trouble = self._hidden(made.trouble)
        return pb.TrainingSetsRebuildResponse(report=made).SerializeToString()

    def _verify(self, order: Order) -> bytes:
        request = pb.TrainingSetsVerifyRequest.FromString(order.request_bytes)
        if not request.public_key:
            return answers.verification(self._sets([]).verify(request.ref)).SerializeToString()
        with tempfile.NamedTemporaryFile() as key:
            key.write(request.public_key)
            key.flush()
            return answers.verification(self._sets([]).verify(request.ref, key=key.name)).SerializeToString()

    def _diff(self, order: Order) -> bytes:
        request = pb.TrainingSetsDiffRequest.FromString(order.request_bytes)
        return answers.diff(self._sets([]).diff(request.before, request.after)).SerializeToString()

    def _sets(self, unregistered: "list[str]") -> TrainingSets:
        """The sets, for one order: what Feast's registry does not take of it is for its caller."""
        return TrainingSets(self._settings.repo_root, self._settings.directory, on_unregistered=unregistered.append)

    def _rows(self, wanted: Asked, order: Order) -> Any:
        """The entity frame or the labels, as a build takes them."""
        if wanted.given == "uploaded":
            field = "labels_bytes" if order.rpc == "FromLookups" else "entity_frame_bytes"
            return SentRows(path=Path(order.rows), field=field, bytes_max=self._settings.frame_max_bytes)
        if wanted.given == "text":
            return entity_frame(
                wanted.text,
                repo_root=self._settings.repo_root,
                directories=self._settings.entity_directories,
                bytes_max=self._settings.frame_max_bytes,
                look=self._look,
            )
        return None

    def _hidden(self, text: str) -> str:
        return without_paths(text, self._settings)


def main() -> None:
    """Work for whoever started this, until it closes standard input."""
    logging.basicConfig(level=logging.INFO, format="training sets: %(levelname)s %(message)s")
    # Feast says each time that it reads the registry.
    logging.getLogger("feast").setLevel(logging.WARNING)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_SCORE)
    # What is printed by code of an on-demand view is no message.
    said = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Without a buffer, in which the first order would be lost.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as line:
        settings = TrainingSetsSettings.from_line(line.readline())
    desk = _Desk(settings, orders=sys.stdin.fileno(), said=said)
    desk.open()
    if BUILDS in sys.argv[1:]:
        # Feast, which takes a second.
        from hindcast.datasets import build, retrieval  # noqa: F401, PLC0415 - see above

    desk.run()


if __name__ == "__main__":
    main()
