"""Which rows share the next step. Pure: no clock, no process, no tensors.

A worker keeps the rows of each model in a line. `choose` takes for the next step whoever fits,
first in line first, and those who stepped go to the back; as the first in line is always taken,
no row starves. Rows join at any step: neither seed, step, step count nor guidance keeps two rows
apart, only what `Row.kind` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Steppable(Protocol):
    """What of a row decides whom it can share a pass with."""

    @property
    def kind(self) -> str: ...

    @property
    def evaluations(self) -> int: ...


S = TypeVar("S", bound=Steppable)


@dataclass(frozen=True, slots=True)
class Batch(Generic[S]):
    """Who takes the next step, and who waits for the one after. Both in line order."""

    rows: tuple[S, ...]
    rest: tuple[S, ...]

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Places taken in each pass; one pass for each kind, in order of first appearance."""
        return tuple(_by_kind(self.rows).values())


def choose(line: Iterable[S], tile: int) -> Batch[S]:
    """The next step of one model: for each kind, at most ``tile`` evaluations."""
    taken: Counter[str] = Counter()
    rows: list[S] = []
    rest: list[S] = []
    for row in line:
        if taken[row.kind] + row.evaluations <= tile:
            taken[row.kind] += row.evaluations
            rows.append(row)
        else:
            rest.append(row)
    return Batch(tuple(rows), tuple(rest))


def admissible(waiting: Sequence[int], used: int, tile: int) -> int:
    """How many of the rows that wait may start, given the places that each takes.

    Strictly in order: a row that does not fit holds back the ones behind it, or rows with guidance
    would never find two places free at once.
    """
    for count, places in enumerate(waiting):
        used += places
        if used > tile:
            return count
    return len(waiting)


def next_turn(models: Sequence[str], last: str | None) -> str:
    """Which of the models that have rows steps next: by name, in a circle after ``last``."""
    return min(models, key=lambda model: (last is not None and model <= last, model))


def _by_kind(rows: Iterable[Steppable]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        sums[row.kind] = sums.get(row.kind, 0) + row.evaluations
    return sums
