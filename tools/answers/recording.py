"""Asks a service, and keeps of its answers what must not change."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image, ImageSequence

from tools.answers.all_requests import (
    FLOW,
    GAN,
    GPT,
    addresses,
    descriptions,
    drawings,
    of_openai,
    streams,
    transforms,
)
from tools.answers.request import EVENTS, JSON, Request, generations, get

REQUESTS = 60
TIMEOUT = 600.0
"""Seconds for one answer; the service itself gives up sooner."""

VOLATILE = frozenset({"created", "created_at", "timings"})
"""Keys of JSON answers whose values tell the time."""

COALESCED = frozenset({"progress"})
"""Events of which a reader may see fewer, by chance."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of an answer. ``contents`` explain the hash, and are not compared themselves."""

    request: str
    status: int
    content_type: str
    sha256: str
    contents: Any  # JSON: what is hashed, or what can be seen in an image


class Recorder:
    """Asks a service, one request at a time, and keeps what it answers by the requests' names."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.answers: dict[str, Answer] = {}
        self.complaints: list[str] = []

    def ask(self, request: Request) -> httpx.Response:
        """Sends a request. Raises ``httpx.HTTPError`` where there is no answer."""
        if request.name in self.answers:
            raise ValueError(f"two requests are named {request.name}")
        response = request.send(self._client)
        answer = answer_of(request, response)
        self.answers[request.name] = answer
        if response.status_code != httpx.codes.OK:
            self._complain(request, f"status {response.status_code}: {response.text[:300]}")
        elif answer.content_type == EVENTS:
            names = {event["event"] for event in answer.contents}
            if "error" in names:
                self._complain(request, "the stream ended with an error")
            elif request.previews and not any("preview" in n or "partial" in n for n in names):
                self._complain(request, "came without previews: start the service again")
        return response

    def _complain(self, request: Request, what: str) -> None:
        self.complaints.append(f"{request.name}: {what}")


def record(base_url: str) -> Recorder:
    """Sends all requests. Raises ``httpx.HTTPError`` where there is no answer."""
    with httpx.Client(base_url=base_url, timeout=TIMEOUT, trust_env=False) as client:
        recorder = Recorder(client)
        models = recorder.ask(get("models", "/v1/models")).raise_for_status().json()["data"]
        if any(model["numerics"] is None for model in models):
            raise NotReady("the models are still loading; /readyz tells when they are")
        digests = {model["id"]: model["digest"] for model in models}
        if absent := {FLOW, GPT, GAN} - digests.keys():
            raise NotReady(f"the service has no {', '.join(sorted(absent))}")
        asked = generations(
            "openai-url", prompt="penguin", response_format="url", quality="low", seed=87
        )
        linked = recorder.ask(asked).raise_for_status().json()["data"][0]["url"]
        recorder.ask(get("openai-url-fetched", without_host(linked)))
        for request in (
            *drawings(),
            *addresses(digests),
            *transforms(),
            *descriptions(),
            *of_openai(),
            *streams(),
        ):
            recorder.ask(request)
    if len(recorder.answers) != REQUESTS:
        raise AssertionError(f"{len(recorder.answers)} requests were sent, not {REQUESTS}")
    return recorder


class NotReady(Exception):
    """The service cannot be recorded; ``str()`` says why."""


def answer_of(request: Request, response: httpx.Response) -> Answer:
    """What is to be kept of an answer."""
    content_type = response.headers.get("content-type", "").partition(";")[0]
    if content_type == JSON:
        contents: Any = lasting(response.json())
        digest = sha256(canonical(contents))
    elif content_type == EVENTS:
        contents = sorted(events(response.text), key=canonical)
        digest = sha256(canonical(contents))
    else:
        contents = seen(response.content)
        digest = sha256(response.content)
    return Answer(request.curl, response.status_code, content_type, digest, contents)


def events(text: str) -> Iterator[dict[str, Any]]:
    """The events of a stream that do not depend on how fast it was read."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = "message", []
        for line in block.splitlines():
            key, _, value = line.partition(":")  # a comment has no key
            if key == "event":
                name = value.strip()
            elif key == "data":
                data.append(value.removeprefix(" "))
        if data and name not in COALESCED:
            yield {"event": name, "data": lasting(json.loads("\n".join(data)))}


def lasting(value: Any, key: str = "") -> Any:
    """A JSON value without what changes from time to time, its images by their hashes."""
    match value:
        case dict():
            return {
                name: lasting(each, name) for name, each in value.items() if name not in VOLATILE
            }
        case list():
            return [lasting(each) for each in value]
        case str() if key == "url":
            return without_host(value)
        case str() if key == "b64_json":
            return seen(base64.b64decode(value))
    return value


def seen(file: bytes) -> dict[str, object]:
    """An image's hash, and what explains it: the pixels alone have a hash of their own."""
    about: dict[str, object] = {"sha256": sha256(file)}
    try:
        with Image.open(BytesIO(file)) as image:
            pixels = hashlib.sha256()
            frames = 0
            for frame in ImageSequence.Iterator(image):
                pixels.update(f"{frame.info.get('duration')}".encode())
                pixels.update(frame.convert("RGBA").tobytes())
                frames += 1
            about |= {
                "format": image.format,
                "size": f"{image.width}x{image.height}",
                "mode": image.mode,
                "frames": frames,
                "pixels": pixels.hexdigest(),
            }
    except OSError:
        about["format"] = None  # no image
    return about


def without_host(url: str) -> str:
    """Path and query of an address."""
    return urlsplit(url)._replace(scheme="", netloc="").geturl()


def canonical(value: Any) -> str:
    """The one way to write a JSON value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def sha256(data: str | bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
