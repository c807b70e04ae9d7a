"""How fast rows are finished, and so how long a full queue will take."""

from __future__ import annotations

from collections import deque

MEMORY = 256  # steps that count
UNKNOWN = 5.0  # seconds to wait where nothing is known yet
SHORTEST, LONGEST = 1.0, 60.0


class Pace:
    """Measured while workers work, so that a quiet hour does not make them look slow."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float]] = deque(maxlen=MEMORY)

    def stepped(self, finished: int, seconds: float) -> None:
        """One worker's step, and how many rows it finished."""
        self._steps.append((finished, seconds))

    def seconds_for(self, rows: int, workers: int) -> float:
        """About how long so many workers take for ``rows``, within what is worth telling."""
        finished = sum(count for count, _ in self._steps)
        seconds = sum(seconds for _, seconds in self._steps)
        if not finished or not workers:
            return UNKNOWN
        return min(max(rows * seconds / finished / workers, SHORTEST), LONGEST)
