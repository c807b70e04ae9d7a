"""``Prefer: respond-async`` (RFC 7240): 202 and the addresses, at which the images will be.

For images that take longer to draw than a balancer waits. Nothing is stored: an address joins the
drawing, or finds the image in memory, and draws it anew where it is in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any
from urllib.request import parse_http_list

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, Field, WithJsonSchema

from app.api.auth import Client
from app.api.deps import Services, while_connected
from app.api.responses import JSON, LONGEST_LOCATION, generation_headers
from app.generation.resolve import Generation


class PendingImage(BaseModel):
    """An image that is being drawn."""

    index: int = Field(description="Its position among the n that were asked for.", examples=[0])
    seed: int = Field(description="The seed that gives it alone.", examples=[7])
    url: str = Field(description="Where it can be fetched.")


class Accepted(BaseModel):
    """The answer to `Prefer: respond-async`."""

    model: str = Field(examples=["emoji-flow"])
    numerics: str = Field(description="Names all that may change bits.", examples=["3f9a0c1be2d4"])
    images: list[PendingImage]


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": schema or {"type": "string"}}


ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Accepted,
        "description": "Drawing goes on without the client, as Prefer asked.",
        "headers": {
            "Location": _header(
                "The address of a single image; that of a longer one is in the body."
            ),
            "Retry-After": _header("Seconds until it is worth asking again.", type="integer"),
            "Preference-Applied": _header("respond-async"),
        },
    }
}
"""What the document says of routes that answer with `respond_later`."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client prefers, of what is known here."""

    respond_async: bool = False
    wait: float = 0.0  # seconds for which the client waits before it would rather have a 202


DESCRIPTION = (
    "`respond-async`: answer 202 at once where the image has to be drawn, and draw it for those "
    "who ask for its address. `respond-async, wait=20`: only if it takes longer than that."
)
"""Of the header ``Prefer``."""


async def preferences(
    prefer: Annotated[
        list[str] | None,
        WithJsonSchema({"type": "string"}),
        Header(
            description=DESCRIPTION,
            examples=["respond-async"],
        ),
    ] = None,
) -> Preferences:
    """Reads the header; what is not understood is ignored, as RFC 7240 wants it."""
    given: dict[str, str] = {}
    for preference in parse_http_list(",".join(prefer or ())):
        name, _, value = preference.partition(";")[0].partition("=")
        given.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = given.get("wait", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else 0.0
    return Preferences("respond-async" in given, seconds)


Preferred = Annotated[Preferences, Depends(preferences)]
"""A route's parameter of this type is what the client prefers."""


async def respond_later(
    preferred: Preferences,
    generation: Generation,
    address: Callable[[int], str],
    *,
    request: Request,
    services: Services,
    client: Client,
) -> Response | None:
    """202, and the drawing goes on; None where the request is answered as always.

    That is where it is not preferred, where nothing has to be drawn, and where the images would
    have no room in memory: they would be drawn for nothing. ``address`` gives that of an image by
    its index.

    Raises `ApiError` and `EngineError` for what is refused, as without the preference.
    """
    if not preferred.respond_async or not services.images.can_keep(generation):
        return None
    if not await services.begin(generation, client):
        return None
    if preferred.wait:
        seconds = min(preferred.wait, services.settings.request_timeout)
        waiting = services.images.unattended.wait(generation.requests, seconds)
        if await while_connected(request, waiting):
            return None
    numerics = services.images.numerics(generation.spec)
    headers = {
        **generation_headers(generation, services),
        "Cache-Control": "no-store",
        "Preference-Applied": "respond-async",
        "Retry-After": str(ceil(services.engine.seconds_left)),
    }
    headers.pop("Content-Location", None)  # is where this very answer would be
    addresses = [address(index) for index in range(generation.files)]
    if len(addresses) == 1 and len(addresses[0]) <= LONGEST_LOCATION:
        headers["Location"] = addresses[0]
    seeds = [each.seed for each in generation.requests]
    page = Accepted(
        model=generation.spec.id,
        numerics=numerics,
        images=[
            PendingImage(index=index, seed=seeds[index], url=url)
            for index, url in enumerate(addresses)
        ],
    )
    return Response(page.model_dump_json(), 202, headers, JSON)
