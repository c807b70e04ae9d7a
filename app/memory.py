"""When freed memory goes back to the system: at once in the API process, seldom in a worker."""

from __future__ import annotations

import contextlib
import ctypes
import os

MIB = 2**20

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def return_freed_memory() -> None:
    """For large uploads and answers, which are not soon followed by their like.

    By itself the allocator raises both limits with the largest block that was freed, up to 32 MB.
    Blocks of the size of an image then lie in the heaps of threads, which keep them: tens of
    megabytes each.
    """
    _set_limits(mapped=MIB, kept=4 * MIB)


def keep_freed_memory() -> None:
    """For passes of a network: the next one needs as much again, and the system would have to clear
    each page of it.

    By itself the allocator keeps twice the largest block that was freed, which a pass exceeds.
    """
    _set_limits(mapped=32 * MIB, kept=256 * MIB)


def _set_limits(mapped: int, kept: int) -> None:
    """Bytes from which on a block is mapped by itself and unmapped when it is freed, and those that
    may stay free at the end of a heap (mallopt(3)), where glibc's variables do not set them.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")):
        return
    with contextlib.suppress(AttributeError, OSError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, mapped)
        libc.mallopt(_M_TRIM_THRESHOLD, kept)
