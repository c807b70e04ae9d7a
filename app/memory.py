"""Memory of large uploads and answers goes back to the system as soon as it is free."""

from __future__ import annotations

import contextlib
import ctypes
import os

MAPPED = 2**20
"""Bytes from which on a block is mapped by itself, and unmapped when it is freed."""

KEPT = 4 * MAPPED
"""Bytes that may stay free at the end of a heap."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def return_freed_memory() -> None:
    """Sets both limits where the allocator is glibc's and its variables do not set them.

    By itself it raises the first up to 32 MB with the largest block that was freed (mallopt(3)).
    Blocks of the size of an image then lie in the heaps of threads, which keep them: tens of
    megabytes each.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")):
        return
    with contextlib.suppress(AttributeError, OSError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, MAPPED)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
