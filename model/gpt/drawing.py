"""A picture being drawn, place by place. Runs no network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.gpt.lanes import Kind, Lane
from model.gpt.sequence import UNKNOWN
from model.protocol import Source, TokenSampling


@dataclass(slots=True, eq=False)
class DrawingRow:
    """A picture in the making: ``codes`` [places, codes] so far, `UNKNOWN` where not yet drawn.

    The first lane is shown all codes so far. The second, for guidance, is shown those alone that
    the request gave: it says what belongs at a place whatever was drawn at those before.
    """

    lanes: list[Lane]
    codes: Tensor
    given: Tensor  # [places], those whose codes are the source's
    uniform: Tensor  # [places, codes], float64: its own noise, from its own seed
    sampling: TokenSampling
    guidance: float
    source: Source | None = None  # kept where its mask says so
    encoded: bool = True  # whether the codes of its source are known
    step: int = 0
    placed: bool = False  # whether a pass has what stays the same at every step

    @property
    def steps(self) -> int:
        return len(self.codes)

    @property
    def done(self) -> bool:
        return self.step == self.steps

    @property
    def kind(self) -> Kind:
        if not self.encoded:
            return "encode"
        return "feed" if any(len(lane.waiting) for lane in self.lanes) else "draw"

    @property
    def evaluations(self) -> int:
        match self.kind:
            case "encode":
                return 1
            case "feed":
                return sum(len(lane.waiting) > 0 for lane in self.lanes)
            case _:
                return len(self.lanes)

    @property
    def shown(self) -> list[Tensor]:
        """The codes [codes] of the place before, as each lane is shown them: `UNKNOWN` if hidden,
        and at the first place."""
        nothing = torch.full_like(self.codes[0], UNKNOWN)
        drawn = self.codes[self.step - 1] if self.step else nothing
        given = drawn if self.step and self.given[self.step - 1] else nothing
        return [drawn, given][: len(self.lanes)]

    def take(self, codes: Tensor) -> None:
        """The codes [codes] of the next place; those that are known already stay."""
        if self.codes[self.step, 0] == UNKNOWN:
            self.codes[self.step] = codes
        self.step += 1
