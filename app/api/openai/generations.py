"""``POST /v1/images/generations``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.api.answers import order_headers
from app.api.errors import invalid
from app.api.guard import Asker
from app.api.links import path_of
from app.api.negotiation import EVENTS
from app.api.openai.answers import Generated, GeneratedImage, GenerationCompleted, GenerationPartial
from app.api.openai.fields import GenerationsBody
from app.api.openai.reply import Kind, page, reply, usage_of
from app.api.openapi import event_stream
from app.api.orders import find_model, take_order
from app.api.services import Shared
from app.pictures import TRANSPARENT

router = APIRouter(tags=["openai"])

KIND = Kind(GenerationPartial, GenerationCompleted)


@router.post(
    "/v1/images/generations",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(KIND.events)}}},
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
    background = TRANSPARENT if body.background == TRANSPARENT else "white"
    order = take_order(
        body.drawing(checkpoint.spec, size=body.side, background=background),
        engine=services.engine,
        settings=services.settings,
        seed=body.seed,
        n=body.n or 1,
        format=body.format,
    )
    if body.response_format != "url":
        return await reply(order, body, KIND, request=request, services=services, client=client)
    # The address is the picture: it is drawn when it is fetched.
    images = [
        GeneratedImage(
            url=services.links.url(path_of(order, index, pin=True), request),
            seed=order.seed(index),
        )
        for index in range(order.request.n)
    ]
    headers = {**order_headers(order), "Cache-Control": "no-store"}
    return page(order, body.speed, images, usage_of(order, services), headers)
