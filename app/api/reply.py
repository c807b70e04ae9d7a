"""An order carried out, and answered in the way that was negotiated."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Request, Response

from app.api import album
from app.api.answers import (
    PICTURE_CONTENT,
    EventStream,
    order_headers,
    picture_response,
    timing_header,
)
from app.api.errors import ErrorAnswer
from app.api.guard import Client
from app.api.negotiation import EVENTS, JSON, Answer
from app.api.openapi import event_stream
from app.api.orders import Order
from app.api.presence import while_connected
from app.api.services import Services

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": album.Images,
        "description": "The picture, or JSON, or events, as Accept asks.",
        "content": {**PICTURE_CONTENT, EVENTS: event_stream(album.EVENTS)},
    },
    406: {"model": ErrorAnswer, "description": "Accept and format contradict each other."},
}
"""What the document says of routes that answer so."""


async def reply(
    order: Order,
    answer: Answer,
    *,
    previews: bool,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    """The picture itself, JSON, or the events `progress`, `preview`, `image` and `done`."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    pictures = album.Album(order, partial(services.links.url, request=request))
    match answer.kind:
        case "picture":
            file = await services.file(order, request, client)
            return picture_response(order, file, headers)
        case "json":
            files = await while_connected(request, services.studio.files(order, client))
            page = pictures.page(files)
            headers |= {**order_headers(order), **timing_header(files)}
            return Response(page.model_dump_json(), media_type=JSON, headers=headers)
        case "events":
            job = await services.studio.submit(order, client, previews=previews)
            events = pictures.events(services.studio.events(order, job))
            return EventStream(job, events, order_headers(order) | headers)
