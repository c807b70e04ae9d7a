"""``POST /v1/images/transform``: images made of an upload."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import ConfigDict, Field

from app.api.auth import Caller
from app.api.deps import Shared
from app.api.openapi import UploadField, form_body
from app.api.responses import RESPONSES, negotiate, respond
from app.api.schemas import WHOLE, AnswerFields, Background, PromptFields, Size
from app.api.uploads import Form, Sent, resolve_upload
from app.generation.editing.operations import EDITS, EditName, EditRequest
from model.request import FACTORS

router = APIRouter(tags=["images"])

UPLOADS = (
    UploadField(
        "image",
        "The picture: PNG, JPEG, WebP, AVIF or GIF (its first frame), of any size and aspect. It "
        "is turned as its Exif orientation says, and its colours are converted to sRGB. edit: one "
        "or several of them, in several fields of this name; each model says in /v1/models how "
        "many `images` it takes.",
        required=True,
    ),
    UploadField(
        "mask",
        "inpaint: a picture of the same size. Where it is transparent, by more than half, the "
        "image is regenerated; if no pixel of it is, or it has white strokes only on a transparent "
        "ground, where it is white. Without a mask: where the image itself is fully transparent.",
    ),
)

Margin = Annotated[int | None, Field(ge=0, le=200), WHOLE]


class TransformForm(AnswerFields, PromptFields):
    """The texts of the form."""

    model_config = ConfigDict(extra="allow")

    operation: EditName
    """What to do. vary: another picture like it. restyle: the same in what the prompt says.
    inpaint: a part regenerated. outpaint: more around it. upscale: twice or four times as large.
    colorize: colours for its brightness. denoise: the picture beneath the noise. edit: what the
    prompt says, with one or several images."""

    factor: Annotated[int | None, Field(ge=FACTORS[0], le=FACTORS[-1]), WHOLE] = None
    """upscale: 2 (if it is not given) or 4. The result has at most as many pixels a side as the
    model's `sizes.upscaled` says (emoji-flow: 512), whatever its aspect."""

    left: Margin = None
    """outpaint: what to add, in per cent of the width. 25 on each side if none is given."""

    top: Margin = None
    """outpaint: what to add, in per cent of the height."""

    right: Margin = None
    """outpaint: what to add, in per cent of the width."""

    bottom: Margin = None
    """outpaint: what to add, in per cent of the height."""

    size: Annotated[Size | None, Field(examples=[128, "128x96"])] = None
    """Pixels along the longer side of the answer, or width x height of the upload's aspect. Without
    it, inpaint and outpaint keep the upload's own pixels, upscale multiplies them, and the others
    answer in the model's own size, of many that which is nearest to the upload's aspect. edit draws
    any width x height that the model draws."""

    background: Background | None = None
    """What lies behind: "transparent" (not for jpeg), "white", or a colour such as #ff8800. Without
    it, what could be seen through still can be, and an opaque picture stays opaque."""

    def edit(self, form: Form) -> EditRequest:
        """What is to be done with the form's pictures. Raises `ApiError` and `InvalidField`."""
        several = EDITS[self.operation].several
        return EditRequest(
            operation=self.operation,
            images=form.several("image") if several else (form.file("image"),),
            mask=form.optional_file("mask"),
            factor=self.factor,
            left=self.left,
            top=self.top,
            right=self.right,
            bottom=self.bottom,
        )


@router.post(
    "/v1/images/transform",
    response_class=Response,
    responses=RESPONSES,
    openapi_extra=form_body(TransformForm, UPLOADS),
)
async def transform(
    form: Sent,
    request: Request,
    services: Shared,
    client: Caller,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Makes images of a picture, with the same model, in the same batches.

    The answer shows the frame of the upload. inpaint and outpaint answer in the upload's own size,
    and every pixel that was not to be regenerated is the upload's, exactly (in a PNG, with the
    background that it has by default). The model sees the upload scaled to its own size, of many
    that which is nearest to the upload's aspect; `X-Tessera-Fitted` says how. edit answers in a
    size that the model draws, and sees its images in their own sizes, but with no more pixels
    than the largest that it draws. Answers as `POST /v1/images` does, but has no address.
    """
    fields = form.fields(TransformForm, UPLOADS, services)
    edit = fields.edit(form)
    answer = negotiate(accept, fields.format, fields.n)
    wanted = fields.wanted(format=answer.format, seed=fields.seed, n=fields.n, edit=edit)
    generation = await resolve_upload(wanted, services.checkpoint(fields.model), form, services)
    return await respond(
        generation,
        answer,
        previews=fields.previews,
        request=request,
        services=services,
        client=client,
    )
