"""``/v1/models``: what is loaded, and what can be asked of it."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.deps import Services, Shared
from app.api.errors import ErrorAnswer
from app.generation.editing.operations import EDITS, EditName, EditSpec, offered
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.sizes import Sizes
from model.spec import Parameter, Style

router = APIRouter(tags=["models"])


class Model(BaseModel):
    """A model. The last six fields are null until it is loaded."""

    id: str = Field(examples=["emoji-flow"])
    object: Literal["model"] = "model"
    created: int = Field(0, description="Not recorded: 0.")
    owned_by: Literal["tessera"] = "tessera"
    family: str = Field(examples=["flow"])
    description: str
    description_chinese: str = Field(description="The same in Chinese, or empty.")
    license: str = Field(examples=["Apache-2.0"])
    digest: str = Field(description="SHA-256 of its files; pins it as id@digest.")
    sizes: Sizes = Field(
        description="The native width and height, others beside them and, unless `multiple` is 0, "
        "all whose sides are multiples of it from `low` to `high`, with at most `pixels` pixels. "
        "Where it is 0, answers in other sizes of the native aspect are resampled. `upscaled` is "
        "the most that `upscale` makes along each side; where it is 0, that is the native size."
    )
    transparency: bool = Field(description="Whether its images can be transparent.")
    negative_prompt: bool = Field(description="Whether it takes a negative prompt.")
    parameters: list[Parameter] = Field(
        description="Numbers that requests may have, as fields of these names. Where the default "
        "is null, the model decides; `defaults` are those of operations that have another one; a "
        "step of 1 means whole numbers; equal `minimum` and `maximum` cannot be changed."
    )
    operations: list[str] = Field(examples=[["generate", "vary"]])
    images: int = Field(description="The most images that `edit` takes.", examples=[1])
    loras: list[str] = Field(description="Adapters that requests may name as `lora`.")
    styles: list[Style] = Field(
        description="Styles that it knows by name, and what an English or a Chinese prompt ends "
        "with to ask for each."
    )
    examples: list[str] = Field(
        description="Prompts that show what it draws, in English or other languages.",
        examples=[["golden retriever"]],
    )
    max_prompt_tokens: int
    preview_decoder: str | None = Field(
        description="What makes its previews, where there is a choice: its own `vae`, `linear` or "
        "the name of a tiny autoencoder.",
        examples=["vae"],
    )
    numerics: str | None = Field(description="Names all that may change bits.")
    seed_exact: bool | None = Field(description="Whether the self-test found equal bits.")
    device: str | None = Field(examples=["cuda:0 (NVIDIA H200)"])
    dtype: str | None = Field(examples=["bf16"])
    tile: int | None = Field(description="The most evaluations in a pass.")
    rungs: list[int] | None = Field(
        description="Sizes of passes: each runs in the smallest that holds its evaluations. Only "
        "those in which the self-test found the tile's bits, for each kind of pass by itself: "
        "so they change no picture.",
        examples=[[1, 2, 3, 4, 6, 8]],
    )


class LimitsAnswer(BaseModel):
    """What one request may ask for, whatever the model."""

    n: int = Field(description="Images.", examples=[10])
    walk: int = Field(description="Frames of a walk.", examples=[24])
    size: int = Field(
        description="Pixels along each side to which images are resampled.", examples=[1024]
    )
    prompt_characters: int = Field(examples=[5000])
    upload_bytes: int = Field(description="Of a form with pictures.", examples=[16777216])
    upload_pixels: int = Field(description="Of each picture in it.", examples=[16777216])

    @classmethod
    def of(cls, settings: Settings) -> LimitsAnswer:
        return cls(
            n=settings.max_n,
            walk=settings.max_walk,
            size=settings.max_size,
            prompt_characters=settings.max_prompt_characters,
            upload_bytes=settings.max_upload_bytes,
            upload_pixels=settings.max_upload_pixels,
        )


class ModelList(BaseModel):
    """All models, the default one first."""

    object: Literal["list"] = "list"
    data: list[Model]
    edits: dict[EditName, EditSpec] = Field(
        description="What a model's operations on uploads are made of: the row that `does` it, "
        "`defaults` of parameters that are not the model's, `fixed` ones that are refused, and "
        "whether it takes `several` images, as many as the model has `images`."
    )
    limits: LimitsAnswer
    docs: bool = Field(description="Whether /docs and /openapi.json describe the interface.")


@router.get("/v1/models")
@router.head("/v1/models", include_in_schema=False)
async def models(services: Shared) -> ModelList:
    """All models, the default one first."""
    checkpoints = services.engine.checkpoints.values()
    return ModelList(
        data=[_model(checkpoint, services) for checkpoint in checkpoints],
        edits=EDITS,
        limits=LimitsAnswer.of(services.settings),
        docs=services.settings.docs_access != "off",
    )


@router.get("/v1/models/{id}", responses={404: {"model": ErrorAnswer}})
@router.head("/v1/models/{id}", include_in_schema=False)
async def model(id: str, services: Shared) -> Model:  # noqa: A002 - the name in the address
    """One model, by its id, an alias, or id@digest."""
    return _model(services.checkpoint(id), services)


def _model(checkpoint: Checkpoint, services: Services) -> Model:
    spec = checkpoint.spec
    loaded = services.engine.models.get(spec.id)
    of_spec = (
        *("id", "family", "description", "license", "digest", "sizes", "negative_prompt"),
        *("max_prompt_tokens", "images", "loras", "styles", "examples", "description_chinese"),
    )
    of_loaded = ("numerics", "seed_exact", "device", "dtype", "tile", "rungs")
    known: dict[str, Any] = {name: getattr(spec, name) for name in of_spec}
    known |= {name: getattr(loaded, name, None) for name in of_loaded}
    clear = spec.channels == 4
    return Model(
        **known,
        preview_decoder=checkpoint.previewed_by(services.settings),
        transparency=clear,
        parameters=list(spec.own_parameters),
        operations=offered(spec.operations),
    )
