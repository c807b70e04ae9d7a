"""What the engine tells of itself: one method for each thing that happens, on the event loop.

The engine knows no metrics library. Seconds are of the monotonic clock; ``model`` is the id of a
loaded model and ``device`` a name out of `EngineSettings.devices`, so both come from small closed
sets. Nothing of warm-up or self-test is told.
"""

from __future__ import annotations

from typing import Literal, Protocol

Rejection = Literal["queue_full", "not_ready", "draining", "unknown_model", "poisonous", "deadline"]
"""Why work was not done: refused at submission, or, for "deadline", given up on later."""

Restart = Literal["crashed", "silent"]
"""Why a worker process was replaced: it died, or it was killed because it said nothing."""


class EngineMetrics(Protocol):
    """Implementations must not raise or block."""

    def rejected(self, reason: Rejection) -> None:
        """A request was refused or, past its deadline, given up."""

    def cache_hit(self, model: str) -> None:
        """A picture was answered from memory."""

    def coalesced(self, model: str) -> None:
        """A wanted picture was already in the making for another request, and shares its row."""

    def rows(self, model: str, *, waiting: int, running: int) -> None:
        """So many rows wait for a worker, so many are with one. Told when either changes."""

    def joined(self, model: str, rows: int) -> None:
        """So many rows took their first step beside rows that were already under way."""

    def left(self, model: str, rows: int) -> None:
        """So many rows took their last step beside rows that go on."""

    def stepped(
        self, model: str, seconds: float, *, tile: int, evaluations: tuple[int, ...]
    ) -> None:
        """A worker did one step: a pass of ``tile`` places for each entry of ``evaluations``.

        Each entry counts the places that held work; the rest of its tile was padding.
        """

    def first_preview(self, model: str, seconds: float) -> None:
        """A request got its first preview, so long after it was accepted."""

    def finished(
        self, model: str, *, queue_seconds: float, compute_seconds: float, pixels: int
    ) -> None:
        """A row became a picture, or a description, which has no pixels.

        A row that several requests share is told once.
        """

    def cancelled(self, model: str, rows: int) -> None:
        """So many rows left unfinished, because nobody waits for them any longer."""

    def replayed(self, model: str, rows: int) -> None:
        """So many rows were with a worker that died, and wait to be computed again."""

    def restarted(self, device: str, reason: Restart) -> None:
        """A worker process that had been ready was lost; another one takes its place."""

    def device_memory(self, device: str, allocated: int) -> None:
        """A worker holds so many bytes of its device's memory; 0 where the device does not tell."""

    def loaded(self, model: str, *, seed_exact: bool) -> None:
        """A model is ready on every worker; whether its self-test held on all of them."""


class NoMetrics:
    """Listens to nothing."""

    def rejected(self, reason: Rejection) -> None: ...

    def cache_hit(self, model: str) -> None: ...

    def coalesced(self, model: str) -> None: ...

    def rows(self, model: str, *, waiting: int, running: int) -> None: ...

    def joined(self, model: str, rows: int) -> None: ...

    def left(self, model: str, rows: int) -> None: ...

    def stepped(
        self, model: str, seconds: float, *, tile: int, evaluations: tuple[int, ...]
    ) -> None: ...

    def first_preview(self, model: str, seconds: float) -> None: ...

    def finished(
        self, model: str, *, queue_seconds: float, compute_seconds: float, pixels: int
    ) -> None: ...

    def cancelled(self, model: str, rows: int) -> None: ...

    def replayed(self, model: str, rows: int) -> None: ...

    def restarted(self, device: str, reason: Restart) -> None: ...

    def device_memory(self, device: str, allocated: int) -> None: ...

    def loaded(self, model: str, *, seed_exact: bool) -> None: ...
