"""What ``POST /v1/images`` answers with where it is not a picture: JSON, or events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from app.api.answers import base64_of, event
from app.api.errors import ErrorAnswer
from app.api.links import path_of
from app.api.orders import Order
from app.api.studio import Draft, File
from app.engine import Progress
from app.pictures import Format


class Image(BaseModel):
    """One picture of an answer."""

    index: int = Field(description="Its place among the n that were asked for.", examples=[0])
    seed: int = Field(description="The seed that gives it alone.", examples=[7])
    format: Format
    width: int = Field(description="Pixels.", examples=[64])
    height: int = Field(description="Pixels.", examples=[64])
    url: str | None = Field(
        description="Its address, which gives the same bytes; null where a picture was uploaded."
    )
    b64_json: str = Field(description="The file, in base64.")


class Images(BaseModel):
    """The answer in JSON."""

    created: int = Field(description="Seconds since 1970.", examples=[1780000000])
    model: str = Field(examples=["emoji-flow"])
    numerics: str = Field(description="Names all that may change bits.", examples=["3f9a0c1be2d4"])
    prompt: str = Field(examples=["red apple, fluent 3d style"])
    fitted: str | None = Field(
        description="How the model saw a picture that was uploaded, where it was resampled.",
        examples=["640x480 -> 64x48"],
    )
    images: list[Image]


class ProgressEvent(BaseModel):
    """Event ``progress``: picture (or frame of a walk) ``index`` has done ``step`` of ``steps``."""

    index: int
    step: int
    steps: int


class PreviewEvent(ProgressEvent):
    """Event ``preview``: and looks like this."""

    format: Format
    b64_json: str


class DoneEvent(BaseModel):
    """Event ``done``, the last one."""

    images: int = Field(description="How many pictures were sent.")


EVENTS: dict[str, type[BaseModel]] = {
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    "image": Image,
    "done": DoneEvent,
    "error": ErrorAnswer,
}
"""The events of a stream, by name; an error is the last one."""


@dataclass(frozen=True, slots=True)
class Album:
    """The pictures of one order. ``url`` makes an address of a path."""

    order: Order
    url: Callable[[str], str]

    def image(self, file: File) -> Image:
        """One picture, with all that is to be said of it."""
        order = self.order
        return Image(
            index=file.index,
            seed=order.seed(file.index),
            format=order.encoding.format,
            width=order.encoding.width,
            height=order.encoding.height,
            url=self.url(path_of(order, file.index)) if order.addressable else None,
            b64_json=base64_of(file.body),
        )

    def page(self, files: Sequence[File]) -> Images:
        """All pictures at once."""
        order = self.order
        return Images(
            created=int(time.time()),
            model=order.spec.id,
            numerics=order.numerics,
            prompt=order.request.prompt,
            fitted=order.fitted,
            images=[self.image(file) for file in files],
        )

    async def events(
        self, happening: AsyncIterator[Progress | Draft | File]
    ) -> AsyncIterator[bytes]:
        """Each thing as it happens, then ``done``."""
        async for each in happening:
            match each:
                case Progress(index=index, step=step, steps=steps):
                    yield event("progress", ProgressEvent(index=index, step=step, steps=steps))
                case Draft(index=index, step=step, steps=steps, body=body):
                    preview = PreviewEvent(
                        index=index,
                        step=step,
                        steps=steps,
                        format=self.order.encoding.format,
                        b64_json=base64_of(body),
                    )
                    yield event("preview", preview)
                case File():
                    yield event("image", self.image(each))
        yield event("done", DoneEvent(images=self.order.files))
