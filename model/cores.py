"""What of the machine's processors this process may use. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """CPU cores: those of the scheduler's affinity, where there is one, and no more than a cgroup's
    quota of CPU time fills, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    allowed = quota()
    return count if allowed is None else min(count, max(1, ceil(allowed)))


def quota(mount: Path = _MOUNT, groups: Path = _GROUPS) -> float | None:
    """CPU seconds a second that this process's cgroups allow; None where they do not say.

    That of a container counts however many cores it sees. Both versions of cgroups are read
    (``cpu.max``; ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``).
    """
    found = []
    for folder in _folders(mount, groups):
        try:
            if (folder / "cpu.max").exists():
                allowed, period = (folder / "cpu.max").read_text().split()
            else:
                allowed = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text()
        except OSError:  # no Linux, or a group that a container does not see
            continue
        if allowed not in ("max", "-1"):
            found.append(int(allowed) / int(period))
    return min(found, default=None)


def _folders(mount: Path, groups: Path) -> Iterator[Path]:
    """Of the groups that this process is in, and those around them, as far as they are seen."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount  # version 1 has a tree for each controller
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))
