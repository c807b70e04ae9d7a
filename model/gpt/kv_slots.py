"""Who holds which slot of the KV cache, and what is yet to be prefilled. Runs no network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class KvSlot:
    """One sequence in the cache: filled from ``first`` up to ``position``; then ``waiting``."""

    index: int  # in every pass
    first: int
    position: int  # the next one to be written
    waiting: Tensor  # [n, per_position]: embedding ids to be prefilled

    @classmethod
    def empty(cls, index: int, position: int, ids: Tensor) -> KvSlot:
        """An empty one, to be prefilled with ``ids`` from ``position`` on."""
        return cls(index, position, position, ids)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next ids, at most ``count``, and their positions; they count as prefilled now."""
        ids, self.waiting = self.waiting[:count], self.waiting[count:]
        positions = torch.arange(self.position, self.position + len(ids))
        self.position += len(ids)
        return ids, positions


class KvSlots:
    """The indices that are free. What is allocated is released, once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = set(range(count))

    @property
    def free(self) -> int:
        """How many are free."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """The lowest free ones. Raises ``RuntimeError`` where there are too few."""
        if count > len(self._free):
            raise RuntimeError(
                f"{count} KV slots are needed, {len(self._free)} of {self._count} are free"
            )
        taken = sorted(self._free)[:count]
        self._free.difference_update(taken)
        return taken

    def release(self, slots: list[KvSlot]) -> None:
        """Frees them, and empties the list: what was released cannot be released again."""
        self._free.update(slot.index for slot in slots)
        slots.clear()
