"""``POST /v1/images/edits``: a picture edited, where a mask says so or as a whole.

Other than with OpenAI's own models, what a mask keeps is kept to the last bit, and of several
images the first is the one that is edited: the others lend it their looks, blended with its own.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.api.errors import invalid
from app.api.forms import Form, Sent
from app.api.guard import Asker
from app.api.negotiation import EVENTS
from app.api.openai.answers import EditCompleted, EditPartial, Generated
from app.api.openai.fields import EditsForm
from app.api.openai.remake import PICTURE, remake
from app.api.openai.reply import Kind
from app.api.openapi import Upload, event_stream, form_body
from app.api.services import Shared
from app.operations import KINDS
from app.uploads.prepare import Canvas, Prepared, retouched, whole
from app.uploads.retouch import Retouch

router = APIRouter(tags=["openai"])

KIND = Kind(EditPartial, EditCompleted)

MOST_IMAGES = 16
HALF_WAY = 0.5
"""The strength of "input_fidelity": "high"."""

UPLOADS = (
    Upload(
        "image",
        f"What is edited: {PICTURE} Where there are several, up to {MOST_IMAGES} and also as "
        "`image[]`, the first is edited, and blended with the others where it is made anew.",
        required=True,
    ),
    Upload(
        "mask",
        "A picture of the same size as the (first) image: where it is fully transparent, the image "
        "is made anew, and elsewhere kept exactly. Without one, all of it is made anew.",
    ),
)


@router.post(
    "/v1/images/edits",
    response_model=Generated,
    responses={200: {"content": {EVENTS: event_stream(KIND.events)}}},
    openapi_extra=form_body(EditsForm, UPLOADS),
)
async def edits(form: Sent, request: Request, services: Shared, client: Asker) -> Response:
    """Edits a picture as the OpenAI Images API does."""
    if "markup" in form.files:
        raise invalid("markup", "is not possible here: say in the prompt what to change")
    fields = form.fields(EditsForm, files=("image", "image[]", "mask"))
    images = _images(form)
    mask = form.optional_file("mask")
    strength = fields.strength or _strength(fields, masked=mask is not None, images=len(images))
    most_pixels = services.intake.most_pixels

    def prepare(canvas: Canvas) -> Prepared:
        if mask is None:
            return whole(images, canvas, most_pixels, strength=strength)
        retouch = Retouch(images[0], mask, "alpha", None, most_pixels)
        return retouched(retouch, images[1:], canvas, strength=strength)

    return await remake(
        fields,
        "restyle" if mask is None else "inpaint",
        prepare,
        KIND,
        hold=form.hold,
        request=request,
        services=services,
        client=client,
    )


def _images(form: Form) -> list[bytes]:
    images = [file for name in ("image", "image[]") for file in form.files.get(name, ())]
    if not images:
        raise invalid("image", "is required: a picture, as a file", code="missing_field")
    if len(images) > MOST_IMAGES:
        message = f"{len(images)} files were sent, at most {MOST_IMAGES} are accepted"
        raise invalid("image", message)
    return images


def _strength(fields: EditsForm, *, masked: bool, images: int) -> float:
    """How far to go from the images, where it is not said."""
    if fields.input_fidelity == "high":
        return HALF_WAY
    # Only what starts from something can show anything of the other images.
    return KINDS["inpaint" if masked and images == 1 else "restyle"].strength
