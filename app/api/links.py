"""The address of a picture: everything that it depends on, and nothing that is the default."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from fastapi import Request

from app.api.fields import ImageQuery
from app.api.orders import Order
from app.settings import Settings

IMAGES = "/v1/images"
LONGEST_HEADER = 2048
"""Bytes that an address may have as a header."""

PINNED_DIGEST = 12
"""Characters of the digest in an address that pins its model."""


def path_of(order: Order, index: int = 0, *, pin: bool = False) -> str:
    """The address of picture ``index`` on this service, which gives the same bytes.

    Pinned, it names the model's digest: it never comes to mean another model's picture.
    """
    request, spec, encoding = order.request, order.spec, order.encoding
    model = f"{request.model}@{spec.digest[:PINNED_DIGEST]}" if pin else request.model
    given = {
        "prompt": (request.prompt, ""),
        "model": (model, None),
        "steps": (request.steps, spec.steps.default),
        "guidance": (request.guidance, spec.guidance.default),
        "size": (encoding.size, spec.size),
        "background": (encoding.background, ImageQuery.model_fields["background"].default),
        "quality": (encoding.quality, ImageQuery.model_fields["quality"].default),
    }
    query = {name: value for name, (value, default) in given.items() if value != default}
    return f"{IMAGES}/{order.seed(index)}.{encoding.format}?{urlencode(query, quote_via=quote)}"


def url_of(path: str, request: Request, settings: Settings) -> str:
    """The address with the host: the public one, else the one that the request named."""
    base = settings.public_url or request.base_url
    return str(base).rstrip("/") + path
