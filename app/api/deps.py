"""What every route needs, made once for each application, and work that ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ParamSpec, TypeVar

from cachetools import LRUCache
from fastapi import Depends, Request

from app.api.auth import Client
from app.api.errors import CLIENT_GONE, ApiError
from app.api.rate_limit import RateLimit
from app.api.schemas import WithParameters, printable
from app.api.signing import Address, Links
from app.engine import Engine, Job, Succession
from app.generation.editing.budget import UploadBudget
from app.generation.resolve import Generation, find_model
from app.generation.service import File, ImageService
from app.metrics import Metrics
from app.settings import Settings
from model.checkpoint import Checkpoint

MOST_ADDRESSES = 1024
"""Whose meaning is remembered."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Services:
    """The parts that routes share."""

    settings: Settings
    engines: Succession
    metrics: Metrics
    images: ImageService
    uploads: UploadBudget
    rate_limit: RateLimit
    links: Links
    addresses: LRUCache[tuple[bytes, bytes], Address] = field(
        default_factory=lambda: LRUCache(MOST_ADDRESSES)
    )  # what those mean that were asked for lately
    leaving: bool = False  # set by the server at the first signal: /readyz turns 503

    @property
    def engine(self) -> Engine:
        """The one that takes new requests."""
        return self.engines.current

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of those of any model."""
        return self.engine.parameters

    @property
    def ready(self) -> bool:
        """Whether a balancer should send work here: there is a worker, and it may be given some."""
        working = self.engine.state == "ready" and self.engine.workers > 0
        return working and self.images.can_sign and not self.leaving

    async def stop(self) -> None:
        """Ends all requests in words, and the workers, within seconds. Idempotent."""
        self.images.stop()
        await self.engines.stop()

    def checkpoint(self, name: str | None) -> Checkpoint:
        """The model that is meant. Raises `InvalidField`."""
        return self.find(name)[0]

    def find(self, name: str | None) -> tuple[Checkpoint, bool]:
        """The same, and whether its digest was named."""
        return find_model(name, self.engine.checkpoints, self.settings.model_aliases)

    def check_names(self, fields: WithParameters, *files: str) -> None:
        """Raises `ApiError` for a field that is neither the route's nor any model's parameter."""
        for name in fields.model_extra or ():
            if name not in self.parameters:
                known = ", ".join((*files, *type(fields).model_fields, *self.parameters))
                message = f"{printable(name)}: there is no such field; there are {known}"
                raise ApiError(400, message, code="unknown_field", param=printable(name))

    async def decoded(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function makes of an upload, off the loop. Raises `UploadsFull`, and
        `DeadlineExceeded` where it has waited for as long as a request may take."""
        seconds = self.settings.request_timeout
        message = f"The upload was not decoded within {seconds:g} seconds."
        decoding = self.uploads.begin(function, *args, **kwargs)
        return await self.images.within(seconds, decoding, message)

    async def submit(
        self, generation: Generation, client: Client, *, previews: bool = False
    ) -> Job:
        """Hands the requests to the engine and charges the client for what is computed of them.

        Leave the job whatever happens. Raises `ApiError` (429) and `EngineError`.
        """
        requests = generation.requests
        cost = -(-generation.evaluations * self.engine.missing(requests) // len(requests))
        await self.rate_limit.check(client, cost)
        job = self.images.submit(generation, previews=previews)
        await self.charge(client, cost, job)
        return job

    async def begin(self, generation: Generation, client: Client) -> bool:
        """Draws what is not in memory, for whoever asks for it later; whether there is anything.

        Raises what `submit` raises.
        """
        images = self.images
        if images.in_memory(generation):
            return False
        if not images.unattended.holds(generation.requests):
            # Kept even where the seed is random: it is in the address that is given.
            images.unattended.hold(await self.submit(replace(generation, seeded=True), client))
        return True

    async def charge(self, client: Client, evaluations: int, job: Job) -> None:
        """Takes a job's cost off what the client may use; cancels the job where that fails."""
        try:
            await self.rate_limit.charge(client, evaluations)
        except BaseException:
            job.cancel()
            raise

    async def files(self, generation: Generation, request: Request, client: Client) -> list[File]:
        """All files, drawn while the client waits for them; a single one may be kept already."""
        kept = self.images.kept(generation)
        if kept is not None:
            return [kept]
        return await while_connected(request, self._draw(generation, client))

    async def _draw(self, generation: Generation, client: Client) -> list[File]:
        async with await self.submit(generation, client) as job:
            return await self.images.files(generation, job)


async def services_of(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


Shared = Annotated[Services, Depends(services_of)]
"""A route's parameter of this type is the application's `Services`."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, which is cancelled as soon as the client has gone.

    Raises `ApiError` (499) then. What comes meanwhile of a body that nobody reads is dropped, and
    refused beyond the limits of `app.api.middleware`.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        leaving.result()  # raises where it ended because of a body, rather than with the client
        raise ApiError(CLIENT_GONE, "the client has gone", code="client_gone")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
