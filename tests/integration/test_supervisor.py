"""What passes between the supervisor and a worker, against a process that stands in for one."""

import asyncio
import sys

from hindcast.catalog import Catalog
from hindcast.serving import worker_process

CATALOG = Catalog("p", "sha256:0", "0", {}, {}, {}, {}, {})
OBEDIENT = "import sys\nfor line in sys.stdin: print('taken', flush=True)"
SILENT = "import sys\nfor line in sys.stdin: pass"


async def started(program):
    """A child process with the worker's pipes."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)


def test_two_catalogs_can_be_handed_over_at_once():
    """A reload that meets a worker's restart hands over twice, and each hand-over hears its own answer."""

    async def run():
        process = await started(OBEDIENT)
        worker = worker_process.WorkerProcess(process, slot=0)
        taken = await asyncio.gather(worker.take(CATALOG), worker.take(CATALOG))
        await worker.stop(seconds=0, hurry=asyncio.Event())
        return taken

    assert [True, True] == asyncio.run(run())


def test_a_worker_that_answers_nothing_is_ended_for_another_to_start(monkeypatch):
    """A worker that is silent about a catalog holds up no reload: it is ended, and its successor takes the newest."""
    monkeypatch.setattr(worker_process, "_START_SECONDS", 0.2)

    async def run():
        process = await started(SILENT)
        taken = await worker_process.WorkerProcess(process, slot=0).take(CATALOG)
        return taken, await asyncio.wait_for(process.wait(), 10)

    taken, code = asyncio.run(run())
    assert not taken
    assert code < 0
