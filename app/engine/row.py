"""One image to compute, as the API process sees it, and the queue of those that wait."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
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

    def message(self) -> NewRow:
        """What a worker needs of it."""
        return NewRow(self.id, self.request, self.watched, self.seen)


class RowQueue:
    """The rows of one model that wait for a worker: in order, but round-robin among ``owners``.

    A job of ten images thus delays a job of one by at most one row.
    """

    def __init__(self) -> None:
        self._by_owner: OrderedDict[Hashable, deque[Row]] = OrderedDict()
        self._restored: deque[Row] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, owner: Hashable, row: Row) -> None:
        """Appends a row of an owner; a new owner comes after the present ones."""
        self._by_owner.setdefault(owner, deque()).append(row)
        self._count += 1

    def restore(self, rows: Iterable[Row]) -> None:
        """Puts rows of a dead worker before all others, in their order."""
        rows = tuple(rows)
        self._restored.extendleft(reversed(rows))
        self._count += len(rows)

    def peek(self) -> Row | None:
        """The next row."""
        if self._restored:
            return self._restored[0]
        for rows in self._by_owner.values():
            return rows[0]
        return None

    def pop(self) -> Row:
        """Takes the next row. Raises ``IndexError`` when there is none."""
        if not self._count:
            raise IndexError("no row waits")
        self._count -= 1
        if self._restored:
            return self._restored.popleft()
        owner, rows = self._by_owner.popitem(last=False)
        row = rows.popleft()
        if rows:
            self._by_owner[owner] = rows
        return row

    def remove(self, row: Row) -> bool:
        """Takes a row out; whether it was here."""
        if row in self._restored:
            self._restored.remove(row)
            self._count -= 1
            return True
        for owner, rows in self._by_owner.items():
            if row in rows:
                rows.remove(row)
                if not rows:
                    del self._by_owner[owner]
                self._count -= 1
                return True
        return False
