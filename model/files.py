"""Files that others read while they are written: each is whole at every moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Has ``write`` make a file beside ``path``, which then takes its place.

    Whoever opens ``path``, even after a kill or a loss of power, finds what was there before or all
    that was written. Where ``write`` fails, nothing is changed and nothing left behind.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        part.chmod(0o644)  # written for its owner alone, it could not be read in a container
        _to_disk(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Raises ``OSError`` for what the disk does not take."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
