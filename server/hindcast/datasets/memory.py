"""What is said where memory runs out: a process with a limit of its own (ulimit, a job scheduler) is refused more, and goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from hindcast.errors import Overloaded

_NO_STACK = "can't start new thread"
"""What Python says where there is no memory for the stack of one."""


@contextmanager
def memory_told() -> Iterator[None]:
    """Turns a lack of memory into our own words. A process that the kernel or a container kills for it has none.

    Raises:
        Overloaded: the process could not have the memory that the block asked for.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and str(error) != _NO_STACK:
            raise
        raise Overloaded(
            "memory",
            "this takes more memory than the process may have, and nothing of it is left; give the process more, lower memory_limit_mb in "
            "the offline_store block, so that more is spilled to disk, or ask for fewer columns or on-demand views",
        ) from error
