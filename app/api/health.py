"""For balancers, monitoring and the page: is the process alive, is it ready, how busy is it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.api.deps import Shared
from app.api.errors import ApiError, ErrorAnswer
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["probes"])
metrics_router = APIRouter(tags=["probes"])


class AliveAnswer(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(BaseModel):
    """New work is taken: models are loaded, warm and tested."""

    status: Literal["ready"] = "ready"


@router.get("/livez")
async def livez() -> AliveAnswer:
    """Whether the process answers, models loaded or not. Restart it where it does not."""
    return AliveAnswer()


@router.get("/readyz", responses={503: {"model": ErrorAnswer}})
async def readyz(services: Shared) -> ReadyAnswer:
    """Whether to send work here: 503 while loading, draining, or failed."""
    if services.ready:
        return ReadyAnswer()
    engine = services.engine
    state = "draining" if services.leaving else engine.state
    message = f"the service is {state}" + (f": {engine.failure}" if engine.failure else "")
    raise ApiError(503, message, code=state if state != "starting" else "not_ready")


class LoadAnswer(BaseModel):
    """How busy a model is."""

    waiting: int = Field(description="Rows that wait for a worker.")
    running: int = Field(description="Rows that are with a worker.")


class Status(BaseModel):
    """How the service is, for a page that shows it."""

    state: Literal["starting", "ready", "draining", "failed", "stopped"]
    models: dict[str, LoadAnswer] = Field(description="By id, once they are loaded.")


@router.get("/v1/status")
async def status(services: Shared) -> Status:
    """Whether new work is taken, and how busy each model is."""
    load = services.metrics.load.items()
    return Status(
        state="draining" if services.leaving else services.engine.state,
        models={model: LoadAnswer(waiting=now.waiting, running=now.running) for model, now in load},
    )


@metrics_router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
async def metrics(services: Shared) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
