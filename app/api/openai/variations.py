"""``POST /v1/images/variations``: other pictures like one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.api.forms import Sent
from app.api.guard import Asker
from app.api.negotiation import EVENTS
from app.api.openai.answers import Generated, GenerationCompleted, GenerationPartial
from app.api.openai.fields import VariationsForm
from app.api.openai.remake import PICTURE, remake
from app.api.openai.reply import Kind
from app.api.openapi import Upload, event_stream, form_body
from app.api.services import Shared
from app.operations import KINDS
from app.uploads.prepare import Canvas, Prepared, whole

router = APIRouter(tags=["openai"])

KIND = Kind(GenerationPartial, GenerationCompleted)

UPLOADS = (Upload("image", PICTURE, required=True),)


@router.post(
    "/v1/images/variations",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(KIND.events)}}},
    openapi_extra=form_body(VariationsForm, UPLOADS),
)
async def variations(form: Sent, request: Request, services: Shared, client: Asker) -> Response:
    """Varies a picture as the OpenAI Images API did."""
    fields = form.fields(VariationsForm, files=tuple(each.name for each in UPLOADS))
    image = form.file("image")
    strength = fields.strength or KINDS["vary"].strength
    most_pixels = services.intake.most_pixels

    def prepare(canvas: Canvas) -> Prepared:
        return whole((image,), canvas, most_pixels, strength=strength)

    return await remake(
        fields,
        "vary",
        prepare,
        KIND,
        hold=form.hold,
        request=request,
        services=services,
        client=client,
    )
