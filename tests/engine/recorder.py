"""Metrics that remember, for tests that ask what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from app.engine import EngineMetrics
from app.engine.metrics import Rejection, Restart
from model.protocol import Pass


class Recorder(EngineMetrics):
    """Counts what happens, and keeps the last value of gauges."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.rejections: Counter[Rejection] = Counter()
        self.restarts: Counter[Restart] = Counter()
        self.waiting: dict[str, int] = {}
        self.running: dict[str, int] = {}
        self.most_waiting = 0
        self.passes: list[Pass] = []
        self.seed_exact: dict[str, bool] = {}

    def rejected(self, reason: Rejection) -> None:
        self.rejections[reason] += 1

    def cache_hit(self, model: str) -> None:
        self.count["cache_hit"] += 1

    def coalesced(self, model: str) -> None:
        self.count["coalesced"] += 1

    def rows(self, model: str, *, waiting: int, running: int) -> None:
        self.waiting[model] = waiting
        self.running[model] = running
        self.most_waiting = max(self.most_waiting, waiting)

    def joined(self, model: str, rows: int) -> None:
        self.count["joined"] += rows

    def left(self, model: str, rows: int) -> None:
        self.count["left"] += rows

    def stepped(self, model: str, seconds: float, passes: Sequence[Pass]) -> None:
        self.count["stepped"] += 1
        self.passes.extend(passes)

    def first_preview(self, model: str, seconds: float) -> None:
        self.count["first_preview"] += 1

    def finished(
        self, model: str, *, queue_seconds: float, compute_seconds: float, pixels: int
    ) -> None:
        self.count["finished"] += 1

    def cancelled(self, model: str, rows: int) -> None:
        self.count["cancelled"] += rows

    def replayed(self, model: str, rows: int) -> None:
        self.count["replayed"] += rows

    def restarted(self, device: str, reason: Restart) -> None:
        self.restarts[reason] += 1

    def device_memory(self, device: str, allocated: int) -> None:
        self.count["device_memory"] += 1

    def loaded(self, model: str, *, seed_exact: bool) -> None:
        self.seed_exact[model] = seed_exact

    @property
    def idle(self) -> bool:
        """Whether no row waits or runs."""
        return not any(self.waiting.values()) and not any(self.running.values())
