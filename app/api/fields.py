"""What a client may say of a picture: one definition for JSON bodies and for addresses.

Types and shapes are checked here. What depends on the model or on a setting (steps, guidance,
sizes, lengths) is checked when an `Order` is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from app.api.seeds import Seed
from app.pictures import TRANSPARENT, Format

_BACKGROUND = re.compile(r"white|transparent|#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def _background(text: str) -> str:
    if not _BACKGROUND.fullmatch(text):
        raise PydanticCustomError(
            "background", 'should be "white", "transparent" or a colour such as #ff8800 or #f80'
        )
    if text == TRANSPARENT:
        return text
    digits = "ffffff" if text == "white" else text.removeprefix("#").lower()
    return "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits


Background = Annotated[
    str,
    AfterValidator(_background),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{_BACKGROUND.pattern})$"}),
]
"""Holds "transparent" or six hexadecimal digits."""


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "should not have half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]
"""Holds only what UTF-8 can carry; JSON's escapes can say more."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For integers, which JSON may also write as 7.0. Comes last, so that the schema has the bounds."""


Strength = Annotated[float, Field(ge=0.01, le=1, examples=[0.6])]
"""How far to go from a picture; nearer than a hundredth is the picture itself."""


class Fields(BaseModel):
    """Fields that a client sends: a name that is not among them is refused, not dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for name in data:
                if name not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_field",
                        "{param}: there is no such field; there are {known}",
                        {"param": _printable(name), "known": ", ".join(cls.model_fields)},
                    )
        return data


def _printable(name: object) -> str:
    return str(name)[:80].encode(errors="replace").decode()


class Asked(Fields):
    """What can be said of every picture."""

    prompt: Annotated[Text, Field(examples=["red apple, fluent 3d style"])] = ""
    """What to draw. Empty: whatever the model likes. Models limit its length in tokens."""

    model: Annotated[str | None, Field(max_length=200, examples=["emoji-flow"])] = None
    """A model's id, which may be pinned as id@digest. Without it the default model draws."""

    steps: Annotated[int | None, Field(ge=1, examples=[20]), WHOLE] = None
    """Steps of the model. Each model has its default and its range, see /v1/models."""

    guidance: Annotated[float | None, Field(ge=0, allow_inf_nan=False, examples=[2.0])] = None
    """How closely to follow the prompt. Each model has its default and its range."""

    temperature: Annotated[float | None, Field(ge=0, le=2, examples=[0.9])] = None
    """Below 1, likely tokens become likelier; 0 always takes the likeliest. For models that draw
    tokens, see /v1/models; others refuse it."""

    top_k: Annotated[int | None, Field(ge=0, examples=[100]), WHOLE] = None
    """Draws only from so many of the likeliest tokens; 0 draws from all. As for temperature."""

    top_p: Annotated[float | None, Field(ge=0, le=1, examples=[0.95])] = None
    """Draws only from the likeliest tokens that together are this probable. As for temperature."""

    size: Annotated[int | None, Field(ge=1, examples=[128]), WHOLE] = None
    """Pixels along each side. Other than the model's own size, the picture is resampled."""

    quality: Annotated[int, Field(ge=1, le=100), WHOLE] = 90
    """How much of the picture WebP and JPEG keep. PNG keeps everything."""


class Drawing(Asked):
    """A picture from a prompt."""

    walk: Annotated[int | None, Field(ge=2, examples=[16]), WHOLE] = None
    """Frames of a walk: an animated picture in which the seed's picture turns into others, the
    next seed's among them, and back again. Only for WebP and PNG, and models that can walk."""

    background: Annotated[Background, Field(examples=["transparent"])] = "ffffff"
    """What lies behind: "white", "transparent" (not for jpeg), or a colour such as #ff8800."""


class Several(Fields):
    """How many pictures, and how they are sent."""

    seed: Seed | None = None
    """An integer from 0 to 9007199254740991, or any string, which stands for one. The same seed
    draws the same picture again. Without it the seed is random, and reported."""

    n: Annotated[int, Field(ge=1), WHOLE] = 1
    """How many. Picture k is the one that seed + k gives alone."""

    format: Format | None = None
    """File format. Without it, the one that Accept asks for, else png."""

    previews: bool = False
    """Whether an event stream also carries pictures of how it stands."""


class ImagesBody(Several, Drawing):
    """Pictures from a prompt or a seed."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"prompt": "red apple, fluent 3d style", "seed": 7},
                {"seed": "ada", "size": 256, "format": "webp", "background": "transparent"},
                {"prompt": "猫，noto 风格", "seed": 1, "n": 4},
            ],
            "allOf": [
                {
                    "not": {
                        "description": "A jpeg cannot be transparent.",
                        "required": ["format", "background"],
                        "properties": {
                            "format": {"const": "jpeg"},
                            "background": {"const": TRANSPARENT},
                        },
                    }
                },
                {
                    "not": {
                        "description": "Nor can it be a walk.",
                        "required": ["format", "walk"],
                        "properties": {
                            "format": {"const": "jpeg"},
                            "walk": {"type": "integer"},
                        },
                    }
                },
                {
                    "not": {
                        "description": "A walk is one picture.",
                        "required": ["n", "walk"],
                        "properties": {"n": {"minimum": 2}, "walk": {"type": "integer"}},
                    }
                },
            ],
        },
    )


class ImageQuery(Drawing):
    """The query of a picture's address."""

    numerics: Annotated[str | None, Field(max_length=64)] = None
    """Pins the bits: a service with other numerics answers 404 rather than other bits."""

    expires: Annotated[int | None, Field(ge=0), WHOLE] = None
    """Until when a signed address holds, in seconds since 1970."""

    signature: Annotated[str | None, Field(max_length=128)] = None
    """Proof that a key holder made this address, see `tessera sign`."""
