"""The addresses of images: all that they depend on and nothing that is the default, and signatures.

Whoever has a signed address may fetch that image until it expires, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from string import punctuation
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi import Request

from app.api.schemas import ImageQuery
from app.generation.resolve import WHITE, Generation
from app.settings import Settings

IMAGES = "/v1/images"

PINNED_DIGEST = 12
"""Characters of the digest in an address that pins its model."""


@dataclass(frozen=True, slots=True)
class Address:
    """What an address means, as long as its model is the one that is served."""

    generation: Generation
    pinned: bool  # whether it names the model's digest
    numerics: str | None  # what it names of them


def path_of(generation: Generation, index: int = 0, *, pin: bool = False) -> str:
    """The address of image ``index`` of an addressable generation, which gives the same bytes.

    Pinned, it names the model's digest: it never comes to mean another model's image.
    """
    spec, output = generation.spec, generation.output
    request = generation.requests[index]
    query: dict[str, object] = {}
    if request.prompt:
        query["prompt"] = request.prompt
    if request.negative_prompt:
        query["negative_prompt"] = request.negative_prompt
    query["model"] = f"{spec.id}@{spec.digest[:PINNED_DIGEST]}" if pin else spec.id
    if request.lora:
        query["lora"] = request.lora
    if generation.walk:
        query["walk"] = len(generation.requests)
    for parameter in spec.parameters:
        value = dict(request.parameters).get(parameter.name)
        if value is not None and value != parameter.default_for(request.operation):
            query[parameter.name] = int(value) if parameter.whole else value
    if (output.width, output.height) != spec.sizes.native:
        square = output.width == output.height
        query["size"] = output.width if square else f"{output.width}x{output.height}"
    if output.background != WHITE:
        query["background"] = output.background
    if output.quality != ImageQuery.model_fields["quality"].default:
        query["quality"] = output.quality
    if generation.metadata_asked is not None:
        query["metadata"] = generation.metadata_asked
    path = f"{IMAGES}/{request.seed}.{output.format}"
    return f"{path}?{urlencode(query, quote_via=quote)}"


class Signer:
    """HMAC-SHA256 over path and query, in whichever order and spelling the query comes."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, address: str, expires: int) -> str:
        """The address with ``expires`` (seconds since 1970) and ``signature`` added."""
        path, _, query = address.partition("?")
        dated = "&".join(filter(None, (query, f"expires={expires}")))
        return f"{path}?{dated}&signature={self._signature(unquote(path), dated)}"

    def expiry(self, path: str, query: str) -> int | None:
        """When a signed address expires; None if its signature is not ours.

        ``path`` is decoded, ``query`` is not, as in an ASGI scope.
        """
        pairs = parse_qsl(query, keep_blank_values=True)
        given = [value for name, value in pairs if name == "signature"]
        expires = [value for name, value in pairs if name == "expires"]
        if len(given) != 1 or len(expires) != 1 or not expires[0].isdecimal():
            return None
        expected = self._signature(path, query)
        if not hmac.compare_digest(expected.encode(), given[0].encode(errors="replace")):
            return None
        return int(expires[0])

    def _signature(self, path: str, query: str) -> str:
        pairs = [
            pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "signature"
        ]
        message = f"{path}?{urlencode(sorted(pairs))}".encode(errors="replace")
        digest = hmac.digest(self._secret, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def signer_of(settings: Settings) -> Signer | None:
    """What signs addresses, if there is a secret to sign with."""
    secret = settings.url_secret
    return None if secret is None else Signer(secret.get_secret_value())


class Links:
    """Addresses to give away: with a host, and signed where only keys open the service."""

    def __init__(self, settings: Settings) -> None:
        base = settings.public_url
        self._base = None if base is None else str(base).rstrip("/")
        self._prefix = "" if base is None else (base.path or "").rstrip("/")
        self._signer = signer_of(settings) if settings.api_keys else None
        self._lifetime = settings.signed_url_seconds

    def url(self, path: str, request: Request) -> str:
        """Begins with the public address of the service, else with the host that was asked."""
        if self._signer is not None:
            path = self._signer.sign(path, int(time.time()) + self._lifetime)
        return self._absolute(path, request)

    def path(self, path: str) -> str:
        """As clients see it, on the host that they asked."""
        return self._prefix + path

    def asked(self, request: Request) -> str:
        """The address of the request itself: a signature that it has holds no longer for that."""
        path, query = request.scope["raw_path"], request.scope["query_string"]
        address = path + b"?" + query if query else path
        return self._absolute(quote(address, safe=punctuation), request)

    def _absolute(self, path: str, request: Request) -> str:
        return (self._base or str(request.base_url).rstrip("/")) + path
