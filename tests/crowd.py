"""Promise 1 in tests: what is asked for among others is answered as if it were asked for alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Answers(Generic[A]):
    """To the same questions, in their order."""

    crowded: list[A]  # asked at random times, many at once
    alone: list[A]  # asked one after the other

    @property
    def differing(self) -> int:
        """How many are not the same in both."""
        return sum(one != other for one, other in zip(self.crowded, self.alone, strict=True))


async def in_a_crowd_and_alone(
    ask: Callable[[Q], Awaitable[A]], questions: Sequence[Q], *, apart: float
) -> Answers[A]:
    """Asks all questions twice; ``apart`` is the mean time between two of the crowd, in seconds."""
    dice = random.Random(11)

    async def later(question: Q) -> A:
        await asyncio.sleep(dice.uniform(0, apart * len(questions)))
        return await ask(question)

    crowded = await asyncio.gather(*map(later, questions))
    return Answers(list(crowded), [await ask(question) for question in questions])
