"""Which rows share the next step. Pure: no clock, no process, no tensors.

A worker keeps the rows of each model in a line, those that are due first in front (see
`app.engine.scheduler`). `choose` takes for the next step whoever fits, first in line first. Rows
join at any step: neither seed, step, step count nor guidance keeps two rows apart, only what
`ModelRow.kind` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar


class Steppable(Protocol):
    """What of a row decides which rows it can share a pass with."""

    @property
    def kind(self) -> str: ...

    @property
    def evaluations(self) -> int: ...


S = TypeVar("S", bound=Steppable)


def choose(line: Iterable[S], capacity: Callable[[str], int]) -> list[S]:
    """Who takes the next step of one model, in line order: for each kind, at most
    ``capacity(kind)`` evaluations. The first in line always does.

    Raises ``ValueError`` for a row that no pass of its kind can hold.
    """
    taken: dict[str, int] = {}
    rows: list[S] = []
    for row in line:
        kind, evaluations = row.kind, row.evaluations
        if taken.get(kind, 0) + evaluations <= capacity(kind):
            taken[kind] = taken.get(kind, 0) + evaluations
            rows.append(row)
        elif kind not in taken:
            raise ValueError(
                f"a row takes {evaluations} evaluations of a pass of kind {kind!r}, "
                f"which holds {capacity(kind)}"
            )
    return rows


def admissible(waiting: Iterable[int], used: int, tile: int) -> int:
    """How many of the rows that wait may start, given what each takes of the tile. Asks no more of
    them than that, and one.

    Strictly in order: a row that does not fit holds back the ones behind it, or rows with guidance
    would never find room for two evaluations at once.
    """
    count = 0
    for cost in waiting:
        used += cost
        if used > tile:
            break
        count += 1
    return count


def next_model(models: Sequence[str], last: str | None) -> str:
    """Which of the models that have rows steps next: by name, in a circle after ``last``."""
    return min(models, key=lambda model: (last is not None and model <= last, model))
