"""``POST /v1/images``: pictures from a prompt or a seed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.api.fields import ImagesBody
from app.api.guard import Asker
from app.api.negotiation import negotiate
from app.api.orders import take_order
from app.api.reply import RESPONSES, reply
from app.api.services import Shared
from app.pictures import ANIMATED, MEDIA_TYPES

router = APIRouter(tags=["images"])


@router.post("/v1/images", response_class=Response, responses=RESPONSES)
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
    possible = ANIMATED if body.walk else tuple(MEDIA_TYPES)
    answer = negotiate(accept, body.format, body.n, possible)
    order = take_order(
        body,
        engine=services.engine,
        settings=services.settings,
        seed=body.seed,
        n=body.n,
        format=answer.format,
    )
    return await reply(
        order,
        answer,
        previews=body.previews,
        request=request,
        services=services,
        client=client,
    )
