"""What the official client reads."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.api.openai.fields import Speed
from app.pictures import Format


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
    """One picture, in base64 or as an address."""

    b64_json: str | None = None
    url: str | None = None
    seed: int = Field(description="The seed that gives it alone.", examples=[7])


class Look(BaseModel):
    """What every answer repeats of how the pictures were made."""

    background: Literal["transparent", "opaque"]
    output_format: Format
    quality: Speed
    size: str = Field(examples=["64x64"])


class Generated(Look):
    """All pictures."""

    created: int = Field(description="Seconds since 1970.", examples=[1780000000])
    data: list[GeneratedImage]
    usage: Usage


class PictureEvent(Look):
    """What both events of a stream say."""

    created_at: int = Field(description="Seconds since 1970.", examples=[1780000000])
    b64_json: str
    seed: int = Field(description="The seed that gives it alone.", examples=[7])


class PartialImage(PictureEvent):
    """A picture on its way."""

    type: str
    partial_image_index: int


class Completed(PictureEvent):
    """A picture."""

    type: str
    usage: Usage


class GenerationPartial(PartialImage):
    """A picture on its way."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"


class GenerationCompleted(Completed):
    """A picture."""

    type: Literal["image_generation.completed"] = "image_generation.completed"


class EditPartial(PartialImage):
    """A picture on its way."""

    type: Literal["image_edit.partial_image"] = "image_edit.partial_image"


class EditCompleted(Completed):
    """A picture."""

    type: Literal["image_edit.completed"] = "image_edit.completed"
