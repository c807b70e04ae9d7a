"""``POST /v1/images/generations``, ``/edits`` and ``/variations``.

A model that edits by the prompt takes several images as references, as OpenAI's own do. With other
models, and with a mask, the first image is the one that is edited, and the others lend it their
looks, blended with its own; what a mask keeps is kept to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.auth import Caller, Client
from app.api.deps import Services, Shared
from app.api.errors import invalid
from app.api.openai.responses import EDIT, GENERATION, Events, json_response, respond
from app.api.openai.schemas import (
    EditsForm,
    Generated,
    GeneratedImage,
    GenerationsBody,
    VariationsForm,
    WithUpload,
)
from app.api.openapi import UploadField, event_stream, form_body, form_or_json_body
from app.api.responses import EVENTS, generation_headers
from app.api.signing import path_of
from app.api.uploads import Form, Sent, SentAlsoAsJson, resolve_upload
from app.generation.editing.operations import EDITS, EditRequest, can
from app.generation.resolve import resolve

router = APIRouter(tags=["openai"])
upload_router = APIRouter(tags=["openai"])

PICTURE = "PNG, JPEG, WebP, AVIF or GIF (its first frame), of any size and aspect."
MOST_IMAGES = 16
HALF_WAY = 0.5
"""The strength of "input_fidelity": "high"."""

EDIT_UPLOADS = (
    UploadField(
        "image",
        f"What is edited: {PICTURE} There may be several, up to {MOST_IMAGES} and also as "
        "`image[]`. Models with the operation `edit` take them all as references, as many as they "
        "have `images` in /v1/models; with others, and with a mask, the first is edited, and "
        "blended with the others where it is regenerated.",
        required=True,
    ),
    UploadField(
        "mask",
        "A picture of the same size as the (first) image: where it is fully transparent, the image "
        "is regenerated, and elsewhere kept exactly. Without one, all of it is regenerated.",
    ),
)
_JSON_PICTURE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "image_url": {
            "type": "string",
            "description": "A data: URL with base64. Addresses are not fetched.",
            "examples": ["data:image/png;base64,…"],
        }
    },
    "required": ["image_url"],
    "additionalProperties": False,
}
JSON_FILES: dict[str, dict[str, Any]] = {
    "images": {
        "type": "array",
        "items": _JSON_PICTURE,
        "minItems": 1,
        "maxItems": MOST_IMAGES,
        "description": EDIT_UPLOADS[0].description,
    },
    "mask": {
        "anyOf": [_JSON_PICTURE, {"type": "null"}],
        "description": EDIT_UPLOADS[1].description,
    },
}
VARIATION_UPLOADS = (UploadField("image", PICTURE, required=True),)


@router.post(
    "/v1/images/generations",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(GENERATION.types)}}},
)
async def generations(
    body: GenerationsBody, request: Request, services: Shared, client: Caller
) -> Response:
    """Draws images as the OpenAI Images API does."""
    services.check_names(body)
    if body.stream and body.response_format == "url":
        raise invalid("response_format", "a stream carries b64_json only")
    checkpoint = services.checkpoint(body.model)
    generation = resolve(body.wanted(checkpoint.spec), checkpoint, services.settings)
    if not body.by_address:
        return await respond(
            generation, body, GENERATION, request=request, services=services, client=client
        )
    # The address is the image: it is drawn when it is fetched.
    images = [
        GeneratedImage(
            url=services.links.url(path_of(generation, index, pin=True), request), seed=image.seed
        )
        for index, image in enumerate(generation.requests)
    ]
    headers = generation_headers(generation, services)
    return json_response(generation, body, images, services, headers)


@upload_router.post(
    "/v1/images/edits",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(EDIT.types)}}},
    openapi_extra=form_or_json_body(EditsForm, EDIT_UPLOADS, JSON_FILES),
)
async def edits(
    form: SentAlsoAsJson, request: Request, services: Shared, client: Caller
) -> Response:
    """Edits a picture as the OpenAI Images API does: a form with files, or JSON with data: URLs."""
    if "markup" in form.files:
        raise invalid("markup", "is not possible here: say in the prompt what to change")
    fields = form.fields(EditsForm, (*EDIT_UPLOADS, UploadField("image[]", "")), services)
    mask = form.optional_file("mask")
    refers = can(services.checkpoint(fields.model).spec.operations, "edit")
    edit = EditRequest(
        operation="inpaint" if mask is not None else "edit" if refers else "restyle",
        images=_images(form),
        mask=mask,
        mask_style="alpha",
    )
    strength = {"strength": HALF_WAY} if fields.input_fidelity == "high" else _strength(edit)
    return await _edited(
        fields, edit, strength, EDIT, form, request=request, services=services, client=client
    )


@upload_router.post(
    "/v1/images/variations",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(GENERATION.types)}}},
    openapi_extra=form_body(VariationsForm, VARIATION_UPLOADS),
)
async def variations(form: Sent, request: Request, services: Shared, client: Caller) -> Response:
    """Varies a picture as the OpenAI Images API did."""
    fields = form.fields(VariationsForm, VARIATION_UPLOADS, services)
    edit = EditRequest(operation="vary", images=(form.file("image"),))
    return await _edited(
        fields, edit, {}, GENERATION, form, request=request, services=services, client=client
    )


async def _edited(
    fields: WithUpload,
    edit: EditRequest,
    defaults: Mapping[str, float],
    events: Events,
    form: Form,
    *,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    checkpoint = services.checkpoint(fields.model)
    wanted = fields.wanted(checkpoint.spec, edit, defaults)
    generation = await resolve_upload(wanted, checkpoint, form, services)
    return await respond(
        generation, fields, events, request=request, services=services, client=client
    )


def _images(form: Form) -> tuple[bytes, ...]:
    images = form.several("image", "image[]")
    if len(images) > MOST_IMAGES:
        message = f"{len(images)} files were sent, at most {MOST_IMAGES} are accepted"
        raise invalid("image", message)
    return images


def _strength(edit: EditRequest) -> Mapping[str, float]:
    """How far to go from the images, where it is not said and the model can be told.

    Only what starts from something can show anything of the other images.
    """
    alone = edit.operation == "inpaint" and len(edit.images) == 1
    return {} if alone else EDITS["restyle"].defaults
