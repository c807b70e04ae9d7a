"""``POST /v1/images/describe``: what a picture shows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.answers import server_timing
from app.api.errors import ApiError, invalid
from app.api.fields import Fields, Text
from app.api.forms import Sent
from app.api.guard import Asker
from app.api.openapi import Upload, form_body
from app.api.orders import check_prompt, find_model
from app.api.presence import while_connected
from app.api.services import Shared
from app.api.transforming import opened
from app.engine import ImageRequest, NotReady
from app.settings import Settings
from app.uploads.prepare import shown
from model.checkpoint import Checkpoint

router = APIRouter(tags=["images"])

MOST_LABELS = 64

UPLOADS = (
    Upload("image", "The picture: PNG, JPEG, WebP or GIF (its first frame), of any size.", True),
)


class DescribeForm(Fields):
    """The texts of the form."""

    labels: Annotated[Text, Field(examples=["cat\ndog\nred apple"])] = ""
    """What to choose from: one label on each line, or one line with commas between; at most 64.
    Without it, the model chooses from the captions that it was trained on."""

    model: Annotated[str | None, Field(max_length=200, examples=["emoji-gpt"])] = None
    """A model's id, which may be pinned as id@digest. Without it, the first that can describe."""

    def choices(self) -> tuple[str, ...]:
        """The labels, each once. Raises `ApiError` where there are too many."""
        lines = self.labels.strip().splitlines()
        parts = lines[0].split(",") if len(lines) == 1 else lines
        labels = tuple(dict.fromkeys(part for each in parts if (part := each.strip())))
        if len(labels) > MOST_LABELS:
            raise invalid("labels", f"{len(labels)} were given, at most {MOST_LABELS} are accepted")
        return labels


class LabelAnswer(BaseModel):
    """A label, and how probable it is among those that stand with it."""

    label: str = Field(examples=["red apple, noto style"])
    probability: float = Field(examples=[0.93])


class DescriptionAnswer(BaseModel):
    """What a picture shows."""

    model: str = Field(examples=["emoji-gpt"])
    numerics: str = Field(description="Names all that may change the answer.")
    caption: str = Field(description="The model's own words.", examples=["red apple, noto style"])
    labels: list[LabelAnswer] = Field(
        description="The most probable first. Probabilities are among these: they sum to 1."
    )


@router.post("/v1/images/describe", openapi_extra=form_body(DescribeForm, UPLOADS))
async def describe(
    form: Sent, request: Request, response: Response, services: Shared, client: Asker
) -> DescriptionAnswer:
    """Describes a picture: a caption, and which labels fit it best.

    Equal pictures have equal descriptions. The model sees the upload scaled to its own size.
    """
    fields = form.fields(DescribeForm, files=tuple(each.name for each in UPLOADS))
    image = form.file("image")
    engine = services.engine
    checkpoint = _describer(fields.model, engine.checkpoints, services.settings)
    spec, labels = checkpoint.spec, fields.choices()
    for label in labels:
        check_prompt(label, checkpoint, services.settings, field="labels")
    loaded = engine.models.get(spec.id)
    if loaded is None:
        raise NotReady("the models are still loading; /readyz tells when they are")
    prepared = await opened(
        partial(shown, image, most_pixels=services.intake.most_pixels), spec, services.intake
    )
    asked = ImageRequest(
        model=spec.id,
        prompt="",
        seed=0,
        n=1,
        steps=int(spec.steps.default),
        guidance=1.0,
        solver=spec.solver,
        operation="describe",
        source=prepared.source,
        labels=labels,
    )
    described = await while_connected(request, services.studio.describe(asked, client))
    timings, found = described.timings, described.description
    response.headers.update(server_timing(queue=timings.queue, compute=timings.compute))
    response.headers["Cache-Control"] = "no-store"
    return DescriptionAnswer(
        model=spec.id,
        numerics=loaded.numerics,
        caption=found.caption,
        labels=[LabelAnswer(label=one.text, probability=one.probability) for one in found.labels],
    )


def _describer(
    name: str | None, checkpoints: Mapping[str, Checkpoint], settings: Settings
) -> Checkpoint:
    """The model that is meant, or the first that can. Raises `ApiError`."""
    can = [each for each in checkpoints.values() if "describe" in each.spec.operations]
    if name is None and can:
        return can[0]
    if name is None:
        message = f"no model here can describe; there are {', '.join(checkpoints)}"
        raise ApiError(404, message, code="model_not_found", param="model")
    checkpoint, _ = find_model(name, checkpoints, settings.model_aliases)
    if checkpoint not in can:
        others = ", ".join(each.spec.id for each in can) or "none of those that are loaded"
        raise invalid("model", f"{checkpoint.spec.id} cannot describe; {others} can")
    return checkpoint
