"""Passes of a network: calls joined to one size, or to a smaller one that gives the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cachetools import LRUCache

from model.pipelines.calls import Call, cut, equal, join
from model.pipelines.gate import Gate

MOST_KINDS = 4096
"""Kinds of passes whose small sizes are remembered."""


class Passes:
    """Runs joined calls.

    A pass has ``tile`` rows. A smaller size (1, 2, 4 …) is used where it gives the tile's bits: the
    first time that a kind of call would fit one, it is computed at both sizes and compared. The
    tile's output is what counts then, so that the sizes change time and never pictures.
    """

    def __init__(self, tile: int, *, joined: bool = True) -> None:
        """Without ``joined`` each call is computed as it is."""
        self._tile = tile
        self._joined = joined
        self._equal: LRUCache[tuple[str, int], bool] = LRUCache(MOST_KINDS)

    def run(self, gate: Gate, calls: Sequence[Call]) -> list[Any]:
        """Each call's part of one pass."""
        if not self._joined:
            return [gate.method(**call.arguments) for call in calls]
        count = sum(call.evaluations for call in calls)
        size = min(self._tile, 1 << (count - 1).bit_length())
        known = self._equal.get((calls[0].kind, size)) if size < self._tile else False
        output = gate.method(**join(calls, size if known else self._tile))
        if known is None:
            small = gate.method(**join(calls, size))
            self._equal[calls[0].kind, size] = equal(cut(small, 0, count), cut(output, 0, count))
        parts, start = [], 0
        for call in calls:
            parts.append(cut(output, start, start + call.evaluations))
            start += call.evaluations
        return parts
