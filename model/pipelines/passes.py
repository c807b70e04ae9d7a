"""Passes of a network: calls joined to one size, or to a smaller one that gives the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.pipelines.calls import Call, cut, equal, join
from model.pipelines.gate import Gate
from model.runtime.rungs import Rungs


class Passes:
    """Runs joined calls, in the smallest size that holds them and gives the tile's bits.

    Attributes:
        size: rows of the last pass, those that filled it up included.
    """

    def __init__(self, rungs: Rungs, *, joined: bool = True) -> None:
        """Without ``joined`` each call is computed as it is."""
        self.size = 0
        self._rungs = rungs
        self._joined = joined

    def run(self, gate: Gate, calls: Sequence[Call]) -> list[Any]:
        """Each call's part of one pass."""
        kind, count = calls[0].kind, sum(call.evaluations for call in calls)
        if not self._joined:
            self.size = count
            return [gate.compute(**call.arguments) for call in calls]
        size = self._rungs.holding(kind, count)
        self.size = size if self._rungs.tested(kind, size) else self._rungs.tile
        output = gate.compute(**join(calls, self.size))
        if size != self.size:
            small = gate.compute(**join(calls, size))
            same = equal(cut(small, 0, count), cut(output, 0, count))
            self._rungs.learn(kind, size, equal=same)
        parts, start = [], 0
        for call in calls:
            parts.append(cut(output, start, start + call.evaluations))
            start += call.evaluations
        return parts
