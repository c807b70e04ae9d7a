"""Requests that are recorded, and the short ways to write them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

import httpx

JSON = "application/json"
EVENTS = "text/event-stream"

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form."""

    file: str  # its name
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request. It has a JSON body, or a form of texts and files, or neither."""

    name: str
    method: str
    path: str
    body: Fields | None = None
    texts: Fields = field(default_factory=dict)
    files: Sequence[tuple[str, Upload]] = ()
    accept: str | None = None
    previews: bool = False  # whether its answer must show images on their way

    def send(self, client: httpx.Client) -> httpx.Response:
        """The answer, read as fast as it comes. Raises ``httpx.HTTPError``."""
        return client.request(
            self.method,
            self.path,
            json=self.body,
            data={name: str(value) for name, value in self.texts.items()},
            files=[(name, (one.file, one.body, one.media_type)) for name, one in self.files],
            headers={"accept": self.accept} if self.accept else {},
        )

    @property
    def curl(self) -> str:
        """The same for a person to read, nearly as a command for a shell."""
        words = ["curl", "-X", self.method, f"BASE{self.path}"]
        if self.accept:
            words += ["-H", f"accept: {self.accept}"]
        if self.body is not None:
            words += [
                "-H",
                f"content-type: {JSON}",
                "-d",
                json.dumps(self.body, ensure_ascii=False),
            ]
        for name, value in self.texts.items():
            words += ["-F", f"{name}={value}"]
        for name, upload in self.files:
            words += ["-F", f"{name}=@{upload.file}"]
        return shlex.join(words)


def get(name: str, path: str) -> Request:
    """A request for an address."""
    return Request(name, "GET", path)


def address(name: str, seed: int | str, suffix: str, **query: object) -> Request:
    """A request for the address of an image."""
    path = f"/v1/images/{quote(str(seed), safe='')}.{suffix}"
    return get(name, f"{path}?{urlencode(query, quote_via=quote)}")


def draw(name: str, *, accept: str | None = None, **body: object) -> Request:
    """A request to ``POST /v1/images``."""
    return Request(name, "POST", "/v1/images", body=body, accept=accept)


def form(
    name: str,
    path: str,
    *files: tuple[str, Upload],
    accept: str | None = None,
    **texts: object,
) -> Request:
    """A request with uploads."""
    return Request(name, "POST", path, texts=texts, files=files, accept=accept)


def transform(
    name: str,
    operation: str,
    image: Upload,
    *,
    mask: Upload | None = None,
    accept: str | None = None,
    **texts: object,
) -> Request:
    """A request to ``POST /v1/images/transform``."""
    files = [("image", image)] + ([("mask", mask)] if mask else [])
    path = "/v1/images/transform"
    return form(name, path, *files, accept=accept, operation=operation, **texts)


def generations(name: str, **body: object) -> Request:
    """A request to OpenAI's ``POST /v1/images/generations``."""
    return Request(name, "POST", "/v1/images/generations", body=body)


def previewed(request: Request) -> Request:
    """The same request, whose answer must show images on their way."""
    return replace(request, previews=True)
