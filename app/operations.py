"""What can be done with a picture: names for people, made of what models can do.

Knows nothing of HTTP or of the command line, which both ask for the same things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.uploads.prepare import FACTORS, Canvas, Prepared, enlarged, retouched, whole
from app.uploads.retouch import Margins, Retouch
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


MARGINS = ("left", "top", "right", "bottom")
MARGIN = 25
"""Per cent on each side, where none is given."""

SPECIAL = ("mask", "strength", "factor", "noise", *MARGINS)

KINDS: dict[Name, Kind] = {
    "vary": Kind("vary", frozenset({"strength"}), strength=0.7),
    "restyle": Kind("vary", frozenset({"strength"}), strength=0.8, needs_prompt=True),
    "inpaint": Kind("inpaint", frozenset({"mask", "strength"}), keeps=True),
    "outpaint": Kind("inpaint", frozenset(MARGINS), keeps=True),
    "upscale": Kind("upscale", frozenset({"factor"})),
    "colorize": Kind("colorize"),
    # One prediction at the noise that is there is the mean of all that it could have been.
    "denoise": Kind("denoise", frozenset({"noise"}), steps=1),
}


class Misfit(ValueError):
    """A wish that makes no sense; ``field`` is at fault, ``str()`` says why without naming it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Wish:
    """An operation on a picture. What is None is left to the operation.

    Raises `Misfit` where a field means nothing to the operation, or one that it needs is missing.
    """

    operation: Name
    image: bytes
    mask: bytes | None = None
    prompt: str = ""
    strength: float | None = None
    factor: int | None = None
    noise: float | None = None
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None

    def __post_init__(self) -> None:
        for name in SPECIAL:
            if getattr(self, name) is not None and name not in self.kind.takes:
                some = ", ".join(each for each, kind in KINDS.items() if name in kind.takes)
                raise Misfit(name, f"means nothing to {self.operation}, only to {some}")
        if self.factor not in (None, *FACTORS):
            raise Misfit("factor", f"{self.factor} was given, 2 and 4 are accepted")
        if self.kind.needs_prompt and not self.prompt.strip():
            raise Misfit("prompt", f"is required: {self.operation} needs to know what to make")

    @property
    def kind(self) -> Kind:
        return KINDS[self.operation]

    def prepare(self, canvas: Canvas, most_pixels: int) -> Prepared:
        """Decodes what the operation needs. Raises `UploadError`."""
        strength = self.kind.strength if self.strength is None else self.strength
        match self.operation:
            case "inpaint":
                retouch = Retouch(self.image, self.mask, "any", None, most_pixels)
                return retouched(retouch, (), canvas, strength=strength)
            case "outpaint":
                retouch = Retouch(self.image, None, "any", self._margins(), most_pixels)
                return retouched(retouch, (), canvas, strength=strength)
            case "upscale":
                factor = self.factor or FACTORS[0]
                return enlarged(self.image, canvas, most_pixels, factor=factor)
            case _:
                images = (self.image,)
                return whole(images, canvas, most_pixels, strength=strength, noise=self.noise)

    def _margins(self) -> Margins:
        given = [self.left, self.top, self.right, self.bottom]
        default = MARGIN if given == [None] * 4 else 0
        return Margins(*(default if each is None else each for each in given))


def can(operations: Sequence[Operation], name: Name) -> bool:
    """Whether a model that can do these can be asked for that."""
    return KINDS[name].does in operations


def offered(operations: Sequence[Operation]) -> list[str]:
    """What can be asked of a model that can do these."""
    made = [name for name in KINDS if can(operations, name)]
    return [*(each for each in operations if each not in KINDS), *made]
