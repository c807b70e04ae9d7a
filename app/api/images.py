"""``POST /v1/images``: pictures from a prompt or a seed."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.api import album
from app.api.answers import (
    PICTURE_CONTENT,
    EventStream,
    order_headers,
    picture_response,
    timing_header,
)
from app.api.errors import ErrorAnswer
from app.api.fields import ImagesBody
from app.api.guard import Asker
from app.api.negotiation import EVENTS, JSON, negotiate
from app.api.openapi import event_stream
from app.api.orders import take_order
from app.api.presence import while_connected
from app.api.services import Shared

router = APIRouter(tags=["images"])


@router.post(
    "/v1/images",
    response_class=Response,
    responses={
        200: {
            "model": album.Images,
            "description": "The picture, or JSON, or events, as Accept asks.",
            "content": {**PICTURE_CONTENT, EVENTS: event_stream(album.EVENTS)},
        },
        406: {"model": ErrorAnswer, "description": "Accept and format contradict each other."},
    },
)
async def draw(
    body: ImagesBody,
    request: Request,
    services: Shared,
    client: Asker,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draws pictures from a prompt or a seed.

    Answers with the picture itself where one was asked for and Accept allows it; else with JSON,
    or with the events `progress`, `preview`, `image` and `done`.
    """
    answer = negotiate(accept, body.format, body.n)
    order = take_order(
        body,
        engine=services.engine,
        settings=services.settings,
        seed=body.seed,
        n=body.n,
        format=answer.format,
    )
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
            job = await services.studio.submit(order, client, previews=body.previews)
            events = pictures.events(services.studio.events(order, job))
            return EventStream(job, events, order_headers(order) | headers)
