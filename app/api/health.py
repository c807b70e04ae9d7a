"""For balancers, monitoring and the page: is the process alive, is it ready, how busy is it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from app.api.deps import Shared
from app.api.errors import ApiError, ErrorAnswer

router = APIRouter(tags=["probes"])
metrics_router = APIRouter(tags=["probes"])


class AliveAnswer(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(BaseModel):
    """New work is taken: models are loaded, warm and tested."""

    status: Literal["ready"] = "ready"


@router.get("/livez")
@router.head("/livez", include_in_schema=False)
async def livez() -> AliveAnswer:
    """Whether the process answers, models loaded or not. Restart it where it does not."""
    return AliveAnswer()


@router.get("/readyz", responses={503: {"model": ErrorAnswer}})
@router.head("/readyz", include_in_schema=False)
async def readyz(services: Shared) -> ReadyAnswer:
    """Whether to send work here: 503 while loading, draining, failed, without a worker, or where
    images are signed and the certificate has ended."""
    if services.ready:
        return ReadyAnswer()
    engine = services.engine
    state = "draining" if services.leaving else engine.state
    if state == "ready":
        services.images.check_signing()
        message = "the workers are being replaced"
        raise ApiError(503, message, code="no_worker", headers={"Retry-After": "2"})
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
@router.head("/v1/status", include_in_schema=False)
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
@metrics_router.head("/metrics", response_class=Response, include_in_schema=False)
async def metrics(
    services: Shared, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """Metrics in the Prometheus text format, or in OpenMetrics'."""
    body, content_type = services.metrics.render_for(accept)
    return Response(body, headers={"Content-Type": content_type})
