"""What can be done with an uploaded picture: names for clients, made of what models can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model.protocol import Operation

Name = Literal["vary", "inpaint", "outpaint", "upscale", "colorize", "denoise", "restyle"]
"""outpaint is inpaint around the picture, restyle is vary with a prompt."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of them. Fields that are ``SPECIAL`` and not among ``takes`` mean nothing to it."""

    does: Operation
    takes: frozenset[str] = frozenset()
    strength: float = 1.0  # where none is given
    steps: int | None = None  # where none are given; None is the model's own default
    needs_prompt: bool = False
    keeps: bool = False  # whether the upload's own pixels are in the answer


MARGINS = frozenset({"left", "top", "right", "bottom"})
SPECIAL = frozenset({"mask", "strength", "factor", "noise"}) | MARGINS

KINDS: dict[Name, Kind] = {
    "vary": Kind("vary", frozenset({"strength"}), strength=0.6),
    "restyle": Kind("vary", frozenset({"strength"}), strength=0.8, needs_prompt=True),
    "inpaint": Kind("inpaint", frozenset({"mask", "strength"}), keeps=True),
    "outpaint": Kind("inpaint", MARGINS, keeps=True),
    "upscale": Kind("upscale", frozenset({"factor"})),
    "colorize": Kind("colorize"),
    # One prediction at the noise that is there is the mean of all that it could have been.
    "denoise": Kind("denoise", frozenset({"noise"}), steps=1),
}


def offered(operations: Sequence[Operation]) -> list[str]:
    """What can be asked of a model that can do these."""
    made = [name for name, kind in KINDS.items() if kind.does in operations]
    return [*(each for each in operations if each not in KINDS), *made]
