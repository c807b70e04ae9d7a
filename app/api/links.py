"""The address of a picture: everything that it depends on, and nothing that is the default."""

from __future__ import annotations

import time
from urllib.parse import quote, urlencode

from fastapi import Request

from app.api.fields import ImageQuery
from app.api.orders import Order
from app.api.signing import Signer
from app.settings import Settings

IMAGES = "/v1/images"
LONGEST_HEADER = 2048
"""Bytes that an address may have as a header."""

PINNED_DIGEST = 12
"""Characters of the digest in an address that pins its model."""


def path_of(order: Order, index: int = 0, *, pin: bool = False) -> str:
    """The address of picture ``index`` of an addressable order, which gives the same bytes.

    Pinned, it names the model's digest: it never comes to mean another model's picture.
    """
    request, spec, encoding = order.request, order.spec, order.encoding
    model = f"{request.model}@{spec.digest[:PINNED_DIGEST]}" if pin else request.model
    given: dict[str, tuple[object, object]] = {
        "prompt": (request.prompt, ""),
        "model": (model, None),
        "walk": (request.n if order.walk else None, None),
        "steps": (request.steps, spec.steps.default),
        "guidance": (request.guidance, spec.guidance.default),
        "size": (encoding.width, spec.size),
        "background": (encoding.background, ImageQuery.model_fields["background"].default),
        "quality": (encoding.quality, ImageQuery.model_fields["quality"].default),
    }
    if request.sampling is not None and spec.tokens is not None:
        for name in ("temperature", "top_k", "top_p"):
            default = getattr(spec.tokens, name).default
            given[name] = (getattr(request.sampling, name), default)
    query = {name: value for name, (value, default) in given.items() if value != default}
    return f"{IMAGES}/{order.seed(index)}.{encoding.format}?{urlencode(query, quote_via=quote)}"


class Links:
    """Addresses to give away: with a host, and signed where only keys open the service."""

    def __init__(self, settings: Settings, signer: Signer | None) -> None:
        self._base = settings.public_url
        self._signer = signer if settings.api_keys else None
        self._lifetime = settings.signed_url_seconds

    def url(self, path: str, request: Request) -> str:
        """Begins with the public address of the service, else with the host that was asked."""
        if self._signer is not None:
            path = self._signer.sign(path, int(time.time()) + self._lifetime)
        return str(self._base or request.base_url).rstrip("/") + path
