"""The application: settings, engine and routes wired together. Importing this reads nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from app.api import (
    addresses,
    describe,
    docs,
    errors,
    images,
    models,
    openapi,
    page,
    probes,
    transform,
)
from app.api.body import BodyLimit
from app.api.errors import ErrorAnswer
from app.api.guard import Guard, signer_of
from app.api.headers import EXPOSED, SecurityHeaders
from app.api.intake import Intake
from app.api.links import Links
from app.api.meter import Meter
from app.api.openai import edits, generations, variations
from app.api.services import Services
from app.api.studio import Studio
from app.api.telemetry import Telemetry
from app.engine import Engine
from app.metrics import Metrics, installed_version
from app.settings import Settings
from model.checkpoint import SHIPPED, CheckpointError

DESCRIPTION = """
Image transformers over HTTP: a prompt or a seed in, a picture out.

The same checkpoint, numerics and request give the same bytes, and every picture has an address.
"""


def create_app(settings: Settings) -> FastAPI:
    """The whole service. Raises `CheckpointError` for a model folder that cannot be used."""
    if not settings.engine.models:
        raise CheckpointError(f"{SHIPPED}: no model ships; name folders in TESSERA_MODELS")
    metrics = Metrics()
    return assemble(settings, Engine(settings.engine, metrics), metrics)


def assemble(settings: Settings, engine: Engine, metrics: Metrics) -> FastAPI:
    """The routes around an engine. ``app.state.services`` holds the parts."""
    intake = Intake(settings, metrics)
    studio = Studio(engine, Meter(settings, metrics), metrics, settings, intake)
    links = Links(settings, signer_of(settings))
    services = Services(settings, engine, metrics, studio, intake, links)
    metrics.watch_ready(lambda: services.ready)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Returns at once, so that /livez answers while the models load.
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()
            services.studio.close()
            services.intake.close()

    documented = settings.docs_access != "off"
    app = FastAPI(
        title="Tessera",
        version=installed_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,  # FastAPI's loads Swagger UI from another host
        redoc_url=None,
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
    )
    app.state.services = services
    errors.install(app)
    uploading = (transform.router, describe.router, edits.router, variations.router)
    for surface in (images, addresses, generations, models, probes, page):
        app.include_router(surface.router)
    for router in uploading:
        app.include_router(router)
    if settings.metrics_access != "off":
        app.include_router(probes.metrics_router)
    if documented:
        app.include_router(docs.router)

    openapi.install(app, settings, [each.spec for each in engine.checkpoints.values()])

    # The last one added is the first to see a request.
    uploads = {
        route.path for router in uploading for route in router.routes if isinstance(route, APIRoute)
    }
    app.add_middleware(BodyLimit, settings=settings, uploads=uploads)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Telemetry, metrics=metrics)
    return app
