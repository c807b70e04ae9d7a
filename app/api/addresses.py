"""An image is a URL: ``GET /v1/images/{seed}.{format}``, cached by whoever stands between."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import ValidationError

from app.api.answers import PICTURE_CONTENT, order_headers, picture_response
from app.api.errors import ApiError, invalid, of_validation
from app.api.fields import ImageQuery
from app.api.guard import Asker, Client
from app.api.openapi import query_parameters
from app.api.orders import Order, take_order
from app.api.seeds import LONGEST, seed_of
from app.api.services import Services, Shared
from app.pictures import MEDIA_TYPES, Format

router = APIRouter(tags=["images"])

A_YEAR = 365 * 24 * 3600


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
        200: {"description": "The picture.", "content": PICTURE_CONTENT},
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
    file = await services.file(order, request, client)
    return picture_response(order, file, headers)


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
