"""How OpenMP's threads wait for the next kernel: awake, or asleep while cores are scarce.

A thread that waits awake takes the next kernel at once, and a core from whatever else would run
there; one that sleeps must be woken for each kernel, which takes about as long as the kernel.
libgomp, which PyTorch's Linux builds use, has them go round a loop for some milliseconds before
they sleep. It reads how often from the environment, once, but shortens that to almost nothing
while the process has more of its threads than it may use cores. `SpareThreads` are such; they have
nothing to do. `adapt` starts and ends them as it sees how long the process waits for cores.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SETTLED_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables with which users settle how threads wait."""

INTERVAL = 0.25
"""Seconds between two looks."""

CROWDED = 0.4
"""Share of the time in which they could have run that threads waited for a core. Beside one busy
thread, or a second service on the same cores, they wait for half of it; for the service's own API
process, with images of 20 ms or 10 ms, for 0.2 or 0.35 of it, and sleep would cost more than that
(docs/performance.md#threads-that-wait)."""

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds asleep until waiting awake is tried again; twice as long each time it was too soon."""

TASKS = Path("/proc/self/task")
"""Has a folder for each thread of this process."""

_MAPS = Path("/proc/self/maps")


def settled(variables: Mapping[str, str]) -> bool:
    """Whether these variables of a process settle how its threads wait."""
    return any(name in variables for name in SETTLED_BY)


def adapt(threads: int) -> bool:
    """Has the threads of this process sleep whenever others need the cores, from now on.

    Returns whether it does: not where there is one thread, where the environment settles how they
    wait (`SETTLED_BY`), or where OpenMP is not libgomp. To be called once torch is imported.
    """
    library = libgomp()
    if threads < 2 or library is None or settled(os.environ):
        return False
    # One more than there are cores, by affinity, as libgomp counts them; one of the spare ones is
    # the thread that begins the others, which it does not count.
    watch = (library, max(2, len(os.sched_getaffinity(0)) - threads + 2))
    threading.Thread(target=_watch, args=watch, name="waiting", daemon=True).start()
    return True


class SpareThreads:
    """Threads of libgomp that do nothing, so that it has more than there are cores, until `end`."""

    def __init__(self, library: ctypes.CDLL, count: int) -> None:
        self._started, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._keep, args=(library, count), name="spare", daemon=True
        )
        self._thread.start()
        self._started.wait()

    def end(self) -> None:
        """Returns when they have ended. Idempotent."""
        self._over.set()
        self._thread.join()

    def _keep(self, library: ctypes.CDLL, count: int) -> None:
        # They belong to the thread that began them, and end with it. What each of them is to do is
        # free(NULL): nothing.
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, ctypes.c_uint(count), ctypes.c_uint(0))
        self._started.set()
        self._over.wait()


class Policy:
    """Whether threads are to sleep. Pure: no clock, no threads."""

    def __init__(self) -> None:
        self.asleep = False
        self._until = 0.0
        self._hold = SHORTEST

    def update(self, now: float, share: float) -> bool:
        """Whether they are to sleep, after an interval in which they waited for cores in so much of
        their time. ``now`` in seconds."""
        if self.asleep:
            self.asleep = now < self._until
        elif share > CROWDED:
            self.asleep = True
            self._until = now + self._hold
            self._hold = min(2 * self._hold, LONGEST)
        else:
            self._hold = SHORTEST
        return self.asleep


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Nanoseconds for which this process's threads have run, and waited for a core: because others
    ran there, or because a cgroup's quota was used up."""

    ran: int
    waited: int

    @classmethod
    def now(cls) -> CoreTime:
        ran = waited = 0
        for task in TASKS.iterdir():
            try:
                fields = (task / "schedstat").read_text().split()
            except OSError:  # it has ended
                continue
            ran += int(fields[0])
            waited += int(fields[1])
        return cls(ran, waited)

    def share_since(self, before: CoreTime) -> float:
        """What share of their time they waited; 0 where they had little to do."""
        ran, waited = self.ran - before.ran, self.waited - before.waited
        wanted = ran + waited
        return waited / wanted if wanted > INTERVAL * 1e9 / 10 else 0.0


def _watch(library: ctypes.CDLL, count: int) -> None:
    policy, spares, before = Policy(), None, CoreTime.now()
    while True:
        time.sleep(INTERVAL)
        now = CoreTime.now()
        asleep = policy.update(time.monotonic(), now.share_since(before))
        before = now
        if asleep and spares is None:
            spares = SpareThreads(library, count)
        elif not asleep and spares is not None:
            spares.end()
            spares = None


def libgomp() -> ctypes.CDLL | None:
    """The one that torch uses; None where it uses another library."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:  # no Linux
        return None
    paths = {line.split()[-1] for line in lines if "libgomp" in line}
    return ctypes.CDLL(paths.pop()) if len(paths) == 1 else None
