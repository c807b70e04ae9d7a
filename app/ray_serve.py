"""Tessera on Ray Serve: a fleet of replicas on a cluster's GPUs, one `serve run` to start it.

    TESSERA_MODELS=… serve run app.ray_serve:build num_gpus=1
    serve run app.ray_serve:build num_cpus=2 models_per_replica=1

Two deployments. A `Tessera` is the whole service of `app.main` without its port, a replica for each
GPU or share of CPUs. The `Front` takes HTTP from Ray and passes each request to one of them; where
that one dies before the answer has begun, to the next: nothing that the service does changes
anything, so that everything may be repeated.

Where a fleet serves more models than fit one device, ``models_per_replica`` says how many do. A
replica then loads models as they are asked for, and gives up the one that was not for longest; Ray
sends requests to replicas that have their model. Settings are those of `app.settings`, as the
process that builds the application has them.
"""

# Without `from __future__ import annotations`: Ray looks at the type of `build`'s argument.
import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application, metrics
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from app import logs
from app.api.deps import Services
from app.api.errors import ApiError
from app.generation.resolve import find_describer, find_model
from app.main import create_app
from app.settings import Settings, load_settings
from model.registry import open_checkpoint
from model.request import InvalidField

ALL = ""
"""In place of a model's id where replicas have all models."""

TRIES = 8
"""Replicas that are asked for one request, one after the other, while they die."""

EXPORT_SECONDS = 10.0

logger = logging.getLogger(__name__)


class FleetArguments(BaseModel, extra="forbid"):
    """What `serve run` and ``args`` of a configuration file may say."""

    num_gpus: float = Field(0, ge=0, description="GPUs of each replica.")
    num_cpus: int = Field(2, ge=1, description="Cores of each replica, and its threads.")
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(4, ge=1)
    ongoing_requests: float = Field(
        8, gt=0, description="Requests at once that each replica should have; beyond, one is added."
    )
    models_per_replica: int = Field(0, ge=0, description="0: every replica has all models.")


class Loaded:
    """The service with its models on a device, ready; without a port."""

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        self._app = app
        self._lifespan = app.router.lifespan_context(app)
        self._loop = asyncio.get_running_loop()
        self._answering = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopped = False
        services = app.state.services
        assert isinstance(services, Services)
        self.services = services

    async def start(self) -> None:
        """Raises `NotReady` where the models cannot be loaded."""
        await self._lifespan.__aenter__()
        try:
            await self.services.engine.wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends it, once all requests are answered. Idempotent."""
        if not self.stopped:
            self.stopped = True
            await self._idle.wait()
            await self._lifespan.__aexit__(None, None, None)

    def __del__(self) -> None:
        # Ray calls this, in a thread of its own, where it gives a model up for another.
        if not self.stopped:
            asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result()

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """The messages of the answer to a request whose body is there."""
        self._answering += 1
        self._idle.clear()
        try:
            async for message in _messages(self._app, scope, body):
                yield message
        finally:
            self._answering -= 1
            if not self._answering:
                self._idle.set()


async def _messages(app: FastAPI, scope: Scope, body: bytes) -> AsyncIterator[Message]:
    """What an application sends."""
    sent: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=16)
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if given:
            return given.pop()
        await asyncio.Event().wait()  # whoever leaves cancels all this
        raise AssertionError

    async def run() -> None:
        try:
            await app(scope, receive, sent.put)
        finally:
            await sent.put(None)

    running = asyncio.create_task(run())
    try:
        while (message := await sent.get()) is not None:
            yield message
        await running  # raises what it raised
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Tessera:
    """A replica. Ray sends it requests once its constructor, and so its models, are done."""

    # Ray awaits it.
    async def __init__(  # type: ignore[misc]
        self, settings: Settings, models_per_replica: int
    ) -> None:
        logs.configure(settings.log_format, settings.log_level)
        self._settings = settings
        self._loaded: dict[str, Loaded] = {}
        if models_per_replica:

            async def find(model: str) -> Loaded:
                return await self._load(model)

            limit = {"max_num_models_per_replica": models_per_replica}
            self._find = serve.multiplexed(**limit)(find)
        else:
            await self._load(ALL)
        self._exporting = asyncio.create_task(_export(self._loaded))

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """The messages of an answer, by the model that Ray was told of."""
        model = serve.get_multiplexed_model_id()
        loaded = await self._find(model) if model else self._loaded[ALL]
        async for message in loaded.answer(scope, body):
            yield message

    async def check_health(self) -> None:
        """Ray replaces a replica that raises here."""
        for loaded in self._loaded.values():
            if loaded.services.engine.state == "failed":
                raise RuntimeError(loaded.services.engine.failure)

    async def stop(self) -> None:
        self._exporting.cancel()
        for loaded in self._loaded.values():
            await loaded.stop()

    async def __del__(self) -> None:
        await self.stop()

    async def _load(self, model: str) -> Loaded:
        settings = self._settings
        if model != ALL:
            (folder,) = (
                folder
                for folder in settings.engine.models
                if open_checkpoint(folder).spec.id == model
            )
            aliases = {alias: of for alias, of in settings.model_aliases.items() if of == model}
            settings = settings.model_copy(update={"models": (folder,), "model_aliases": aliases})
        loaded = Loaded(settings)
        await loaded.start()
        for name in [name for name, each in self._loaded.items() if each.stopped]:
            del self._loaded[name]
        self._loaded[model] = loaded
        return loaded


class Front:
    """Takes requests from Ray's HTTP proxies and passes each to a replica."""

    def __init__(self, replicas: DeploymentHandle, settings: Settings, multiplexed: bool) -> None:
        self._replicas = replicas.answer.options(stream=True)
        self._settings = settings
        # Knows all models and loads none: says what there is, and refuses what there is not.
        self._catalogue = create_app(settings) if multiplexed else None

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        try:
            if scope["path"] == "/metrics":
                reason = "Ray's own metrics have those of all replicas, as ray_tessera_…"
                raise ApiError(404, reason, code="not_found")
            body = await self._body(receive)
            try:
                model = await self._model(scope, body)
            except InvalidField:
                model = None
            if model is None:
                assert self._catalogue is not None
                async for message in _messages(self._catalogue, scope, body):
                    await send(message)
            else:
                await self._while_connected(receive, self._forward(model, scope, body, send))
        except ApiError as error:
            await error.response()(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes:
        most = max(self._settings.max_body_bytes, self._settings.max_upload_bytes)
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > most:
                text = f"the body is larger than {most} bytes"
                raise ApiError(413, text, code="body_too_large", headers={"Connection": "close"})
            if not message.get("more_body"):
                return bytes(body)

    async def _model(self, scope: Scope, body: bytes) -> str | None:
        """The id of the model that is meant; None where that does not matter.

        Raises `InvalidField` for one that is not here.
        """
        if self._catalogue is None:
            return ALL
        path: str = scope["path"]
        if not path.startswith("/v1/images") and path != "/readyz":
            return None
        services = self._catalogue.state.services
        assert isinstance(services, Services)
        known = services.engine.checkpoints, self._settings.model_aliases
        name = await _named(scope, body)
        if path == "/v1/images/describe":
            return find_describer(name, *known).spec.id
        return find_model(name, *known)[0].spec.id

    async def _forward(self, model: str, scope: Scope, body: bytes, send: Send) -> None:
        replicas = self._replicas
        if model != ALL:
            replicas = replicas.options(multiplexed_model_id=model)
        begun = False
        for turn in range(TRIES):
            answer = replicas.remote(_portable(scope), body)
            held: list[Message] = []
            try:
                async for message in answer:
                    held.append(message)
                    # An answer that is not a stream is passed on when it is whole.
                    if begun or _is_stream(message):
                        begun = True
                        await send(held.pop())
                for message in held:
                    await send(message)
                return
            except BackPressureError as error:
                headers = {"Retry-After": "2"}
                message = "as many requests wait as the fleet accepts"
                raise ApiError(503, message, code="queue_full", headers=headers) from error
            except RayActorError:
                if begun or turn == TRIES - 1:
                    raise
                logger.warning("a replica died with a request, which is given to the next")
                await asyncio.sleep(0.1 * 2**turn)
            except asyncio.CancelledError:
                answer.cancel()
                raise

    async def _while_connected(self, receive: Receive, work: Any) -> None:
        """Ends the work where the client leaves."""
        working = asyncio.create_task(work)
        leaving: asyncio.Future[Message] = asyncio.ensure_future(
            receive()
        )  # after the body, that is the client's end
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)


class Ingress:
    """The ASGI application that Ray is given, which is made before there is a `Front`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            front = serve.get_replica_context().servable_object
            await front.route(scope, receive, send)


async def _named(scope: Scope, body: bytes) -> str | None:
    """The model that a request names, wherever it may."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request(scope, receive)
    name: object = request.query_params.get("model")
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        async with request.form() as form:
            name = form.get("model")
    elif body:
        try:
            content = json.loads(body)
        except ValueError:
            content = None  # the replica says what is wrong with it
        name = content.get("model") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def _is_stream(message: Message) -> bool:
    """Whether an answer of events begins here."""
    return message["type"] == "http.response.start" and any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message["headers"]
    )


_PORTABLE = (
    *("type", "asgi", "http_version", "method", "scheme", "root_path"),
    *("path", "raw_path", "query_string", "headers", "client", "server"),
)


def _portable(scope: Scope) -> Scope:
    """What of a request's scope can be sent to another process."""
    return {name: scope[name] for name in _PORTABLE if name in scope}


async def _export(loaded: dict[str, Loaded]) -> None:
    """Copies a replica's metrics into Ray's, which has them of all replicas, with their names.

    As gauges, whatever they are: Ray's counters and histograms cannot be set. Rates are right.
    """
    gauges: dict[str, metrics.Gauge] = {}
    while True:
        await asyncio.sleep(EXPORT_SECONDS)
        for each in tuple(loaded.values()):
            text = each.services.metrics.render().decode()
            for family in text_string_to_metric_families(text):
                if not family.name.startswith("tessera_"):
                    continue
                for sample in family.samples:
                    if sample.name not in gauges:
                        gauges[sample.name] = metrics.Gauge(
                            sample.name, family.documentation, tag_keys=tuple(sample.labels)
                        )
                    gauges[sample.name].set(sample.value, tags=sample.labels)


def build(args: FleetArguments) -> Application:
    """The application, for `serve run` and for ``import_path`` in a configuration file."""
    settings = load_settings()
    settings = settings.model_copy(update={"threads": settings.threads or args.num_cpus})
    most = settings.max_rows_waiting
    replicas = serve.deployment(
        Tessera,
        name="Tessera",
        ray_actor_options={"num_cpus": args.num_cpus, "num_gpus": args.num_gpus},
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "max_replicas": args.max_replicas,
            "target_ongoing_requests": args.ongoing_requests,
            # A replica takes a while to load: none is given up for a pause.
            "downscale_delay_s": 600,
            "upscale_delay_s": 10,
        },
        # Enough to fill a batch while others are encoded; the rest wait where they can go to any.
        max_ongoing_requests=max(8, round(4 * args.ongoing_requests)),
        max_queued_requests=most,
        # Accepted work is answered before a replica goes.
        graceful_shutdown_wait_loop_s=1,
        graceful_shutdown_timeout_s=settings.request_timeout + 10,
        health_check_period_s=5,
        health_check_timeout_s=15,
    )
    front = serve.deployment(
        serve.ingress(Ingress())(Front),
        name="Front",
        ray_actor_options={"num_cpus": 1},
        num_replicas=1,
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=settings.request_timeout + 10,
    )
    bound = replicas.bind(settings, args.models_per_replica)
    return front.bind(bound, settings, args.models_per_replica > 0)
