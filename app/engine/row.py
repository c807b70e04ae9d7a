"""One image to compute, as the API process sees it, and the queue of those that wait."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from app.engine.job import Job
from app.engine.messages import NewRow
from model.request import ImageRequest


@dataclass(frozen=True, slots=True)
class Waiter:
    """A job that waits for the row, as its request ``index``."""

    job: Job
    index: int


@dataclass(slots=True, eq=False)
class Row:
    """Equal requests share one; it lives until it is finished, failed, or nothing waits for it."""

    id: int
    request: ImageRequest
    cost: int  # the most evaluations of one of its passes: what it takes of a tile
    steps: int  # in all; an estimate until the first is done
    accepted: float
    due: int  # by the clock of its model, see `app.engine.scheduler`
    cacheable: bool = False
    watched: bool = False  # whether any job wants previews
    waiters: list[Waiter] = field(default_factory=list)
    step: int = 0  # of the present attempt
    shown: int = 0  # the last step that jobs were told of, in any attempt
    seen: int = 0  # the last step of which a preview was shown, in any attempt
    crashes: int = 0  # workers that died with it among their rows
    crashes_alone: int = 0  # workers that died while it ran alone, in quarantine

    @property
    def leaving(self) -> bool:
        """Whether its room in the tile is free soon: it takes its last step, or is cancelled."""
        return self.step >= self.steps - 1 or not self.waiters

    def order(self) -> tuple[int, int]:
        """Rows with the least are computed first."""
        return self.due, self.id

    def message(self) -> NewRow:
        """What a worker needs of it."""
        return NewRow(self.id, self.request, self.watched, self.seen, self.due)


class RowQueue:
    """The rows of one model that wait for a worker; those that are due first come first."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def push(self, row: Row) -> None:
        """Adds a row, behind those that are due before it or came before it."""
        insort(self._rows, row, key=Row.order)

    def peek(self) -> Row | None:
        """The next row."""
        return self._rows[0] if self._rows else None

    def pop(self) -> Row:
        """Takes the next row. Raises ``IndexError`` when there is none."""
        return self._rows.pop(0)

    def remove(self, row: Row) -> bool:
        """Takes a row out; whether it was here."""
        if row not in self._rows:
            return False
        self._rows.remove(row)
        return True
