"""How long pictures take, many together and one alone. No two runs have the same figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model.evaluation.sampling import Sampling
from model.protocol import ImageModel, RowRequest
from model.sampling import generate

PROMPT = "red apple"
ROUNDS = 3  # at least
LEAST = 1.0  # seconds in all: what takes milliseconds is measured often


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians of some rounds, from a prompt to a picture's pixels."""

    tile: int
    pictures_per_second: float  # with every place of the tile in use
    picture_seconds: float  # one alone


def measure_speed(model: ImageModel[Any], sampling: Sampling) -> Speed:
    """Draws full tiles and single pictures, once each beforehand."""
    request = RowRequest(PROMPT, sampling.seed, sampling.steps, sampling.guidance)
    full = [request] * (model.tile // request.places)
    together, alone = _seconds(model, full), _seconds(model, [request])
    return Speed(model.tile, len(full) / together, alone)


def _seconds(model: ImageModel[Any], requests: Sequence[RowRequest]) -> float:
    list(generate(model, requests))
    times: list[float] = []
    while len(times) < ROUNDS or sum(times) < LEAST:
        began = time.perf_counter()
        list(generate(model, requests))
        times.append(time.perf_counter() - began)
    return statistics.median(times)
