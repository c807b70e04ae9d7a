"""Pictures as the official client reads them: all at once, or as events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from app.api.answers import EventStream, base64_of, event, order_headers, timing_header
from app.api.errors import ErrorAnswer
from app.api.guard import Client
from app.api.negotiation import JSON
from app.api.openai.answers import Completed, Generated, GeneratedImage, Look, PartialImage, Usage
from app.api.openai.fields import Contract, Speed
from app.api.orders import Order
from app.api.presence import while_connected
from app.api.services import Services
from app.api.studio import Draft, File
from app.engine import Preview, Progress
from app.pictures import TRANSPARENT


@dataclass(frozen=True, slots=True)
class Kind:
    """The two events of a route's stream."""

    partial: type[PartialImage]
    completed: type[Completed]

    @property
    def events(self) -> Mapping[str, type[BaseModel]]:
        """By their names, with the error that may be the last."""
        return {
            self.partial.model_fields["type"].default: self.partial,
            self.completed.model_fields["type"].default: self.completed,
            "error": ErrorAnswer,
        }


async def reply(
    order: Order,
    said: Contract,
    kind: Kind,
    *,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    """The pictures in base64, or a stream of them. Raises as `Studio.submit` does."""
    headers = {**order_headers(order), "Cache-Control": "no-store"}
    usage = usage_of(order, services)
    if said.stream:
        partials = Partials(said.partial_images or 0)
        job = await services.studio.submit(order, client, previews=partials.count > 0)
        events = services.studio.events(order, job, partials.wanted)
        told = _told(events, look_of(order, said.speed), usage, order, kind)
        return EventStream(job, told, headers)
    files = await while_connected(request, services.studio.files(order, client))
    images = [
        GeneratedImage(b64_json=base64_of(file.body), seed=order.seed(file.index)) for file in files
    ]
    return page(order, said.speed, images, usage, headers | timing_header(files))


def page(
    order: Order,
    speed: Speed,
    images: list[GeneratedImage],
    usage: Usage,
    headers: Mapping[str, str],
) -> Response:
    """All pictures at once."""
    look = look_of(order, speed).model_dump()
    answer = Generated(**look, created=int(time.time()), data=images, usage=usage)
    return Response(answer.model_dump_json(exclude_none=True), media_type=JSON, headers=headers)


def usage_of(order: Order, services: Services) -> Usage:
    """The prompt's tokens, and evaluations in place of the pictures'."""
    tokenizer = services.engine.checkpoints[order.spec.id].tokenizer
    return Usage.of(len(tokenizer.tokens(order.request.prompt)), order.evaluations)


def look_of(order: Order, speed: Speed) -> Look:
    encoding = order.encoding
    return Look(
        background="transparent" if encoding.background == TRANSPARENT else "opaque",
        output_format=encoding.format,
        quality=speed,
        size=f"{encoding.width}x{encoding.height}",
    )


class Partials:
    """Which previews to send, so that ``count`` of them are spread evenly over each picture."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._sent: Counter[int] = Counter()

    def wanted(self, preview: Preview) -> bool:
        """Whether the picture has come far enough for its next partial; counts it if so."""
        sent = self._sent[preview.index]
        if sent >= self.count or preview.step * (self.count + 1) < preview.steps * (sent + 1):
            return False
        self._sent[preview.index] += 1
        return True


async def _told(
    events: AsyncIterator[Progress | Draft | File],
    look: Look,
    usage: Usage,
    order: Order,
    kind: Kind,
) -> AsyncIterator[bytes]:
    """The events of the contract."""
    partials: Counter[int] = Counter()
    async for each in events:
        if isinstance(each, Progress):
            continue
        common: dict[str, Any] = {
            **look.model_dump(),
            "created_at": int(time.time()),
            "b64_json": base64_of(each.body),
            "seed": order.seed(each.index),
        }
        if isinstance(each, Draft):
            partial = kind.partial(**common, partial_image_index=partials[each.index])
            partials[each.index] += 1
            yield event(partial.type, partial)
        else:
            completed = kind.completed(**common, usage=usage)
            yield event(completed.type, completed)
