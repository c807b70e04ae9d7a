"""How long passes and images take, and which tile to serve with. No two runs have equal figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.protocol import ImageModel
from model.request import ImageRequest
from model.runtime.generate import generate

NEAR = 0.9
"""Share of the best evaluations a second that the recommended tile must reach."""

ROUNDS = 3
LEAST_SECONDS = 1.0
"""So many rounds of images at least, and so long: what takes milliseconds is measured often."""


@dataclass(frozen=True, slots=True)
class TileSpeed:
    """Passes at one tile size.

    A bigger tile draws more images a second under load. One lone image pays for all of it, where
    smaller passes give other bits (`model.runtime.rungs`).
    """

    tile: int
    step_seconds: float  # median
    cost: int = 2  # evaluations in a step of an image: two with guidance

    @property
    def evaluations_per_second(self) -> float:
        return self.tile / self.step_seconds

    def images_per_second(self, steps: int) -> float:
        return self.evaluations_per_second / (self.cost * steps)

    def image_seconds(self, steps: int) -> float:
        """From first to last step, in a full tile; alone where no pass is smaller."""
        return steps * self.step_seconds


@dataclass(frozen=True, slots=True)
class Speed:
    """Images from a prompt to their pixels: medians of some rounds."""

    tile: int
    images_per_second: float  # with every evaluation of the tile in use
    image_seconds: float  # one alone


def measure(model: ImageModel[Any], seconds: float) -> TileSpeed:
    """Times full passes for about ``seconds``, after a few that are not counted."""
    request = model.spec.request("an image")
    if steps := model.spec.parameter("steps"):
        request = replace(request, parameters=model.spec.fill({"steps": steps.maximum}))
    passes = _full_passes(model, request)
    for _ in range(3):
        next(passes)
    times = [next(passes)]
    while sum(times) < seconds:
        times.append(next(passes))
    return TileSpeed(model.tile, statistics.median(times), model.cost(request))


def measure_speed(model: ImageModel[Any], request: ImageRequest) -> Speed:
    """Times full tiles of a request and the request alone, each once beforehand."""
    full = [request] * (model.tile // model.cost(request))
    return Speed(model.tile, len(full) / _seconds(model, full), _seconds(model, [request]))


def recommend(speeds: Sequence[TileSpeed]) -> TileSpeed:
    """The smallest tile that reaches `NEAR` of the best throughput."""
    best = max(speed.evaluations_per_second for speed in speeds)
    near = [speed for speed in speeds if speed.evaluations_per_second >= NEAR * best]
    return min(near, key=lambda speed: speed.tile)


def _full_passes(model: ImageModel[Any], request: ImageRequest) -> Iterator[float]:
    """Seconds of one pass that advances rows after another, every evaluation of the tile in use."""
    while True:
        count = model.tile // model.cost(request)
        rows = [model.start(replace(request, seed=seed)) for seed in range(count)]
        while (step := rows[0].step) < rows[0].steps:
            began = time.perf_counter()
            model.step(rows)
            took = time.perf_counter() - began
            if rows[0].step > step:  # not one that encoded or prefilled
                yield took
        for row in rows:
            model.release(row)


def _seconds(model: ImageModel[Any], requests: Sequence[ImageRequest]) -> float:
    list(generate(model, requests))
    times: list[float] = []
    while len(times) < ROUNDS or sum(times) < LEAST_SECONDS:
        began = time.perf_counter()
        list(generate(model, requests))
        times.append(time.perf_counter() - began)
    return statistics.median(times)
