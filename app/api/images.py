"""Images from a prompt or a seed: by ``POST /v1/images``, and as an address."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field, ValidationError

from app.api.auth import Caller, Client, client_of
from app.api.deps import Services, Shared, services_of
from app.api.errors import ApiError, invalid, of_validation
from app.api.openapi import parameters_in
from app.api.preferences import ACCEPTED, DESCRIPTION, Preferred, preferences, respond_later
from app.api.responses import (
    IMAGE_CONTENT,
    RESPONSES,
    generation_headers,
    image_response,
    negotiate,
    respond,
)
from app.api.schemas import LONGEST_SEED, Fields, FileFormat, ImageQuery, ImagesBody
from app.api.signing import Address, path_of
from app.generation.output import ANIMATED, MEDIA_TYPES
from app.generation.resolve import quoted, resolve, seed_of

router = APIRouter(tags=["images"])


class Undeclared(APIRoute):
    """A route whose function reads the request itself, and says in ``openapi_extra`` what it reads.

    FastAPI looks at parameters anew for each request: that takes most of the time of a 304 where
    there are some, and a tenth of it where there are none.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


addresses = APIRouter(tags=["images"], route_class=Undeclared)

A_YEAR = 365 * 24 * 3600

LONGEST_REMEMBERED = 2048
"""Bytes of an address. A walk's has a request for each frame: those and longer ones are read anew,
so that a thousand take a few megabytes."""


@router.post("/v1/images", response_class=Response, responses=RESPONSES | ACCEPTED)
async def draw(
    body: ImagesBody,
    request: Request,
    services: Shared,
    client: Caller,
    preferred: Preferred,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draws images from a prompt or a seed.

    Answers with the image itself where one was asked for and Accept allows it; else with JSON, or
    with the events `progress`, `preview`, `image` and `done`.
    """
    services.check_names(body)
    possible = ANIMATED if body.walk else tuple(MEDIA_TYPES)
    answer = negotiate(accept, body.format, body.n, possible)
    wanted = body.wanted(format=answer.format, seed=body.seed, n=body.n)
    generation = resolve(wanted, services.checkpoint(body.model), services.settings)
    if answer.kind != "events":  # which begin at once
        later = await respond_later(
            preferred,
            generation,
            lambda index: services.links.url(path_of(generation, index), request),
            request=request,
            services=services,
            client=client,
        )
        if later is not None:
            return later
    return await respond(
        generation,
        answer,
        previews=body.previews,
        request=request,
        services=services,
        client=client,
    )


class ImagePath(Fields):
    """The path of an image's address."""

    seed: Annotated[str, Field(min_length=1, max_length=LONGEST_SEED, examples=["7"])]
    """An integer, or any string, which stands for one."""

    format: FileFormat
    """File format."""


def read_address(request: Request) -> tuple[ImagePath, ImageQuery]:
    """An image's address, refused where it could be read in two ways: no UTF-8, or a repetition."""
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
        path = ImagePath.model_validate(request.path_params)
        return path, ImageQuery.model_validate(fields)
    except ValidationError as error:
        errors = [{**problem, "loc": ("address", *problem["loc"])} for problem in error.errors()]
        raise of_validation(errors) from error


def addressed(request: Request, services: Services) -> Address:
    """What the request's address means; remembered, as the same ones are asked for again and again.

    Raises `ApiError` and `InvalidField`.
    """
    key = (request.scope["raw_path"], request.scope["query_string"])
    known = services.addresses.get(key)
    if known is not None:
        spec = known.generation.spec
        served = services.engine.checkpoints.get(spec.id)
        if served is not None and served.spec is spec:  # a reload opens all folders anew
            return known
    path, query = read_address(request)
    services.check_names(query)
    checkpoint, pinned = services.find(query.model)
    wanted = query.wanted(format=path.format, seed=seed_of(path.seed))
    generation = resolve(wanted, checkpoint, services.settings)
    address = Address(generation, pinned, query.numerics)
    if not generation.walk and sum(map(len, key)) <= LONGEST_REMEMBERED:
        services.addresses[key] = address
    return address


_ADDRESS: dict[str, Any] = {
    "response_class": Response,
    "openapi_extra": {
        "parameters": [
            *parameters_in("path", ImagePath),
            *parameters_in("query", ImageQuery),
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            {
                "name": "Prefer",
                "in": "header",
                "description": DESCRIPTION,
                "schema": {"type": "string"},
            },
        ]
    },
    "responses": {
        200: {"description": "The image.", "content": IMAGE_CONTENT},
        **ACCEPTED,
        304: {"description": "The copy named in If-None-Match is still right."},
    },
}


@addresses.get("/v1/images/{seed:path}.{format}", **_ADDRESS)
@addresses.head("/v1/images/{seed:path}.{format}", include_in_schema=False, **_ADDRESS)
async def image(request: Request) -> Response:
    """An image as an address: the same bytes as the POST of the same request."""
    services, client = await services_of(request), await client_of(request)
    address = addressed(request, services)
    generation = address.generation
    numerics = services.images.numerics(generation.spec)
    if address.numerics not in (None, numerics):
        message = f"{quoted(address.numerics)} was asked for, this service has {numerics}"
        raise ApiError(404, f"numerics: {message}", code="not_loaded", param="numerics")
    immutable = address.pinned or address.numerics is not None
    etag = services.images.etag(generation)
    headers = {"ETag": etag, "Cache-Control": _cache_control(immutable, client, services)}
    if services.settings.api_keys:
        headers["Vary"] = "Authorization"
    if _matches(etag, ",".join(request.headers.getlist("If-None-Match"))):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        headers |= generation_headers(generation, services)
        response = Response(media_type=MEDIA_TYPES[generation.output.format], headers=headers)
        # Not 0, which is said of nothing; how long the file is, is known once it is drawn.
        del response.headers["content-length"]
        return response
    # No `Vary: Prefer`: a 202 is never kept, and every other answer is the same with and without.
    later = await respond_later(
        await preferences(request.headers.getlist("Prefer")),
        generation,
        lambda _: services.links.asked(request),
        request=request,
        services=services,
        client=client,
    )
    if later is not None:
        return later
    (file,) = await services.files(generation, request, client)
    return image_response(generation, services, file, headers)


def _matches(etag: str, if_none_match: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag.removeprefix("W/") in given or "*" in given


def _cache_control(immutable: bool, client: Client, services: Services) -> str:
    """For everyone, unless a key opened it; no longer than a signature holds."""
    scope = "public" if client.key is None else "private"
    seconds = A_YEAR if immutable else services.settings.link_max_age
    if client.expires is not None:
        seconds = min(seconds, max(0, client.expires - int(time.time())))
    return f"{scope}, max-age={seconds}" + (", immutable" if immutable else "")
