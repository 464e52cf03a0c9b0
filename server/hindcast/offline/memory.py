"""Memory for what is large and new: where Arrow puts columns whose pages are touched for the first time.

Of 240 MB of such pages Arrow's usual pool, mimalloc, takes 0.7 s, and jemalloc 0.2 s: it takes huge pages, where the kernel has them on request
(`madvise` in /sys/kernel/mm/transparent_hugepage/enabled, which is the usual setting).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


def _roomy() -> pa.MemoryPool:
    try:
        return pa.jemalloc_memory_pool()
    except NotImplementedError:
        return pa.default_memory_pool()


ROOMY = _roomy()
"""The pool; Arrow's usual one, where this build has no other."""


@contextmanager
def in_roomy_memory() -> Iterator[None]:
    """Everything that Arrow makes meanwhile, in all threads, is there; what was made before stays where it is."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(ROOMY)
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
