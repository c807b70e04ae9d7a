"""What can be done with an upload: names for people, made of what models can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.generation.editing.fit import Target
from app.generation.editing.prepare import Prepared, enlarged, referred, retouched, whole
from app.generation.editing.retouch import Margins, MaskStyle, Retouch
from model.request import FACTORS, InvalidField, Operation

EditName = Literal[
    "vary", "inpaint", "outpaint", "upscale", "colorize", "denoise", "restyle", "edit"
]
"""outpaint is inpaint around the upload, restyle is vary with a prompt."""

MARGINS = ("left", "top", "right", "bottom")
MARGIN = 25
"""Per cent on each side, where none is given."""


@dataclass(frozen=True, slots=True)
class EditSpec:
    """One of them, for this module and for whoever offers it to people."""

    does: Operation
    takes: tuple[str, ...] = ()  # fields of an `EditRequest`; others are refused
    defaults: Mapping[str, float] = field(default_factory=dict)  # of the model's parameters
    fixed: tuple[str, ...] = ()  # parameters that mean nothing to it
    needs_prompt: bool = False
    keeps: bool = False  # whether the upload's own pixels are in the answer
    several: bool = False  # whether it takes as many images as the model does, not one


EDITS: dict[EditName, EditSpec] = {
    "vary": EditSpec("vary", defaults={"strength": 0.7}),
    "restyle": EditSpec("vary", defaults={"strength": 0.8}, needs_prompt=True),
    "inpaint": EditSpec("inpaint", ("mask",), keeps=True),
    # Nothing is where it paints: a start from less than noise alone would be one from white.
    "outpaint": EditSpec(
        "inpaint", MARGINS, defaults={"strength": 1.0}, fixed=("strength",), keeps=True
    ),
    "upscale": EditSpec("upscale", ("factor",)),
    "colorize": EditSpec("colorize"),
    # One prediction at the noise that is there is the mean of all that it could have been.
    "denoise": EditSpec("denoise", defaults={"steps": 1}),
    "edit": EditSpec("edit", needs_prompt=True, several=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest:
    """An operation on an upload. What is None is left to the operation.

    Raises `InvalidField` where a field means nothing to the operation or has no accepted value.
    """

    operation: EditName
    images: tuple[bytes, ...]  # the first is edited; the others are blended with it, or lent to it
    mask: bytes | None = None
    mask_style: MaskStyle = "any"
    factor: int | None = None
    left: int | None = None  # per cent of the width or height
    top: int | None = None
    right: int | None = None
    bottom: int | None = None

    def __post_init__(self) -> None:
        for name in ("mask", "factor", *MARGINS):
            if getattr(self, name) is not None and name not in self.spec.takes:
                some = ", ".join(edit for edit, spec in EDITS.items() if name in spec.takes)
                raise InvalidField(name, f"means nothing to {self.operation}, only to {some}")
        if self.factor not in (None, *FACTORS):
            accepted = " and ".join(map(str, FACTORS))
            raise InvalidField("factor", f"{self.factor} was given, {accepted} are accepted")

    @property
    def spec(self) -> EditSpec:
        return EDITS[self.operation]

    def prepare(self, target: Target, most_pixels: int) -> Prepared:
        """Decodes what the operation needs. Raises `ImageFileError`, and `InvalidField` for margins
        that add nothing."""
        image, *others = self.images
        match self.operation:
            case "inpaint":
                retouch = Retouch(image, self.mask, self.mask_style, None, most_pixels)
                return retouched(retouch, others, target)
            case "outpaint":
                retouch = Retouch(image, None, "any", self._margins(), most_pixels)
                return retouched(retouch, others, target)
            case "upscale":
                factor = self.factor or FACTORS[0]
                return enlarged(image, target, most_pixels, factor=factor)
            case "edit":
                return referred(self.images, target, most_pixels)
            case _:
                return whole(self.images, target, most_pixels)

    def _margins(self) -> Margins:
        given = [self.left, self.top, self.right, self.bottom]
        default = MARGIN if given == [None] * 4 else 0
        named = next((name for name in MARGINS if getattr(self, name) is not None), MARGINS[0])
        return Margins(*(default if margin is None else margin for margin in given), named=named)


def can(operations: Sequence[Operation], name: EditName) -> bool:
    """Whether a model that can do these can be asked for that."""
    return EDITS[name].does in operations


def offered(operations: Sequence[Operation]) -> list[str]:
    """What people can ask of a model that can do these."""
    edits = [name for name in EDITS if can(operations, name)]
    return [*(operation for operation in operations if operation not in EDITS), *edits]
