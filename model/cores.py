"""What of the machine's processors this process may use. Imports no torch."""

from __future__ import annotations

import os


def cores() -> int:
    """CPU cores, as the scheduler's affinity has them where there is one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
