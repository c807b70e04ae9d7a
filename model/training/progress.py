"""Who is told how a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ProgressReport(Protocol):
    """Is called as a run goes on."""

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Step ``step`` is done."""

    def expect(self, steps: int, seconds: float) -> None:
        """The run is to have so many steps in all, and to take so many seconds more."""

    def page(self, path: Path) -> None:
        """The run's page is there, and is written anew as the run goes on."""

    def reading(self, done: int, total: int) -> None:
        """So many images of all have been read."""

    def note(self, text: str) -> None:
        """Something worth a line on a terminal."""

    def interrupted(self, signal: int) -> None:
        """The run ends before its last step."""


class Quiet:
    """Of a process that is not the first: what it would say, that one says."""

    def __init__(self, progress: ProgressReport) -> None:
        self._progress = progress

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Is said by the first."""

    def expect(self, steps: int, seconds: float) -> None:
        """Is said by the first."""

    def page(self, path: Path) -> None:
        """Is said by the first."""

    def reading(self, done: int, total: int) -> None:
        """Is said by the first."""

    def note(self, text: str) -> None:
        """Is said by the first."""

    def interrupted(self, signal: int) -> None:
        self._progress.interrupted(signal)
