"""The rows of one model that wait for a worker: in order, but round-robin among requests.

A request of ten pictures thus holds up a request of one by at most one row.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from app.engine.ticket import Ticket


class Waiting:
    """A queue with a lane for each request; lanes take turns."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[int, deque[Ticket]] = OrderedDict()
        self._again: deque[Ticket] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, lane: int, tickets: list[Ticket]) -> None:
        """Appends rows of a request; a new lane gets its turn after the present ones."""
        if tickets:
            self._lanes.setdefault(lane, deque()).extend(tickets)
            self._count += len(tickets)

    def push_again(self, tickets: list[Ticket]) -> None:
        """Puts rows that a dead worker had before all others, in their order."""
        self._again.extendleft(reversed(tickets))
        self._count += len(tickets)

    def peek(self) -> Ticket | None:
        """The row whose turn it is."""
        if self._again:
            return self._again[0]
        for tickets in self._lanes.values():
            return tickets[0]
        return None

    def pop(self) -> Ticket:
        """Takes the row whose turn it is. Raises ``IndexError`` when there is none."""
        if self._again:
            self._count -= 1
            return self._again.popleft()
        if not self._lanes:
            raise IndexError("no row waits")
        lane, tickets = self._lanes.popitem(last=False)
        ticket = tickets.popleft()
        if tickets:
            self._lanes[lane] = tickets
        self._count -= 1
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Takes a row out of turn; whether it was here."""
        if ticket in self._again:
            self._again.remove(ticket)
            self._count -= 1
            return True
        for lane, tickets in self._lanes.items():
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del self._lanes[lane]
                self._count -= 1
                return True
        return False
