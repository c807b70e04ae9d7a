"""How long a pass takes at each tile size, and which size to serve with.

A bigger tile draws more pictures a second under load, but one lone picture pays for all its
places; so the smallest tile is recommended whose throughput is near the best.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.protocol import ImageModel, RowRequest

NEAR = 0.9
"""Share of the best evaluations a second that the recommended tile must reach."""


@dataclass(frozen=True, slots=True)
class TileSpeed:
    """One tile size, measured."""

    tile: int
    step_seconds: float  # median
    places: int = 2  # evaluations in a step of a picture: two with guidance

    @property
    def evaluations_per_second(self) -> float:
        return self.tile / self.step_seconds

    def images_per_second(self, steps: int) -> float:
        return self.evaluations_per_second / (self.places * steps)

    def image_seconds(self, steps: int) -> float:
        """From first to last step, alone or in a full tile."""
        return steps * self.step_seconds


def measure(model: ImageModel[Any], seconds: float) -> TileSpeed:
    """Times full passes for about ``seconds``, after a few that are not counted."""
    request = RowRequest("a picture", 0, int(model.spec.steps.high), model.spec.guidance.default)
    passes = _full_passes(model, request)
    for _ in range(3):
        next(passes)
    times = [next(passes)]
    while sum(times) < seconds:
        times.append(next(passes))
    return TileSpeed(model.tile, statistics.median(times), request.places)


def recommend(speeds: Sequence[TileSpeed]) -> TileSpeed:
    """The smallest tile that reaches `NEAR` of the best throughput."""
    best = max(speed.evaluations_per_second for speed in speeds)
    near = [speed for speed in speeds if speed.evaluations_per_second >= NEAR * best]
    return min(near, key=lambda speed: speed.tile)


def _full_passes(model: ImageModel[Any], request: RowRequest) -> Iterator[float]:
    """Seconds of one drawing pass after another, every place of the tile in use."""
    while True:
        count = model.tile // request.places
        rows = [model.start(replace(request, seed=seed)) for seed in range(count)]
        if request.steps > 1:
            model.step(rows)  # reads the prompts; in a single step that is part of drawing
        while not rows[0].done:
            began = time.perf_counter()
            model.step(rows)
            yield time.perf_counter() - began
        for row in rows:
            model.release(row)
