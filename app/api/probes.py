"""For balancers and monitoring: is the process alive, does it take work, how does it fare."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.api.errors import ApiError, ErrorAnswer
from app.api.services import Shared
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["probes"])
metrics_router = APIRouter(tags=["probes"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """New work is taken: models are loaded, warm and tested."""

    status: Literal["ready"] = "ready"


@router.get("/livez")
async def livez() -> Alive:
    """Whether the process answers, models loaded or not. Restart it where it does not."""
    return Alive()


@router.get("/readyz", responses={503: {"model": ErrorAnswer}})
async def readyz(services: Shared) -> Ready:
    """Whether to send work here: 503 while loading, draining, or failed."""
    if services.ready:
        return Ready()
    engine = services.engine
    state = "draining" if services.leaving else engine.state
    message = f"the service is {state}" + (f": {engine.failure}" if engine.failure else "")
    raise ApiError(503, message, code=state if state != "starting" else "not_ready")


@metrics_router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
async def metrics(services: Shared) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
