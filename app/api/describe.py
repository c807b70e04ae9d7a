"""``POST /v1/images/describe``: what a picture shows, in words."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.auth import Caller, Client
from app.api.deps import Services, Shared, while_connected
from app.api.openapi import UploadField, form_body
from app.api.responses import server_timing
from app.api.schemas import Fields, Text
from app.api.uploads import Sent
from app.generation.resolve import find_describer, resolve_description
from app.generation.service import Described
from model.request import ImageRequest

router = APIRouter(tags=["images"])

UPLOADS = (
    UploadField(
        "image", "The picture: PNG, JPEG, WebP, AVIF or GIF (its first frame), of any size.", True
    ),
)


class DescribeForm(Fields):
    """The texts of the form."""

    labels: Annotated[Text, Field(examples=["cat\ndog\nred apple"])] = ""
    """What to choose from: one label on each line, or one line with commas between; at most 64.
    Without it, the model chooses from the captions that it was trained on."""

    model: Annotated[str | None, Field(max_length=200, examples=["emoji-gpt"])] = None
    """A model's id, which may be pinned as id@digest. Without it, the first that can describe."""

    def choices(self) -> tuple[str, ...]:
        """The labels, each once."""
        lines = self.labels.strip().splitlines()
        parts = lines[0].split(",") if len(lines) == 1 else lines
        return tuple(dict.fromkeys(label for part in parts if (label := part.strip())))


class LabelAnswer(BaseModel):
    """A label, and how probable it is among those that stand with it."""

    label: str = Field(examples=["red apple, noto style"])
    probability: float = Field(examples=[0.93])


class DescriptionAnswer(BaseModel):
    """What a picture shows."""

    model: str = Field(examples=["emoji-gpt"])
    numerics: str = Field(description="Names all that may change the answer.")
    caption: str = Field(
        description="The model's own words. Empty where it has none, as for one plain colour: the "
        "labels then still say which fits best.",
        examples=["red apple, noto style"],
    )
    labels: list[LabelAnswer] = Field(
        description="The most probable first. Probabilities are among these: they sum to 1."
    )


@router.post("/v1/images/describe", openapi_extra=form_body(DescribeForm, UPLOADS))
async def describe(
    form: Sent, request: Request, response: Response, services: Shared, client: Caller
) -> DescriptionAnswer:
    """Describes a picture: a caption, and which labels fit it best.

    Equal pictures have equal descriptions. The model sees the upload scaled to its own size.
    """
    fields = form.fields(DescribeForm, UPLOADS, services)
    settings = services.settings
    checkpoint = find_describer(fields.model, services.engine.checkpoints, settings.model_aliases)
    numerics = services.images.numerics(checkpoint.spec)
    wanted = await services.decoded(
        resolve_description, form.file("image"), fields.choices(), checkpoint, settings
    )
    cost = checkpoint.evaluations(wanted)
    described = await while_connected(request, _describe(wanted, cost, services, client))
    timings, found = described.timings, described.description
    response.headers.update(server_timing(queue=timings.queue, compute=timings.compute))
    response.headers["Cache-Control"] = "no-store"
    return DescriptionAnswer(
        model=checkpoint.spec.id,
        numerics=numerics,
        caption=found.caption,
        labels=[
            LabelAnswer(label=label.text, probability=label.probability) for label in found.labels
        ],
    )


async def _describe(
    wanted: ImageRequest, cost: int, services: Services, client: Client
) -> Described:
    await services.rate_limit.check(client, cost)
    async with services.images.submit_description(wanted) as job:
        await services.charge(client, cost, job)
        return await services.images.described(job)
