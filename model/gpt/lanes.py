"""Who holds which lane of the cache, and what is yet to be fed to it. Runs no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["encode", "feed", "draw", "read"]
"""The passes that a row's next step may need."""


@dataclass(slots=True, eq=False)
class Lane:
    """One sequence in the cache: filled from ``first`` up to ``slot``; ``waiting`` comes next."""

    index: int  # its place in every pass
    first: int
    slot: int  # the next one to be written
    waiting: Tensor  # [n, bag]

    @classmethod
    def beginning(cls, index: int, slot: int, bags: Tensor) -> Lane:
        """An empty lane, to be fed ``bags`` from ``slot`` on."""
        return cls(index, slot, slot, bags)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next bags, at most ``count``, and their slots; they are fed with that."""
        bags, self.waiting = self.waiting[:count], self.waiting[count:]
        slots = torch.arange(self.slot, self.slot + len(bags))
        self.slot += len(bags)
        return bags, slots


class Lanes:
    """The numbers of the lanes that are free. What is given out comes back, once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = set(range(count))

    @property
    def free(self) -> int:
        """How many are free."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """The first free ones. Raises ``RuntimeError``: rows must be let go, and fit the tile."""
        if count > len(self._free):
            raise RuntimeError(
                f"{count} lanes are needed, {len(self._free)} of {self._count} are free"
            )
        taken = sorted(self._free)[:count]
        self._free.difference_update(taken)
        return taken

    def give_back(self, lanes: list[Lane]) -> None:
        """Frees lanes, and empties the list: what was given back cannot be given back again."""
        self._free.update(lane.index for lane in lanes)
        lanes.clear()
