"""Copies of small checkpoints that are this service's own.

A model that is trained further, replaced or removed while it is served would else give the next
worker other bytes than those whose digest every answer names, and no worker could take its place.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from model.checkpoint import Checkpoint

PREFIX = "tessera-models-"
LOCK = "in-use"

log = logging.getLogger(__name__)


class PrivateCopies:
    """A temporary folder of them. It goes with this object, and at the latest with the process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._finalizer: weakref.finalize[..., PrivateCopies] | None = None

    def of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint from its copy; itself where it is not copied, or there is no room."""
        try:
            return checkpoint.copied(self._made())
        except OSError as error:
            log.warning(
                "%s is served from where it lies, not from a copy (%s): if its files change, "
                "a worker that is replaced will refuse them",
                checkpoint.folder,
                error,
            )
            return checkpoint

    def remove(self) -> None:
        """Once no worker needs them any more. Idempotent."""
        if self._finalizer is not None:
            self._finalizer()

    def _made(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._finalizer = weakref.finalize(self, _remove, self._folder, lock)
            remove_abandoned(self._folder.parent)
        return self._folder


def remove_abandoned(folder: Path) -> None:
    """Removes those of processes that were killed, whose locks the system has freed."""
    for copies in folder.glob(f"{PREFIX}*"):
        try:
            lock = os.open(copies / LOCK, os.O_RDWR)
        except OSError:  # being made just now, or another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            _remove(copies, lock)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
