"""What is asked of a model: one frozen, hashable request for each image. Imports no torch.

An `ImageRequest` has every default filled in (see `model.spec.ModelSpec.request`). The engine
queues it, the pipe carries it, the model starts a row from it, caches are keyed by it: nothing
between copies it into a type of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operation = Literal[
    "generate", "walk", "vary", "inpaint", "upscale", "colorize", "denoise", "edit", "describe"
]
"""What a row does: ``generate`` and ``walk`` start from noise alone, the others from a `Source`.

``describe`` makes text of it, the others make an image; ``edit`` does to it what the prompt says.
A row of a walk is one frame of an interpolation loop: see ``ImageRequest.phase``.
"""

SEEDS = 2**53
"""Seeds are integers from 0 up to this, exclusive: the integers that JavaScript holds exactly."""


FACTORS = (2, 4)
"""How many times an image can be upscaled."""


class InvalidField(ValueError):
    """A field of a request that cannot be served.

    ``str()`` says what was given and what is accepted, without naming the field; whoever asked is
    told by its own means (a 400 with ``param``, a line about an option).
    """

    def __init__(self, field: str, message: str, *, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


@dataclass(frozen=True, slots=True)
class Picture:
    """uint8 [height, width, channels], row by row from the top. RGBA is not premultiplied."""

    width: int
    height: int
    channels: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """The image that a row starts from, fitted to the model: no other size is taken.

    ``picture`` has the request's width and height and the model's channels. For ``upscale`` it is
    smaller by the factor, 2 or 4, and the request may be larger than the model's images; for
    ``colorize`` only its brightness counts; for ``edit`` it has whatever size it was uploaded in,
    and so have the ``others``.
    """

    picture: Picture
    mask: bytes | None = None  # inpaint: uint8 [height, width], 255 is regenerated, 0 is kept
    others: tuple[Picture, ...] = ()  # edit: further images that the prompt may speak of


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image to make, or one to describe. Equal requests make equal pixels."""

    model: str  # the id of a loaded model
    prompt: str  # "" is unconditional
    seed: int  # 0 … SEEDS − 1
    width: int  # pixels that the model draws
    height: int
    parameters: tuple[tuple[str, float], ...] = ()  # by name, sorted: what the model's spec has
    operation: Operation = "generate"
    negative_prompt: str = ""
    source: Source | None = None  # with every operation but "generate" and "walk"
    labels: tuple[str, ...] = ()  # describe: what to choose from; (): what the model knows
    phase: float = 0.0  # walk: position on the loop, 0…1; at ¼ is the next seed's noise
    lora: str = ""  # the name of an adapter of the model's, "" for none

    def value(self, name: str, default: float | None = None) -> float:
        """The parameter's value. Raises ``KeyError`` where it has none and no default is given."""
        for key, value in self.parameters:
            if key == name:
                return value
        if default is None:
            raise KeyError(name)
        return default
