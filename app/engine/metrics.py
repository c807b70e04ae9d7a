"""What the engine reports of itself: one method for each thing that happens, on the event loop.

Seconds are of the monotonic clock; ``model`` is the id of a loaded model and ``device`` a name out
of `EngineSettings.devices`, so both come from small closed sets. Warm-up and self-test are not
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from model.protocol import Pass

Rejection = Literal["queue_full", "not_ready", "draining", "unknown_model", "poisonous", "deadline"]
"""Why work was not done: refused at submission, or, for "deadline", given up on later."""

Restart = Literal["crashed", "silent"]
"""Why a worker process was replaced: it died, or it was killed because it reported nothing."""


class EngineMetrics:
    """Ignores all of it; override what is of interest. Methods must not raise or block."""

    def rejected(self, reason: Rejection) -> None:
        """A request was refused or, past its deadline, given up."""

    def cache_hit(self, model: str) -> None:
        """An image was answered from memory."""

    def coalesced(self, model: str) -> None:
        """An image was already being computed for another request, and shares its row."""

    def rows(self, model: str, *, waiting: int, running: int) -> None:
        """How many rows wait for a worker and how many are with one, when either changes."""

    def joined(self, model: str, rows: int) -> None:
        """So many rows took their first step beside rows that were already under way."""

    def left(self, model: str, rows: int) -> None:
        """So many rows took their last step beside rows that go on."""

    def stepped(self, model: str, seconds: float, passes: Sequence[Pass]) -> None:
        """A worker did one step, in so many passes."""

    def first_preview(self, model: str, seconds: float) -> None:
        """A request got its first preview, so long after it was accepted."""

    def finished(
        self, model: str, *, queue_seconds: float, compute_seconds: float, pixels: int
    ) -> None:
        """A row became an image, or a description, which has no pixels.

        Once for a row that several requests share.
        """

    def cancelled(self, model: str, rows: int) -> None:
        """So many rows left unfinished, because no request waits for them any longer."""

    def replayed(self, model: str, rows: int) -> None:
        """So many rows were with a worker that died, and wait to be computed again."""

    def restarted(self, device: str, reason: Restart) -> None:
        """A worker process that had been ready was lost; another one takes its place."""

    def device_memory(self, device: str, allocated: int) -> None:
        """A worker holds so many bytes of its device's memory; 0 where the device does not tell."""

    def loaded(self, model: str, *, seed_exact: bool) -> None:
        """A model is ready on every worker; whether its self-test held on all of them."""
