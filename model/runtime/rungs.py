"""Which size a pass runs in: the smallest that holds its rows and gives the bits of the largest.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from cachetools import LRUCache

MOST_KINDS = 4096
"""Kinds of passes, with a size of each, that are remembered."""


class Rungs:
    """The sizes that a model's passes run in: powers of two, what lies halfway between them (1, 2,
    3, 4, 6, 8, 12 …), and the tile, which holds all its rows.

    Libraries choose other kernels, with other rounding, for other sizes. So a smaller one is used
    only where it was seen to give the tile's bits: whoever runs a pass asks which size is `holding`
    its rows, computes one that is not `tested` beside the tile, reports what it saw (`learn`), and
    goes on with the tile's output. So sizes change time and never pictures; they are no part of
    numerics.
    """

    def __init__(self, tile: int, *, smaller: bool = True, halfway: bool = True) -> None:
        """Without ``smaller`` every pass is as large as the tile. Without ``halfway`` smaller ones
        are powers of two: where each has its price, as CUDA graphs do. ``uses`` counts the calls
        of `use`: what a model remembers of a pass, it remembers until the next one."""
        self.tile = tile
        powers = {1 << bit for bit in range(tile.bit_length())} if smaller else set()
        between = {3 * power // 2 for power in powers if power > 1 and halfway}
        self.smaller = tuple(sorted(size for size in powers | between if size < tile))
        self._used = self.smaller
        self.uses = 0
        self._equal: LRUCache[tuple[Hashable, int], bool] = LRUCache(MOST_KINDS)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those in use, ascending, without those that were seen to differ for every kind of pass
        that was tried in them."""
        tried = {size for _, size in self._equal}
        equal = {size for (_, size), same in self._equal.items() if same}
        return (*(size for size in self._used if size not in tried - equal), self.tile)

    def use(self, smaller: Iterable[int]) -> None:
        """From now on, of the smaller sizes only these."""
        self._used = tuple(sorted(smaller))
        self.uses += 1

    def holding(self, kind: Hashable, count: int) -> int:
        """The smallest size in use that has so many places and is not known to differ."""
        for size in self._used:
            if size >= count and self._equal.get((kind, size), True):
                return size
        return self.tile

    def tested(self, kind: Hashable, size: int) -> bool:
        """Whether it is known what bits the size gives."""
        return size == self.tile or (kind, size) in self._equal

    def learn(self, kind: Hashable, size: int, *, equal: bool) -> None:
        """Whether the size gave the tile's bits."""
        self._equal[kind, size] = equal
