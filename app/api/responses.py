"""How generations are answered: with the image itself, with JSON, or with events."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from app.api.auth import Client
from app.api.deps import Services
from app.api.errors import ApiError, ErrorAnswer, of_engine
from app.api.openapi import event_stream
from app.api.signing import path_of
from app.engine import EngineError, Job, Progress
from app.generation.output import MEDIA_TYPES, SPELLINGS, Format
from app.generation.resolve import Generation, quoted
from app.generation.service import EncodedPreview, File

JSON = "application/json"
EVENTS = "text/event-stream"

LONGEST_LOCATION = 2048
"""Bytes that an address may have as a header."""

SILENCE = 15.0
"""Seconds after which a stream in which nothing happens says so."""


class Image(BaseModel):
    """One image of an answer."""

    index: int = Field(description="Its position among the n that were asked for.", examples=[0])
    seed: int = Field(description="The seed that gives it alone.", examples=[7])
    format: Format
    width: int = Field(description="Pixels.", examples=[64])
    height: int = Field(description="Pixels.", examples=[64])
    url: str | None = Field(
        description="Its address, which gives the same bytes; null where an image was uploaded."
    )
    b64_json: str = Field(description="The file, in base64.")


class Images(BaseModel):
    """The answer in JSON."""

    created: int = Field(description="Seconds since 1970.", examples=[1780000000])
    model: str = Field(examples=["emoji-flow"])
    numerics: str = Field(description="Names all that may change bits.", examples=["3f9a0c1be2d4"])
    prompt: str = Field(examples=["red apple, fluent 3d style"])
    fitted: str | None = Field(
        description="How the model saw an image that was uploaded, where it was resampled.",
        examples=["640x480 -> 64x48"],
    )
    images: list[Image]


class ProgressEvent(BaseModel):
    """Event ``progress``: image (or frame of a walk) ``index`` has done ``step`` of ``steps``."""

    index: int
    step: int
    steps: int


class PreviewEvent(ProgressEvent):
    """Event ``preview``: and looks like this."""

    format: Format
    b64_json: str


class DoneEvent(BaseModel):
    """Event ``done``, the last one."""

    images: int = Field(description="How many images were sent.")


EVENT_TYPES: dict[str, type[BaseModel]] = {
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    "image": Image,
    "done": DoneEvent,
    "error": ErrorAnswer,
}
"""The events of a stream, by name; an error is the last one."""

IMAGE_CONTENT: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in MEDIA_TYPES.values()
}
"""What the document says of answers that are images."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Images,
        "description": "The image, or JSON, or events, as Accept asks.",
        "content": {**IMAGE_CONTENT, EVENTS: event_stream(EVENT_TYPES)},
    },
    406: {"model": ErrorAnswer, "description": "Accept and format contradict each other."},
}
"""What the document says of routes that answer with `respond`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The kind of an answer, and the format of the images in it."""

    kind: Literal["image", "json", "events"]
    format: Format


async def respond(
    generation: Generation,
    answer: Answer,
    *,
    previews: bool,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    """The image itself, JSON, or the events `progress`, `preview`, `image` and `done`."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if answer.kind == "events":
        job = await services.submit(generation, client, previews=previews)
        events = _events(generation, services.images.events(generation, job), request, services)
        return EventStream(job, events, generation_headers(generation, services) | headers)
    files = await services.files(generation, request, client)
    if answer.kind == "image":
        return image_response(generation, services, files[0], headers)
    page = Images(
        created=int(time.time()),
        model=generation.spec.id,
        numerics=services.images.numerics(generation.spec),
        prompt=generation.prompt,
        fitted=fitted(generation),
        images=[_image(generation, file, request, services) for file in files],
    )
    headers |= {**generation_headers(generation, services), **timing_of(files)}
    return Response(page.model_dump_json(), media_type=JSON, headers=headers)


def image_response(
    generation: Generation, services: Services, file: File, headers: dict[str, str]
) -> Response:
    """The image itself. ``headers`` say how long it may be kept."""
    return Response(
        file.body,
        media_type=MEDIA_TYPES[generation.output.format],
        headers={**generation_headers(generation, services), **timing_of([file]), **headers},
    )


def generation_headers(generation: Generation, services: Services) -> dict[str, str]:
    """What an answer says of its generation, whatever its kind. Raises `NotReady`."""
    spec, output = generation.spec, generation.output
    headers = {
        "X-Tessera-Seed": str(generation.requests[0].seed),
        "X-Tessera-Model": f"{spec.id}@{spec.digest[:12]}",
        "X-Tessera-Numerics": services.images.numerics(spec),
    }
    if (how := fitted(generation)) is not None:
        headers["X-Tessera-Fitted"] = how
    if not generation.addressable:
        return headers
    drawn = generation.requests[0]
    if (output.width, output.height) != (drawn.width, drawn.height):
        square = drawn.width == drawn.height
        size = str(drawn.width) if square else f"{drawn.width}x{drawn.height}"
        headers["X-Tessera-Resampled-From"] = size
    if generation.files == 1:
        path = services.links.path(path_of(generation))
        if len(path) <= LONGEST_LOCATION:
            headers["Content-Location"] = path
    return headers


def fitted(generation: Generation) -> str | None:
    """How an upload was resampled for the model, if it was."""
    edit = generation.edit
    return str(edit.fit) if edit is not None and edit.fit.resampled else None


def timing_of(files: Sequence[File]) -> dict[str, str]:
    """The header ``Server-Timing``.

    Images of one answer wait and are computed side by side, but are encoded in turn.
    """
    return server_timing(
        queue=max(file.timings.queue for file in files),
        compute=max(file.timings.compute for file in files),
        encode=sum(file.encode for file in files),
    )


def server_timing(**seconds: float) -> dict[str, str]:
    """The header, of seconds by their names."""
    value = ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in seconds.items())
    return {"Server-Timing": value}


def base64_of(body: bytes) -> str:
    return base64.b64encode(body).decode("ascii")


def event(name: str, data: BaseModel) -> bytes:
    """One server-sent event."""
    return format_sse_event(event=name, data_str=data.model_dump_json())


class EventStream(StreamingResponse):
    """Sends a job's events, and leaves the job when they end or the client has gone.

    A failure after the headers were sent becomes an event named ``error`` with the usual shape.
    While nothing happens a comment is sent now and then, so that proxies keep the connection.
    FastAPI's own event streams, whose format this is, know no job to leave: a client that goes
    while nothing happens would keep its rows in the batch.
    """

    media_type = EVENTS

    def __init__(self, job: Job, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(
            _kept_alive(_ending_in_words(events)),
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers},
        )
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._job:
            await super().__call__(scope, receive, send)


def negotiate(
    accept: str | None,
    format: Format | None,  # noqa: A002 - the field's name
    n: int,
    possible: Sequence[Format] = tuple(MEDIA_TYPES),
) -> Answer:
    """Picks what the client likes best among what can be sent.

    ``format``, where it is given, decides the format of images, else one that is ``possible``.
    ``*/*`` is the image for one, JSON for several, which no image format holds. Raises `ApiError`
    (406).

    By hand, because werkzeug's ``best_match`` lets ``*/*`` bring back a type that was refused with
    ``q=0``, and other parsers are no shorter than this.
    """
    formats = (format,) if format else possible
    offers: dict[str, Answer] = {}
    if n == 1:
        offers |= {MEDIA_TYPES[offer]: Answer("image", offer) for offer in formats}
    offers |= {JSON: Answer("json", formats[0]), EVENTS: Answer("events", formats[0])}

    ranges = _parse(accept or "*/*")
    best = max(offers, key=lambda offer: _quality(ranges, offer))  # the first of equals
    if _quality(ranges, best) <= 0:
        message = f"Accept: {quoted(accept)} was given, this request can be answered with "
        raise ApiError(406, message + ", ".join(offers), code="not_acceptable", param="Accept")
    return offers[best]


def _image(generation: Generation, file: File, request: Request, services: Services) -> Image:
    output = generation.output
    path = path_of(generation, file.index) if generation.addressable else None
    return Image(
        index=file.index,
        seed=generation.requests[file.index].seed,
        format=output.format,
        width=output.width,
        height=output.height,
        url=None if path is None else services.links.url(path, request),
        b64_json=base64_of(file.body),
    )


async def _events(
    generation: Generation,
    events: AsyncIterator[Progress | EncodedPreview | File],
    request: Request,
    services: Services,
) -> AsyncIterator[bytes]:
    """Each event as it happens, then ``done``."""
    async for happened in events:
        match happened:
            case Progress(index=index, step=step, steps=steps):
                yield event("progress", ProgressEvent(index=index, step=step, steps=steps))
            case EncodedPreview(index=index, step=step, steps=steps, body=body):
                preview = PreviewEvent(
                    index=index,
                    step=step,
                    steps=steps,
                    format=generation.output.format,
                    b64_json=base64_of(body),
                )
                yield event("preview", preview)
            case File():
                yield event("image", _image(generation, happened, request, services))
    yield event("done", DoneEvent(images=generation.files))


async def _ending_in_words(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for data in events:
            yield data
    except EngineError as error:
        yield event("error", of_engine(error).body)


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pending: asyncio.Task[bytes] | None = None
    try:
        while True:
            # Waited for, not timed out: a cancelled step would end the iterator.
            pending = pending or asyncio.create_task(anext(events, b""))
            done, _ = await asyncio.wait((pending,), timeout=SILENCE)
            if not done:
                yield KEEPALIVE_COMMENT
                continue
            data = pending.result()
            pending = None
            if not data:
                return
            yield data
    finally:
        if pending is not None:
            pending.cancel()


@dataclass(frozen=True, slots=True)
class _Range:
    """One entry of an Accept header (RFC 9110, 12.5.1)."""

    type: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """How exactly it names a type: 2 in full, 1 for ``image/*``, 0 for ``*/*``; −1 not."""
        main, _, sub = media_type.partition("/")
        if (self.type, self.subtype) == (main, sub):
            return 2
        if (self.type, self.subtype) == (main, "*"):
            return 1
        return 0 if (self.type, self.subtype) == ("*", "*") else -1


def _quality(ranges: list[_Range], media_type: str) -> float:
    """What the most specific range that covers the type says of it; 0 if none does."""
    specificity, quality = max(
        ((entry.specificity(media_type), entry.quality) for entry in ranges), default=(-1, 0.0)
    )
    return quality if specificity >= 0 else 0.0


def _parse(accept: str) -> list[_Range]:
    ranges = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        main, _, sub = media_type.partition("/")
        sub = SPELLINGS.get(sub, sub)
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            ranges.append(_Range(main, sub, float(quality)))
        except ValueError:
            continue  # an unreadable entry accepts nothing
    return ranges
