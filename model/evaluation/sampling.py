"""Which pictures a figure is measured on, and how they are drawn."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from model.data.emoji import Emoji


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn for a figure."""

    steps: int
    guidance: float
    seed: int = 0

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{steps}, guidance {self.guidance:g}, seed {self.seed}"


def choose(records: Sequence[Emoji], count: int) -> list[Emoji]:
    """Up to ``count`` records, uniform over ``base``; the same ones every time."""
    groups: dict[str, list[Emoji]] = defaultdict(list)
    for record in records:
        groups[record.base].append(record)
    draw = random.Random(0)
    bases = draw.sample(sorted(groups), min(count, len(groups)))
    return [draw.choice(groups[base]) for base in bases]
