"""On which cores OpenMP's threads begin after a pause: not on that of the thread that wakes them.

The kernel puts a thread that is woken on a core that is free at that moment. Where none is, as the
process that gave us work is still busy on the other one, that is the core of the thread that woke
it; and as OpenMP's threads wait awake for each other, they keep it from that core until the kernel
looks again, some milliseconds later. Once they run on cores of their own they stay there.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from model.runtime.waiting import TASKS


@contextmanager
def apart() -> Iterator[None]:
    """Keeps the threads of libraries off the core on which this one is now, meanwhile.

    Those that were given cores of their own (`OMP_PROC_BIND`, `taskset`) keep them. Does nothing
    where there is one core, or no Linux.
    """
    if sys.platform != "linux":
        yield
        return
    cores = os.sched_getaffinity(0)
    others = cores - {ctypes.CDLL(None).sched_getcpu()}
    threads = [thread for thread in _of_libraries() if others and _is_on(thread, cores)]
    _put(threads, others)
    try:
        yield
    finally:
        _put(threads, cores)


def _of_libraries() -> list[int]:
    """Threads of this process that Python did not start, by their ids."""
    ours = {thread.native_id for thread in threading.enumerate()}
    return [id_ for task in TASKS.iterdir() if (id_ := int(task.name)) not in ours]


def _is_on(thread: int, cores: set[int]) -> bool:
    with suppress(OSError):  # it has ended
        return os.sched_getaffinity(thread) == cores
    return False


def _put(threads: list[int], cores: set[int]) -> None:
    for thread in threads:
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(thread, cores)
