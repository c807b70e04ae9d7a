"""The application: settings, engine and routes wired together. Importing this reads nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app import tracing
from app.api import describe, errors, health, images, models, openapi, pages, transform
from app.api.auth import Auth
from app.api.deps import Services
from app.api.errors import ErrorAnswer
from app.api.middleware import EXPOSED, BodyLimit, Cors, SecurityHeaders
from app.api.openai import routes as openai
from app.api.rate_limit import RateLimit
from app.api.request_log import RequestLog
from app.api.signing import Links
from app.engine import Engine, Succession
from app.generation.credentials import Credentials
from app.generation.editing.budget import UploadBudget
from app.generation.service import ImageService
from app.metrics import Metrics, installed_version
from app.settings import Settings
from model.checkpoint import CheckpointError
from model.registry import SHIPPED

logger = logging.getLogger("tessera")

DESCRIPTION = """
Image transformers over HTTP: a prompt or a seed in, an image out.

The same checkpoint, numerics and request give the same bytes, and every image has an address.
"""


def create_app(settings: Settings) -> FastAPI:
    """The whole service. Raises `CheckpointError` for a model folder that cannot be used."""
    if not settings.engine.models:
        raise CheckpointError(f"{SHIPPED}: no model ships; name folders in TESSERA_MODELS")
    metrics = Metrics()
    engine = Engine(settings.engine, metrics)
    for alias, name in settings.model_aliases.items():
        if name not in engine.checkpoints:
            known = ", ".join(engine.checkpoints)
            raise ValueError(
                f"TESSERA_MODEL_ALIASES: {alias} stands for {name}, which is not loaded; "
                f"there are {known}"
            )
    return assemble(settings, engine, metrics)


def assemble(settings: Settings, engine: Engine, metrics: Metrics) -> FastAPI:
    """The routes around an engine. ``app.state.services`` holds the parts.

    Raises `CredentialsError` for a key or certificates that cannot sign.
    """
    uploads = UploadBudget(
        memory_bytes=settings.upload_memory_bytes, threads=settings.upload_threads
    )
    credentials = None
    if settings.c2pa_certificates is not None and settings.c2pa_key is not None:
        credentials = Credentials(settings.c2pa_certificates, settings.c2pa_key)
        logger.info("files are signed as %s, until %s", credentials.signer, credentials.until)
    engines = Succession(engine, settings.request_timeout)
    service = ImageService(engines, metrics, settings, uploads, credentials)
    limit, links = RateLimit(settings, metrics), Links(settings)
    specs = [checkpoint.spec for checkpoint in engine.checkpoints.values()]
    services = Services(settings, engines, metrics, service, uploads, limit, links)
    metrics.watch_ready(lambda: services.ready)
    metrics.watch_workers(lambda: services.engine.workers)
    metrics.watch_encoding(lambda: service.unencoded)
    metrics.watch_uploads(lambda: uploads.held)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Returns at once, so that /livez answers while the models load.
        await engines.start()
        try:
            yield
        finally:
            await engines.stop()
            services.images.close()
            services.uploads.close()

    documented = settings.docs_access != "off"
    app = FastAPI(
        title="Tessera",
        version=installed_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,  # FastAPI's loads Swagger UI from another host
        redoc_url=None,
        redirect_slashes=False,  # a redirect names the host that was asked, not the public one
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
    )
    app.state.services = services
    errors.install_handlers(app, metrics)
    uploading = (transform.router, describe.router, openai.upload_router)
    drawing = (images.router, images.addresses, openai.router)
    for router in (*drawing, models.router, health.router, pages.router, *uploading):
        app.include_router(router)
    if settings.metrics_access != "off":
        app.include_router(health.metrics_router)
    if documented:
        app.include_router(pages.docs_router)

    openapi.install_document(app, settings, specs)

    # The last one added is the first to see a request.
    addresses = {
        route.path for router in uploading for route in router.routes if isinstance(route, APIRoute)
    }
    app.add_middleware(BodyLimit, settings=settings, uploads=addresses)
    app.add_middleware(Auth, settings=settings, metrics=metrics)
    app.add_middleware(errors.LastResort)
    if settings.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=metrics)
    if settings.tracing:
        app.add_middleware(tracing.Tracing, tracer=tracing.start(installed_version()))
    return app
