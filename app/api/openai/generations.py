"""``POST /v1/images/generations``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.api.answers import EventStream, base64_of, event, order_headers, timing_header
from app.api.errors import ErrorAnswer, invalid
from app.api.guard import Asker
from app.api.links import path_of
from app.api.negotiation import EVENTS, JSON
from app.api.openai.answers import Completed, Generated, GeneratedImage, Look, PartialImage, Usage
from app.api.openai.fields import GenerationsBody
from app.api.openapi import event_stream
from app.api.orders import Order, find_model, take_order
from app.api.presence import while_connected
from app.api.services import Shared
from app.api.studio import Draft, File
from app.engine import Preview, Progress
from app.pictures import TRANSPARENT

router = APIRouter(tags=["openai"])

_EVENTS: dict[str, type[BaseModel]] = {
    "image_generation.partial_image": PartialImage,
    "image_generation.completed": Completed,
    "error": ErrorAnswer,
}


@router.post(
    "/v1/images/generations",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(_EVENTS)}}},
)
async def generations(
    body: GenerationsBody, request: Request, services: Shared, client: Asker
) -> Response:
    """Draws pictures as the OpenAI Images API does."""
    if body.stream and body.response_format == "url":
        raise invalid("response_format", "a stream carries b64_json only")
    checkpoint, _ = find_model(
        body.model, services.engine.checkpoints, services.settings.model_aliases
    )
    order = take_order(
        body.drawing(checkpoint.spec),
        engine=services.engine,
        settings=services.settings,
        seed=body.seed,
        n=body.n or 1,
        format=body.format,
    )
    usage = Usage.of(len(checkpoint.tokenizer.tokens(body.prompt)), order.evaluations)
    headers = {**order_headers(order), "Cache-Control": "no-store"}
    if body.stream:
        partials = Partials(body.partial_images or 0)
        job = await services.studio.submit(order, client, previews=partials.count > 0)
        events = services.studio.events(order, job, partials.wanted)
        return EventStream(job, _told(events, _look(order, body), usage, order), headers)
    if body.response_format == "url":
        # The address is the picture: it is drawn when it is fetched.
        images = [
            GeneratedImage(
                url=services.links.url(path_of(order, index, pin=True), request),
                seed=order.seed(index),
            )
            for index in range(order.request.n)
        ]
    else:
        files = await while_connected(request, services.studio.files(order, client))
        headers |= timing_header(files)
        images = [
            GeneratedImage(b64_json=base64_of(file.body), seed=order.seed(file.index))
            for file in files
        ]
    look = _look(order, body).model_dump()
    page = Generated(**look, created=int(time.time()), data=images, usage=usage)
    return Response(page.model_dump_json(exclude_none=True), media_type=JSON, headers=headers)


def _look(order: Order, body: GenerationsBody) -> Look:
    width, height = order.encoding.width, order.encoding.height
    return Look(
        background="transparent" if order.encoding.background == TRANSPARENT else "opaque",
        output_format=order.encoding.format,
        quality=body.speed,
        size=f"{width}x{height}",
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
    events: AsyncIterator[Progress | Draft | File], look: Look, usage: Usage, order: Order
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
            partial = PartialImage(**common, partial_image_index=partials[each.index])
            partials[each.index] += 1
            yield event(partial.type, partial)
        else:
            completed = Completed(**common, usage=usage)
            yield event(completed.type, completed)
