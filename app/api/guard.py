"""Who may come in: decided from the head of a request, before anything of its body is read."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import ApiError, quoted
from app.api.keys import Keyring
from app.api.links import IMAGES
from app.api.signing import Signer
from app.metrics import Metrics
from app.settings import Settings

CLIENT = "client"
"""Where the scope's state holds the `Client`."""

_PICTURE = re.compile(rf"{IMAGES}/.+\.[^/]+", re.DOTALL)


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


Asker = Annotated[Client, Depends(client_of)]
"""A route's parameter of this type is who asks."""


class Guard:
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
        self._check_host(headers.get("host", ""))
        address = (scope.get("client") or ("unknown", 0))[0]
        path: str = scope["path"]
        open_to_all = not any(path == each or path.startswith(f"{each}/") for each in self._locked)
        query = scope["query_string"].decode("latin-1")
        if "signature=" in query and self._signer and _PICTURE.fullmatch(path):
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
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdecimal() else host
        for pattern in self._hosts:
            if name.lower() == pattern or (pattern[:2] == "*." and name.endswith(pattern[1:])):
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


def signer_of(settings: Settings) -> Signer | None:
    """What signs addresses, if there is a secret to sign with."""
    secret = settings.url_secret
    return None if secret is None else Signer(secret.get_secret_value())
