"""What a client may send for an image: one definition for JSON bodies, forms and addresses.

Types and shapes are checked here; what depends on the model or on a setting is checked by
`app.generation.resolve`. A model's parameters (steps, guidance …) are fields too: which there are
depends on what is loaded, so that they are read here as further numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from app.generation.editing.fit import Size as Pixels
from app.generation.editing.operations import EditRequest
from app.generation.output import SPELLINGS, TRANSPARENT, Detail, Format
from app.generation.resolve import BACKGROUNDS, Wanted, parse_size, quoted, seed_of
from model.request import SEEDS, InvalidField

LONGEST_SEED = 256
"""Characters in a seed that is a string."""


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


def _seed(value: object) -> int:
    match value:
        case bool():
            pass
        case int() if 0 <= value < SEEDS:
            return value
        case float() if value.is_integer() and 0 <= value < SEEDS:
            return int(value)
        case str() if 1 <= len(value) <= LONGEST_SEED:
            with suppress(UnicodeEncodeError):  # a lone surrogate
                return seed_of(value)
    raise PydanticCustomError(
        "seed",
        "should be an integer from 0 to {last} or a string of 1 to {longest} characters",
        {"last": SEEDS - 1, "longest": LONGEST_SEED},
    )


_SEED_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": SEEDS - 1},
        {"type": "string", "minLength": 1, "maxLength": LONGEST_SEED},
    ],
}

Seed = Annotated[int, BeforeValidator(_seed), WithJsonSchema(_SEED_SCHEMA)]
"""A field that takes an integer or a string and holds the integer."""


def _size(value: object) -> int | Pixels:
    match value:
        case bool():
            pass
        case int() if value > 0:
            return value
        case float() if value.is_integer() and value > 0:
            return int(value)
        case str() if len(value) <= 20:
            with suppress(ValueError):
                return parse_size(value)
    raise PydanticCustomError(
        "size", 'should be pixels such as 128, or width x height such as "128x96"'
    )


_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?$"},
    ],
}

Size = Annotated[int | Pixels, BeforeValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
"""A field that takes pixels, or width x height."""

Background = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^(?:{BACKGROUNDS})$"})]
"""See `app.generation.resolve.parse_background`, which checks it."""


def _format(value: object) -> object:
    if isinstance(value, str) and len(value) <= 10:
        value = value.lower()
        return SPELLINGS.get(value, value)
    return value


FileFormat = Annotated[Format, BeforeValidator(_format)]
"""A field that takes a format in capitals too, and "jpg"."""


class Fields(BaseModel):
    """Fields that a client sends: a name that is not among them is refused, not dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            open_ended = cls.model_config.get("extra") == "allow"
            for name in data:
                if name not in cls.model_fields and not (open_ended and printable(name) == name):
                    raise PydanticCustomError(
                        "unknown_field",
                        "{param}: there is no such field; there are {known}",
                        {"param": printable(name), "known": ", ".join(cls.model_fields)},
                    )
        return data


def printable(name: object) -> str:
    """A name that a client sent, fit for a message."""
    return str(name)[:80].encode(errors="replace").decode()


_NUMBER: TypeAdapter[float | None] = TypeAdapter(float | None)


class WithParameters(Fields):
    """Fields beside which a model's parameters may stand, each by its own name."""

    model_config = ConfigDict(extra="allow")

    @property
    def parameters(self) -> dict[str, float]:
        """Those that were given, whether a model has them or not.

        Raises `InvalidField` for what is no number: not while the fields are read, so that an
        unknown name is said to be one, whatever its value.
        """
        strict = bool(self.model_config.get("strict"))
        found = {}
        for name, given in (self.model_extra or {}).items():
            try:
                value = _NUMBER.validate_python(given, strict=strict)
            except ValidationError:
                message = f"{quoted(given)} was given, a number is accepted"
                raise InvalidField(name, message) from None
            if value is not None:
                found[name] = value
        return found


class PromptFields(WithParameters):
    """What can be said of every image."""

    prompt: Annotated[Text, Field(examples=["red apple, fluent 3d style"])] = ""
    """What to draw. Empty: whatever the model likes. Models limit its length in tokens."""

    negative_prompt: Text = ""
    """What not to draw, for models that take one, see /v1/models."""

    model: Annotated[str | None, Field(max_length=200, examples=["emoji-flow"])] = None
    """A model's id, which may be pinned as id@digest. Without it the default model draws."""

    lora: Annotated[Text, Field(max_length=200)] = ""
    """The name of one of the model's adapters, see /v1/models, which changes how it draws."""

    size: Annotated[Size | None, Field(examples=[128, "128x96"])] = None
    """Pixels along each side, or width x height. A model that draws many sizes draws this one, or
    it is refused; that of one with few sizes is resampled. Without it: the model's own size."""

    quality: Annotated[int, Field(ge=1, le=100), WHOLE] = 90
    """How much of the picture WebP and JPEG keep. PNG keeps everything."""

    metadata: Detail | None = None
    """What the file says of itself: "full" (prompt, seed, model), "source" (only that a machine
    made it), or "none". Without it, as the service is set."""

    def wanted(
        self,
        *,
        format: Format,  # noqa: A002 - the field's name
        seed: int | None,
        n: int = 1,
        edit: EditRequest | None = None,
    ) -> Wanted:
        """The same for `app.generation.resolve`."""
        return Wanted(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            lora=self.lora,
            seed=seed,
            n=n,
            walk=getattr(self, "walk", None),
            size=self.size,
            parameters=self.parameters,
            format=format,
            background=getattr(self, "background", None),
            quality=self.quality,
            metadata=self.metadata,
            edit=edit,
        )


class ImageFields(PromptFields):
    """An image from a prompt."""

    walk: Annotated[int | None, Field(ge=2, examples=[16]), WHOLE] = None
    """Frames of a walk: an animated picture in which the seed's picture turns into others, the
    next seed's among them, and back again. Only for WebP and PNG, and models that can walk."""

    background: Annotated[Background, Field(examples=["transparent"])] = "white"
    """What lies behind: "white", "transparent" (not for jpeg), or a colour such as #ff8800."""


class AnswerFields(Fields):
    """How many images, and how they are sent."""

    seed: Seed | None = None
    """An integer from 0 to 9007199254740991, or any string, which stands for one. The same seed
    draws the same image again. Without it the seed is random, and reported."""

    n: Annotated[int, Field(ge=1), WHOLE] = 1
    """How many. Image k is the one that seed + k gives alone."""

    format: FileFormat | None = None
    """File format. Without it, the one that Accept asks for, else png."""

    previews: bool = False
    """Whether an event stream also carries pictures of how it stands."""


class ImagesBody(AnswerFields, ImageFields):
    """Images from a prompt or a seed."""

    model_config = ConfigDict(
        extra="allow",
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


class ImageQuery(ImageFields):
    """The query of an image's address."""

    numerics: Annotated[str | None, Field(max_length=64)] = None
    """Pins the bits: a service with other numerics answers 404 rather than other bits."""

    expires: Annotated[int | None, Field(ge=0), WHOLE] = None
    """Until when a signed address holds, in seconds since 1970."""

    signature: Annotated[str | None, Field(max_length=128)] = None
    """Proof that a key holder made this address, see `tessera sign`."""
