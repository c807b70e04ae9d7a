"""``/v1/models``: what is loaded, and what can be asked of it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.errors import ErrorAnswer
from app.api.orders import find_model
from app.api.services import Services, Shared
from app.operations import offered
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.protocol import Range

router = APIRouter(tags=["models"])


class Bounds(BaseModel):
    """What a number may be, both ends included, and what it is when it is not given."""

    minimum: float
    maximum: float
    default: float

    @classmethod
    def of(cls, numbers: Range) -> Bounds:
        return cls(minimum=numbers.low, maximum=numbers.high, default=numbers.default)


class Model(BaseModel):
    """A model. The last five fields are null until it is loaded."""

    id: str = Field(examples=["emoji-flow"])
    object: Literal["model"] = "model"
    created: int = Field(0, description="Not recorded: 0.")
    owned_by: Literal["tessera"] = "tessera"
    family: str = Field(examples=["flow"])
    description: str
    licence: str = Field(examples=["Apache-2.0"])
    digest: str = Field(description="SHA-256 of its files; pins it as id@digest.")
    size: int = Field(description="Pixels along each side of its pictures.", examples=[64])
    transparency: bool = Field(description="Whether its pictures can be transparent.")
    steps: Bounds
    guidance: Bounds
    temperature: Bounds | None = Field(description="Null where no tokens are drawn, as the next.")
    top_k: Bounds | None
    top_p: Bounds | None
    operations: list[str] = Field(examples=[["generate", "vary"]])
    max_prompt_tokens: int
    numerics: str | None = Field(description="Names all that may change bits.")
    seed_exact: bool | None = Field(description="Whether the self-test found equal bits.")
    device: str | None = Field(examples=["cuda:0 (NVIDIA H200)"])
    dtype: str | None = Field(examples=["bf16"])
    tile: int | None = Field(description="Evaluations in every pass.")


class Limits(BaseModel):
    """What one request may ask for, whatever the model."""

    n: int = Field(description="Pictures.", examples=[10])
    size: int = Field(description="Pixels along each side.", examples=[1024])
    prompt_characters: int = Field(examples=[1000])
    upload_bytes: int = Field(description="Of a form with pictures.", examples=[16777216])
    upload_pixels: int = Field(description="Of each picture in it.", examples=[16777216])

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            n=settings.max_n,
            size=settings.max_size,
            prompt_characters=settings.max_prompt_characters,
            upload_bytes=settings.max_upload_bytes,
            upload_pixels=settings.max_upload_pixels,
        )


class ModelList(BaseModel):
    """All models, the default one first."""

    object: Literal["list"] = "list"
    data: list[Model]
    limits: Limits
    docs: bool = Field(description="Whether /docs and /openapi.json describe the interface.")


@router.get("/v1/models")
async def models(services: Shared) -> ModelList:
    """All models, the default one first."""
    checkpoints = services.engine.checkpoints.values()
    return ModelList(
        data=[_model(checkpoint, services) for checkpoint in checkpoints],
        limits=Limits.of(services.settings),
        docs=services.settings.docs_access != "off",
    )


@router.get("/v1/models/{id}", responses={404: {"model": ErrorAnswer}})
async def model(id: str, services: Shared) -> Model:  # noqa: A002 - the name in the address
    """One model, by its id, an alias, or id@digest."""
    checkpoint, _ = find_model(id, services.engine.checkpoints, services.settings.model_aliases)
    return _model(checkpoint, services)


def _model(checkpoint: Checkpoint, services: Services) -> Model:
    spec = checkpoint.spec
    loaded = services.engine.models.get(spec.id)
    tokens = spec.tokens
    return Model(
        id=spec.id,
        family=spec.family,
        description=spec.description,
        licence=spec.licence,
        digest=spec.digest,
        size=spec.size,
        transparency=spec.channels == 4,
        steps=Bounds.of(spec.steps),
        guidance=Bounds.of(spec.guidance),
        temperature=Bounds.of(tokens.temperature) if tokens else None,
        top_k=Bounds.of(tokens.top_k) if tokens else None,
        top_p=Bounds.of(tokens.top_p) if tokens else None,
        operations=offered(spec.operations),
        max_prompt_tokens=spec.max_prompt_tokens,
        numerics=loaded.numerics if loaded else None,
        seed_exact=loaded.seed_exact if loaded else None,
        device=loaded.device if loaded else None,
        dtype=loaded.dtype if loaded else None,
        tile=loaded.tile if loaded else None,
    )
