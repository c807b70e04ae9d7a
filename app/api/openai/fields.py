"""What the official client can say.

A field that means nothing here is accepted where it does not change the picture, and refused, in
words, where it would. ``seed``, ``steps`` and ``guidance`` may be sent as extra fields.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from app.api.fields import WHOLE, Drawing, Fields, Strength, Text
from app.api.seeds import Seed
from app.pictures import TRANSPARENT, Format
from model.protocol import ModelSpec

MOST_PARTIALS = 3

_SIZE = re.compile(r"auto|([1-9][0-9]{0,4})x\1")
_ANY_SIZE = re.compile(r"auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise PydanticCustomError("size", 'should be "auto" or a square such as "256x256"')
    return text


def _any_size(text: str) -> str:
    if not _ANY_SIZE.fullmatch(text):
        raise PydanticCustomError("size", 'should be "auto" or a size such as "1024x768"')
    return text


Size = Annotated[
    str,
    AfterValidator(_size),
    WithJsonSchema({"type": "string", "pattern": rf"^({_SIZE.pattern})$".replace(r"\1", r"\2")}),
]
AnySize = Annotated[
    str,
    AfterValidator(_any_size),
    WithJsonSchema({"type": "string", "pattern": f"^({_ANY_SIZE.pattern})$"}),
]


def _meaningless(why: str) -> BeforeValidator:
    """Refuses whatever is said, in words."""

    def refuse(value: object) -> None:
        if value is not None:
            raise PydanticCustomError("meaningless", "is not possible here: {why}", {"why": why})

    return BeforeValidator(refuse)


Ground = Literal["transparent", "opaque", "auto"]
Speed = Literal["low", "medium", "high"]
Quality = Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"]

_SPEEDS: dict[Quality, Speed] = {
    "low": "low",
    "standard": "medium",
    "hd": "high",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_FACTORS: dict[Speed, float] = {"low": 0.5, "medium": 1.0, "high": 2.0}


class Contract(Fields):
    """Fields that the client has for every picture, and seed, steps and guidance beside them."""

    prompt: Text
    """What to draw."""

    model: Annotated[str | None, Field(max_length=200)] = None
    """A model's id or an alias of one. Without it the default model draws."""

    n: Annotated[int | None, Field(ge=1), WHOLE] = None
    """How many pictures."""

    quality: Quality | None = None
    """"low" takes half of the model's default steps, "high" and more twice as many."""

    output_format: Format | None = None
    """File format, png by default."""

    output_compression: Annotated[int | None, Field(ge=0, le=100), WHOLE] = None
    """How much of the picture webp and jpeg keep, 100 by default. PNG keeps everything."""

    stream: bool | None = None
    """Whether to answer with events; these carry b64_json."""

    partial_images: Annotated[int | None, Field(ge=0, le=MOST_PARTIALS), WHOLE] = None
    """How many events show each picture on its way."""

    seed: Seed | None = None
    """An integer or any string; picture k is the one that seed + k gives alone."""

    steps: Annotated[int | None, Field(ge=1), WHOLE] = None
    """Steps of the model, instead of what ``quality`` means."""

    guidance: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    """How closely to follow the prompt."""

    complexity: Literal["low", "medium", "high"] | None = None
    """Accepted: nothing is planned before drawing."""

    user: str | None = None
    """Accepted, and neither kept nor logged."""

    safety_identifier: str | None = None
    """Accepted, and neither kept nor logged."""

    svg: Annotated[None, _meaningless("pictures are png, webp or jpeg")] = None
    """Refused: no SVG is drawn."""

    frame_count: Annotated[None, _meaningless("pictures do not move")] = None
    """Refused: pictures do not move."""

    frame_duration_ms: Annotated[None, _meaningless("pictures do not move")] = None
    """Refused: pictures do not move."""

    @property
    def format(self) -> Format:
        return self.output_format or "png"

    @property
    def speed(self) -> Speed:
        return _SPEEDS.get(self.quality or "auto", "medium")

    def drawing(self, spec: ModelSpec, *, size: int | None, background: str) -> Drawing:
        """The same in the service's own fields."""
        compression = 100 if self.output_compression is None else self.output_compression
        return Drawing(
            prompt=self.prompt,
            model=self.model,
            steps=self.steps or self._steps(spec),
            guidance=self.guidance,
            size=size,
            background=background,
            quality=max(1, compression),
        )

    def _steps(self, spec: ModelSpec) -> int:
        steps = round(spec.steps.default * _FACTORS[self.speed])
        return int(min(max(steps, spec.steps.low), spec.steps.high))


class GenerationsBody(Contract):
    """Pictures from a prompt."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"prompt": "red apple, fluent 3d style"},
                {"prompt": "red apple", "n": 2, "seed": 7, "response_format": "url"},
                {"prompt": "red apple", "stream": True, "partial_images": 3, "quality": "high"},
            ],
            "not": {
                "anyOf": [
                    {
                        "description": "A jpeg cannot be transparent.",
                        "required": ["output_format", "background"],
                        "properties": {
                            "output_format": {"const": "jpeg"},
                            "background": {"const": TRANSPARENT},
                        },
                    },
                    {
                        "description": "A stream carries b64_json only.",
                        "required": ["stream", "response_format"],
                        "properties": {
                            "stream": {"const": True},
                            "response_format": {"const": "url"},
                        },
                    },
                ]
            },
        },
    )

    size: Annotated[Size | None, Field(examples=["256x256"])] = None
    """Squares only. "auto" is the model's own size; from others the picture is resampled."""

    background: Ground | None = None
    """Anything but "transparent" is white."""

    response_format: Literal["url", "b64_json"] | None = None
    """"url" gives an address, from which the picture is drawn when it is fetched."""

    moderation: Literal["low", "auto"] | None = None
    """Accepted: prompts are not moderated here."""

    style: Annotated[None, _meaningless("describe the style in the prompt")] = None
    """Refused, as by the GPT image models: describe the style in the prompt."""

    @property
    def side(self) -> int | None:
        """Pixels along each side, if it is said."""
        return None if self.size in (None, "auto") else int(self.size.partition("x")[0])


class WithUpload(Contract):
    """What edits and variations have besides."""

    size: Annotated[AnySize | None, Field(examples=["256x256"])] = None
    """Of the aspect that the image has, to which the answer is resampled. "auto", which it is by
    default, keeps an edit with a mask as large as the image, and the rest in the model's size."""

    background: Ground | None = None
    """"opaque" is white; with "auto" what could be seen through still can be, but in a jpeg."""

    response_format: Literal["b64_json"] | None = None
    """Pictures that are made of an upload have no address."""

    strength: Strength | None = None
    """Beside the contract: how far to go from the image; 1 starts from nothing but noise."""

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height, if they are said."""
        if self.size in (None, "auto"):
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class EditsForm(WithUpload):
    """The texts of an edit."""

    input_fidelity: Literal["low", "high"] | None = None
    """"high" starts half-way from the image ("strength" 0.5), also where a mask marks it."""


class VariationsForm(WithUpload):
    """The texts of a variation."""

    prompt: Text = ""
    """Beside the contract: what to make of it."""
