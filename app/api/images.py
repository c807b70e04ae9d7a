"""``POST /v1/images`` and the addresses of pictures, ``GET /v1/images/{seed}.{format}``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, Field, ValidationError

from app.api.answers import (
    EventStream,
    base64_of,
    event,
    order_headers,
    picture_response,
    timing_header,
)
from app.api.errors import ApiError, ErrorAnswer, invalid, of_validation
from app.api.fields import ImageQuery, ImagesBody
from app.api.guard import Asker, Client
from app.api.links import path_of
from app.api.negotiation import EVENTS, negotiate
from app.api.openapi import event_stream, query_parameters
from app.api.orders import Order, take_order
from app.api.presence import while_connected
from app.api.seeds import LONGEST, seed_of
from app.api.services import Services, Shared
from app.api.studio import Draft, File
from app.engine import Job, Progress
from app.pictures import MEDIA_TYPES, Format

router = APIRouter(tags=["images"])

A_YEAR = 365 * 24 * 3600


class Image(BaseModel):
    """One picture of an answer."""

    index: int = Field(description="Its place among the n that were asked for.", examples=[0])
    seed: int = Field(description="The seed that gives it alone.", examples=[7])
    format: Format
    size: int = Field(description="Pixels along each side.", examples=[64])
    url: str = Field(description="Its address, which gives the same bytes.")
    b64_json: str = Field(description="The file, in base64.")


class Images(BaseModel):
    """The answer in JSON."""

    created: int = Field(description="Seconds since 1970.", examples=[1780000000])
    model: str = Field(examples=["emoji-flow"])
    numerics: str = Field(description="Names all that may change bits.", examples=["3f9a0c1be2d4"])
    prompt: str = Field(examples=["red apple, fluent 3d style"])
    images: list[Image]


class ProgressEvent(BaseModel):
    """Event ``progress``: picture ``index`` has done ``step`` of ``steps``."""

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


_EVENTS: dict[str, type[BaseModel]] = {
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    "image": Image,
    "done": DoneEvent,
    "error": ErrorAnswer,
}

_PICTURES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in MEDIA_TYPES.values()
}


@router.post(
    "/v1/images",
    response_class=Response,
    responses={
        200: {
            "model": Images,
            "description": "The picture, or JSON, or events, as Accept asks.",
            "content": {**_PICTURES, EVENTS: event_stream(_EVENTS)},
        },
        406: {"model": ErrorAnswer, "description": "Accept and format contradict each other."},
    },
)
async def draw(
    body: ImagesBody,
    request: Request,
    services: Shared,
    client: Asker,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draws pictures from a prompt or a seed.

    Answers with the picture itself where one was asked for and Accept allows it; else with JSON,
    or with the events `progress`, `preview`, `image` and `done`.
    """
    answer = negotiate(accept, body.format, body.n)
    order = take_order(
        body,
        engine=services.engine,
        settings=services.settings,
        seed=body.seed,
        n=body.n,
        format=answer.format,
    )
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    match answer.kind:
        case "picture":
            file = await _file(order, request, services, client)
            return picture_response(order, file, headers)
        case "json":
            files = await while_connected(request, services.studio.files(order, client))
            page = _page(order, files, request, services)
            headers |= {**order_headers(order), **timing_header(files)}
            return Response(page.model_dump_json(), media_type="application/json", headers=headers)
        case "events":
            job = await services.studio.submit(order, client, previews=body.previews)
            events = _events(order, job, request, services)
            return EventStream(job, events, order_headers(order) | headers)


async def read_query(request: Request) -> ImageQuery:
    """The query, refused where it could be read in two ways: no UTF-8, or a repetition.

    Read here rather than by FastAPI, which looks at every field's type anew for each request:
    that took half of the time of a 304.
    """
    for part in ("raw_path", "query_string"):
        try:
            unquote_to_bytes(request.scope[part]).decode()
        except UnicodeDecodeError:
            raise ApiError(400, "the address is not UTF-8", code="invalid_address") from None
    given = request.query_params.multi_items()
    fields = dict(given)
    if len(fields) < len(given):
        names = [name for name, _ in given]
        repeated = next(name for name in names if names.count(name) > 1)
        raise invalid(repeated, "is given more than once", code="repeated_parameter")
    try:
        return ImageQuery.model_validate(fields)
    except ValidationError as error:
        errors = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise of_validation(errors) from error


_ADDRESS: dict[str, Any] = {
    "response_class": Response,
    "openapi_extra": {"parameters": query_parameters(ImageQuery)},
    "responses": {
        200: {"description": "The picture.", "content": _PICTURES},
        304: {"description": "The copy named in If-None-Match is still right."},
    },
}


@router.get("/v1/images/{seed:path}.{format}", **_ADDRESS)
@router.head("/v1/images/{seed:path}.{format}", include_in_schema=False, **_ADDRESS)
async def picture(
    seed: Annotated[
        str,
        Path(
            min_length=1,
            max_length=LONGEST,
            description="An integer, or any string, which stands for one.",
            examples=["7"],
        ),
    ],
    format: Annotated[Format, Path()],  # noqa: A002 - the name in the address
    query: Annotated[ImageQuery, Depends(read_query)],
    request: Request,
    services: Shared,
    client: Asker,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture as an address: the same bytes as the POST of the same request."""
    order = take_order(
        query,
        engine=services.engine,
        settings=services.settings,
        seed=seed_of(seed),
        format=format,
        numerics=query.numerics,
    )
    headers = {"ETag": order.etag, "Cache-Control": _cache_control(order, client, services)}
    if services.settings.api_keys:
        headers["Vary"] = "Authorization"
    if if_none_match is not None and _matches(order.etag, if_none_match):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        media_type = MEDIA_TYPES[format]
        return Response(media_type=media_type, headers=order_headers(order) | headers)
    file = await _file(order, request, services, client)
    return picture_response(order, file, headers)


async def _file(order: Order, request: Request, services: Services, client: Client) -> File:
    kept = services.studio.kept(order)
    if kept is not None:
        return kept
    return await while_connected(request, services.studio.file(order, client))


def _matches(etag: str, if_none_match: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in given or "*" in given


def _cache_control(order: Order, client: Client, services: Services) -> str:
    """For everyone, unless a key opened it; no longer than a signature holds."""
    scope = "public" if client.key is None else "private"
    seconds = A_YEAR if order.pinned else services.settings.link_max_age
    if client.expires is not None:
        seconds = min(seconds, max(0, client.expires - int(time.time())))
    return f"{scope}, max-age={seconds}" + (", immutable" if order.pinned else "")


def _page(order: Order, files: list[File], request: Request, services: Services) -> Images:
    return Images(
        created=int(time.time()),
        model=order.spec.id,
        numerics=order.numerics,
        prompt=order.request.prompt,
        images=[_image(order, file, request, services) for file in files],
    )


def _image(order: Order, file: File, request: Request, services: Services) -> Image:
    return Image(
        index=file.index,
        seed=order.seed(file.index),
        format=order.encoding.format,
        size=order.encoding.size,
        url=services.links.url(path_of(order, file.index), request),
        b64_json=base64_of(file.body),
    )


async def _events(
    order: Order, job: Job, request: Request, services: Services
) -> AsyncIterator[bytes]:
    async for each in services.studio.events(order, job):
        match each:
            case Progress(index=index, step=step, steps=steps):
                yield event("progress", ProgressEvent(index=index, step=step, steps=steps))
            case Draft(index=index, step=step, steps=steps, body=body):
                preview = PreviewEvent(
                    index=index,
                    step=step,
                    steps=steps,
                    format=order.encoding.format,
                    b64_json=base64_of(body),
                )
                yield event("preview", preview)
            case File():
                yield event("image", _image(order, each, request, services))
    yield event("done", DoneEvent(images=order.request.n))
