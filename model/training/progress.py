"""Who is told how a run goes on."""

from __future__ import annotations

from pathlib import Path


class ProgressReport:
    """Is called as a run goes on. What a subclass leaves out is told to nobody."""

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


class Quiet(ProgressReport):
    """Of a process that is not the first: what it would say, that one says."""

    def __init__(self, progress: ProgressReport) -> None:
        self._progress = progress

    def interrupted(self, signal: int) -> None:
        self._progress.interrupted(signal)
