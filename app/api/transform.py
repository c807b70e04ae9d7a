"""``POST /v1/images/transform``: pictures made of a picture."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field

from app.api.errors import invalid
from app.api.fields import WHOLE, Asked, Background, Drawing, Several, Strength
from app.api.forms import Form, Sent
from app.api.guard import Asker
from app.api.negotiation import negotiate
from app.api.openapi import Upload, form_body
from app.api.orders import find_model, take_order
from app.api.reply import RESPONSES, reply
from app.api.services import Shared
from app.api.transforming import check_can, transformed
from app.operations import KINDS, Kind, Misfit, Name, Wish
from app.uploads.prepare import FACTORS

router = APIRouter(tags=["images"])

UPLOADS = (
    Upload(
        "image",
        "The picture: PNG, JPEG, WebP or GIF (its first frame), of any size and aspect. It is "
        "turned as its Exif orientation says.",
        required=True,
    ),
    Upload(
        "mask",
        "inpaint: a picture of the same size. Where it is fully transparent, the image is made "
        "anew; if no pixel of it is, where it is white. Without a mask: where the image itself is "
        "fully transparent.",
    ),
)

Margin = Annotated[int | None, Field(ge=0, le=200), WHOLE]


class TransformForm(Several, Asked):
    """The texts of the form."""

    operation: Name
    """What to do. vary: another picture like it. restyle: the same in what the prompt says.
    inpaint: a part made anew. outpaint: more around it. upscale: twice or four times as large.
    colorize: colours for its brightness. denoise: the picture beneath the noise."""

    strength: Strength | None = None
    """vary, restyle, inpaint: how far to go from the picture; 1 starts from nothing but noise.
    0.7 to vary, 0.8 to restyle, 1 to inpaint if it is not given."""

    factor: Annotated[int | None, Field(ge=FACTORS[0], le=FACTORS[-1]), WHOLE] = None
    """upscale: 2 (if it is not given) or 4. The picture may have the model's size divided by it."""

    noise: Annotated[float | None, Field(ge=0, le=1, examples=[0.1])] = None
    """denoise: the noise's standard deviation, where black is 0 and white is 1. Estimated if it
    is not given."""

    left: Margin = None
    """outpaint: what to add, in per cent of the width. 25 on each side if none is given."""

    top: Margin = None
    """outpaint: what to add, in per cent of the height."""

    right: Margin = None
    """outpaint: what to add, in per cent of the width."""

    bottom: Margin = None
    """outpaint: what to add, in per cent of the height."""

    size: Annotated[int | None, Field(ge=1, examples=[128]), WHOLE] = None
    """Pixels along the longer side of the answer, which has the upload's aspect. Without it,
    inpaint and outpaint keep the upload's own pixels, upscale multiplies them, and the others
    answer in the model's own size."""

    background: Background | None = None
    """What lies behind: "transparent" (not for jpeg), "white", or a colour such as #ff8800. Without
    it, what could be seen through still can be, and an opaque picture stays opaque."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.operation]

    def drawing(self) -> Drawing:
        """What it has in common with pictures from a prompt."""
        return Drawing(
            prompt=self.prompt,
            model=self.model,
            steps=self.kind.steps if self.steps is None else self.steps,
            guidance=self.guidance,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            size=self.size,
            background=self.background or "white",
            quality=self.quality,
        )

    def wish(self, form: Form) -> Wish:
        """What is to be done with the form's pictures. Raises `ApiError`."""
        try:
            return Wish(
                operation=self.operation,
                image=form.file("image"),
                mask=form.optional_file("mask"),
                prompt=self.prompt,
                strength=self.strength,
                factor=self.factor,
                noise=self.noise,
                left=self.left,
                top=self.top,
                right=self.right,
                bottom=self.bottom,
            )
        except Misfit as error:
            raise invalid(error.field, str(error)) from error


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
    client: Asker,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Makes pictures of a picture, with the same model, in the same batches.

    The answer shows the frame of the upload. inpaint and outpaint answer in the upload's own size,
    and every pixel that was not to be made anew is the upload's, exactly (in a PNG, with the
    background that it has by default). The model sees the upload scaled to its own size;
    `X-Tessera-Fitted` says how. Answers as `POST /v1/images` does, but has no address.
    """
    fields = form.fields(TransformForm, files=tuple(each.name for each in UPLOADS))
    wish = fields.wish(form)
    answer = negotiate(accept, fields.format, fields.n)
    settings = services.settings
    checkpoint, _ = find_model(fields.model, services.engine.checkpoints, settings.model_aliases)
    check_can(checkpoint.spec, fields.operation)
    order = take_order(
        fields.drawing(),
        engine=services.engine,
        settings=settings,
        seed=fields.seed,
        n=fields.n,
        format=answer.format,
        keeps_alpha=fields.kind.keeps,
    )
    order = await transformed(
        order,
        fields.operation,
        partial(wish.prepare, most_pixels=services.intake.most_pixels),
        size=fields.size,
        own_background=fields.background is None,
        intake=services.intake,
        hold=form.hold,
    )
    return await reply(
        order,
        answer,
        previews=fields.previews,
        request=request,
        services=services,
        client=client,
    )
