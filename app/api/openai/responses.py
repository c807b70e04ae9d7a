"""Images as the official client reads them: all at once, or as events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from app.api.auth import Client
from app.api.deps import Services
from app.api.errors import ErrorAnswer
from app.api.openai.schemas import (
    Completed,
    Contract,
    Echo,
    EditCompleted,
    EditPartial,
    Generated,
    GeneratedImage,
    GenerationCompleted,
    GenerationPartial,
    PartialImage,
    Usage,
)
from app.api.responses import JSON, EventStream, base64_of, event, generation_headers, timing_of
from app.engine import Preview, Progress
from app.generation.output import TRANSPARENT
from app.generation.resolve import Generation
from app.generation.service import EncodedPreview, File


@dataclass(frozen=True, slots=True)
class Events:
    """The two events of a route's stream."""

    partial: type[PartialImage]
    completed: type[Completed]

    @property
    def types(self) -> Mapping[str, type[BaseModel]]:
        """By their names, with the error that may be the last."""
        return {
            self.partial.model_fields["type"].default: self.partial,
            self.completed.model_fields["type"].default: self.completed,
            "error": ErrorAnswer,
        }


GENERATION = Events(GenerationPartial, GenerationCompleted)
EDIT = Events(EditPartial, EditCompleted)


async def respond(
    generation: Generation,
    asked: Contract,
    events: Events,
    *,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    """The images in base64, or a stream of them. Raises as `Services.submit` does."""
    headers = generation_headers(generation, services)
    if asked.stream:
        partials = Partials(asked.partial_images or 0)
        job = await services.submit(generation, client, previews=partials.count > 0)
        happened = services.images.events(generation, job, partials.wanted)
        usage, echo = _usage(generation, services), _echo(generation, asked)
        return EventStream(job, _stream(happened, generation, events, echo, usage), headers)
    files = await services.files(generation, request, client)
    images = [
        GeneratedImage(b64_json=base64_of(file.body), seed=generation.requests[file.index].seed)
        for file in files
    ]
    return json_response(generation, asked, images, services, headers | timing_of(files))


def json_response(
    generation: Generation,
    asked: Contract,
    images: list[GeneratedImage],
    services: Services,
    headers: Mapping[str, str],
) -> Response:
    """All images at once."""
    answer = Generated(
        **_echo(generation, asked).model_dump(),
        created=int(time.time()),
        data=images,
        usage=_usage(generation, services),
    )
    body = answer.model_dump_json(exclude_none=True)
    return Response(body, media_type=JSON, headers={**headers, "Cache-Control": "no-store"})


class Partials:
    """Which previews to send, so that ``count`` of them are spread evenly over each image."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._sent: Counter[int] = Counter()

    def wanted(self, preview: Preview) -> bool:
        """Whether the image has come far enough for its next partial; counts it if so."""
        sent = self._sent[preview.index]
        if sent >= self.count or preview.step * (self.count + 1) < preview.steps * (sent + 1):
            return False
        self._sent[preview.index] += 1
        return True


def _usage(generation: Generation, services: Services) -> Usage:
    """The prompt's tokens, and evaluations in place of the images'."""
    checkpoint = services.engine.checkpoints[generation.spec.id]
    return Usage.of(checkpoint.count_tokens(generation.prompt), generation.evaluations)


def _echo(generation: Generation, asked: Contract) -> Echo:
    output = generation.output
    return Echo(
        background="transparent" if output.background == TRANSPARENT else "opaque",
        output_format=output.format,
        quality=asked.effort,
        size=f"{output.width}x{output.height}",
    )


async def _stream(
    happened: AsyncIterator[Progress | EncodedPreview | File],
    generation: Generation,
    events: Events,
    echo: Echo,
    usage: Usage,
) -> AsyncIterator[bytes]:
    """The events of the contract."""
    partials: Counter[int] = Counter()
    async for each in happened:
        if isinstance(each, Progress):
            continue
        common: dict[str, Any] = {
            **echo.model_dump(),
            "created_at": int(time.time()),
            "b64_json": base64_of(each.body),
            "seed": generation.requests[each.index].seed,
        }
        if isinstance(each, EncodedPreview):
            partial = events.partial(**common, partial_image_index=partials[each.index])
            partials[each.index] += 1
            yield event(partial.type, partial)
        else:
            completed = events.completed(**common, usage=usage)
            yield event(completed.type, completed)
