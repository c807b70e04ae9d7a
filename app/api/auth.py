"""Who may come in: decided from the head of a request, before anything of its body is read.

API keys are known by their SHA-256 only, and by a name that logs and metrics may show.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import ApiError
from app.api.signing import IMAGES, Signer, signer_of
from app.generation.resolve import quoted
from app.metrics import Metrics
from app.settings import Settings

CLIENT = "client"
"""Where the scope's state holds the `Client`."""

_ASKED_BY_ADDRESS = {"/livez", "/readyz", "/metrics"}
"""What balancers and monitoring ask by whatever name or address the machine has."""

_SIGNED = re.compile(r"(?:^|&)signature=")
_IMAGE = re.compile(rf"{IMAGES}/.+\.[^/]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, and by what right."""

    id: str  # the key's name or the address: what rate limits count by
    key: str | None = None  # the key's name
    expires: int | None = None  # of the signed address that was used, seconds since 1970


async def client_of(request: Request) -> Client:
    found = request.scope["state"][CLIENT]
    assert isinstance(found, Client)
    return found


Caller = Annotated[Client, Depends(client_of)]
"""A route's parameter of this type is who asks."""


def hash_key(key: str) -> str:
    """What `TESSERA_API_KEYS` holds of a key. Keys are long and random: no salt, no stretching."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


class Keyring:
    """The keys that open the service; none at all opens it to everyone."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name: digest.lower() for name, digest in hashes.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Takes the same time for every wrong key."""
        given = hash_key(key)
        found = None
        for name, digest in self._hashes.items():
            if hmac.compare_digest(digest, given):
                found = name
        return found


class Auth:
    """Pure ASGI middleware: trusted hosts, then a key or a signed address where keys are set."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = Keyring(settings.api_keys)
        self._signer = signer_of(settings)
        self._hosts = settings.trusted_hosts
        self._locked = ["/v1"]
        if settings.metrics_access == "key":
            self._locked.append("/metrics")
        if settings.docs_access == "key":
            self._locked.append("/openapi.json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})[CLIENT] = self._admit(scope)
            except ApiError as error:
                self._metrics.refused(error.code)
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Client:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if path not in _ASKED_BY_ADDRESS:
            self._check_host(headers.get("host", ""))
        address = (scope.get("client") or ("unknown", 0))[0]
        open_to_all = not any(path == each or path.startswith(f"{each}/") for each in self._locked)
        query = scope["query_string"].decode("latin-1")
        if _SIGNED.search(query) and self._signer and _IMAGE.fullmatch(path):
            return Client(address, expires=self._check_signature(path, query, self._signer))
        scheme, _, key = headers.get("authorization", "").partition(" ")
        name = self._keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is not None:
            return Client(f"key:{name}", key=name)
        if not self._keys or open_to_all:
            return Client(address)
        if key:
            message = "the API key in the Authorization header is not known here"
        else:
            message = "an API key is needed, in the header Authorization: Bearer …"
        challenge = {"WWW-Authenticate": "Bearer"}
        raise ApiError(401, message, code="invalid_api_key", headers=challenge)

    def _check_host(self, host: str) -> None:
        # Not starlette's TrustedHostMiddleware: it answers in plain text, not in our error shape.
        name = (host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdecimal() else host).lower()
        for pattern in map(str.lower, self._hosts):
            if name == pattern or (pattern[:2] == "*." and name.endswith(pattern[1:])):
                return
        if self._hosts:
            message = f"Host: {quoted(host)} was named, this service has other names"
            raise ApiError(400, message, code="untrusted_host", param="Host")

    @staticmethod
    def _check_signature(path: str, query: str, signer: Signer) -> int:
        expires = signer.expiry(path, query)
        if expires is None:
            message = "signature: is not that of this address"
            raise ApiError(403, message, code="invalid_signature", param="signature")
        if expires < time.time():
            raise ApiError(403, "expires: is over", code="expired", param="expires")
        return expires
