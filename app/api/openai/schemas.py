"""What the official client sends and reads.

A field that means nothing here is accepted where it does not change the image, and refused, in
words, where it would. ``seed`` and a model's parameters may be sent as extra fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from app.api.schemas import WHOLE, FileFormat, Seed, Text, WithParameters
from app.generation.editing.fit import Size as Pixels
from app.generation.editing.operations import EditRequest
from app.generation.output import TRANSPARENT, Detail, Format
from app.generation.resolve import Wanted
from model.request import Operation
from model.spec import ModelSpec

MOST_PARTIALS = 3

_SIZE = re.compile(r"auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise PydanticCustomError("size", 'should be "auto" or a size such as "1024x768"')
    return text


Size = Annotated[
    str,
    AfterValidator(_size),
    WithJsonSchema({"type": "string", "pattern": f"^({_SIZE.pattern})$"}),
]


def _meaningless(why: str) -> BeforeValidator:
    """Refuses whatever is said, in words."""

    def refuse(value: object) -> None:
        if value is not None:
            raise PydanticCustomError("meaningless", "is not possible here: {why}", {"why": why})

    return BeforeValidator(refuse)


Ground = Literal["transparent", "opaque", "auto"]
Effort = Literal["low", "medium", "high"]
Quality = Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"]

_EFFORTS: dict[Quality, Effort] = {
    "low": "low",
    "standard": "medium",
    "hd": "high",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_FACTORS: dict[Effort, float] = {"low": 0.5, "medium": 1.0, "high": 2.0}


class Contract(WithParameters):
    """Fields that the client has for every image, and seed and parameters beside them."""

    prompt: Text
    """What to draw."""

    model: Annotated[str | None, Field(max_length=200)] = None
    """A model's id or an alias of one. Without it the default model draws."""

    n: Annotated[int | None, Field(ge=1), WHOLE] = None
    """How many images."""

    quality: Quality | None = None
    """"low" takes half of the model's default steps for what is done, "high" and more twice as
    many."""

    output_format: FileFormat | None = None
    """File format, png by default."""

    output_compression: Annotated[int | None, Field(ge=0, le=100), WHOLE] = None
    """How much of the image webp and jpeg keep, 100 by default. PNG keeps everything."""

    stream: bool | None = None
    """Whether to answer with events; these carry b64_json."""

    partial_images: Annotated[int | None, Field(ge=0, le=MOST_PARTIALS), WHOLE] = None
    """How many events show each image on its way."""

    seed: Seed | None = None
    """An integer or any string; image k is the one that seed + k gives alone."""

    negative_prompt: Text = ""
    """Beside the contract: what not to draw, for models that take one."""

    lora: Annotated[Text, Field(max_length=200)] = ""
    """Beside the contract: the name of one of the model's adapters."""

    metadata: Detail | None = None
    """Beside the contract: what the file says of itself: "full" (prompt, seed, model), "source"
    (only that a machine made it), or "none". Without it, as the service is set."""

    size: Annotated[Size | None, Field(examples=["256x256"])] = None
    """"auto", which it is by default, is the model's own size, and of an edit with a mask the
    image's. A model that draws many sizes draws the one that is asked for, or it is refused; other
    models are resampled. An edit has the aspect of its image, unless the model takes images as
    references: then it draws any size that it has."""

    background: Ground | None = None
    """Anything but "transparent" is white; of an edit, with "auto", what could be seen through
    still can be, but in a jpeg."""

    complexity: Literal["low", "medium", "high"] | None = None
    """Accepted: nothing is planned before drawing."""

    user: str | None = None
    """Accepted, and neither kept nor logged."""

    safety_identifier: str | None = None
    """Accepted, and neither kept nor logged."""

    svg: Annotated[None, _meaningless("images are png, webp or jpeg")] = None
    """Refused: no SVG is drawn."""

    frame_count: Annotated[None, _meaningless("images do not move")] = None
    """Refused: images do not move."""

    frame_duration_ms: Annotated[None, _meaningless("images do not move")] = None
    """Refused: images do not move."""

    @property
    def format(self) -> Format:
        return self.output_format or "png"

    @property
    def effort(self) -> Effort:
        return _EFFORTS.get(self.quality or "auto", "medium")

    @property
    def pixels(self) -> Pixels | None:
        """Width and height, if they are given."""
        if self.size in (None, "auto"):
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)

    def wanted(
        self,
        spec: ModelSpec,
        edit: EditRequest | None = None,
        defaults: Mapping[str, float] | None = None,
    ) -> Wanted:
        """The same for `app.generation.resolve`; ``defaults`` are of parameters that the model may
        have."""
        operation: Operation = "generate" if edit is None else edit.spec.does
        parameters = self._steps(spec, operation) | self.parameters
        for name, value in (defaults or {}).items():
            if edit is not None and spec.parameter(name, operation) is not None:
                parameters.setdefault(name, value)
        auto = None if edit is not None and self.background in (None, "auto") else "white"
        compression = 100 if self.output_compression is None else self.output_compression
        return Wanted(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            lora=self.lora,
            seed=self.seed,
            n=self.n or 1,
            size=self.pixels,
            parameters=parameters,
            format=self.format,
            background=TRANSPARENT if self.background == TRANSPARENT else auto,
            quality=max(1, compression),
            metadata=self.metadata,
            edit=edit,
        )

    def _steps(self, spec: ModelSpec, operation: Operation) -> dict[str, float]:
        """What ``quality`` means for a model that takes steps."""
        steps = spec.parameter("steps", operation)
        default = None if steps is None else steps.default_for(operation)
        if steps is None or default is None:
            return {}
        wanted = round(default * _FACTORS[self.effort])
        return {"steps": min(max(wanted, steps.minimum), steps.maximum)}


class GenerationsBody(Contract):
    """Images from a prompt."""

    model_config = ConfigDict(
        extra="allow",
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

    response_format: Literal["url", "b64_json"] | None = None
    """"url" gives an address, from which the image is drawn when it is fetched. It is the default
    where the model is asked for by an alias that begins with dall-e, as clients of those expect."""

    @property
    def by_address(self) -> bool:
        """Whether addresses are wanted rather than the images themselves."""
        if self.response_format is not None or self.stream:
            return self.response_format == "url"
        return (self.model or "").startswith("dall-e")

    moderation: Literal["low", "auto"] | None = None
    """Accepted: prompts are not moderated here."""

    style: Literal["vivid", "natural"] | None = None
    """Accepted, and ignored: describe the style in the prompt."""


class WithUpload(Contract):
    """What edits and variations have in common. A ``strength`` is a parameter of most models."""

    response_format: Literal["b64_json"] | None = None
    """Images that are made of an upload have no address."""


class EditsForm(WithUpload):
    """The texts of an edit."""

    input_fidelity: Literal["low", "high"] | None = None
    """"high" starts half-way from the image ("strength" 0.5), also where a mask marks it. Nothing
    to a model that takes images as references."""

    moderation: Literal["low", "auto"] | None = None
    """Accepted: prompts are not moderated here."""


class VariationsForm(WithUpload):
    """The texts of a variation."""

    prompt: Text = ""
    """Beside the contract: what to make of it."""


class InputTokens(BaseModel):
    """What the prompt consists of."""

    image_tokens: int = 0
    text_tokens: int


class Usage(BaseModel):
    """Tokens of the prompt, and the network's evaluations in place of output tokens."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, text: int, evaluations: int) -> Usage:
        return cls(
            input_tokens=text,
            input_tokens_details=InputTokens(text_tokens=text),
            output_tokens=evaluations,
            total_tokens=text + evaluations,
        )


class GeneratedImage(BaseModel):
    """One image, in base64 or as an address."""

    b64_json: str | None = None
    url: str | None = None
    seed: int = Field(description="The seed that gives it alone.", examples=[7])


class Echo(BaseModel):
    """What every answer repeats of how the images were made."""

    background: Literal["transparent", "opaque"]
    output_format: Format
    quality: Effort
    size: str = Field(examples=["64x64"])


class Generated(Echo):
    """All images."""

    created: int = Field(description="Seconds since 1970.", examples=[1780000000])
    data: list[GeneratedImage]
    usage: Usage


class PictureEvent(Echo):
    """What both events of a stream say."""

    created_at: int = Field(description="Seconds since 1970.", examples=[1780000000])
    b64_json: str
    seed: int = Field(description="The seed that gives it alone.", examples=[7])


class PartialImage(PictureEvent):
    """An image on its way."""

    type: str
    partial_image_index: int


class Completed(PictureEvent):
    """An image."""

    type: str
    usage: Usage


class GenerationPartial(PartialImage):
    """An image on its way."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"


class GenerationCompleted(Completed):
    """An image."""

    type: Literal["image_generation.completed"] = "image_generation.completed"


class EditPartial(PartialImage):
    """An image on its way."""

    type: Literal["image_edit.partial_image"] = "image_edit.partial_image"


class EditCompleted(Completed):
    """An image."""

    type: Literal["image_edit.completed"] = "image_edit.completed"
