"""Did any image change? Records what a service answers to 60 requests, and compares two records.

    python tools/answers.py record http://127.0.0.1:8000 before.json
    python tools/answers.py record http://127.0.0.1:8000 after.json
    python tools/answers.py compare before.json after.json

The requests go through every route that answers with images or describes one, and every model
that ships. Each names its seed, and its upload is drawn here, so that the same code on the same
machine answers with the same bytes.

Record a service that has just been started. One that drew an image before answers from memory,
which gives the same image but no previews of it.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import hashlib
import json
import random
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
from PIL import Image, ImageDraw, ImageSequence

REQUESTS = 60
TIMEOUT = 600.0
"""Seconds for one answer; the service itself gives up sooner."""

JSON = "application/json"
EVENTS = "text/event-stream"

VOLATILE = frozenset({"created", "created_at", "timings"})
"""Keys of JSON answers whose values tell the time."""

COALESCED = frozenset({"progress"})
"""Events of which a reader may see fewer, by chance."""

FLOW, GPT, GAN = "emoji-flow", "emoji-gpt", "emoji-gan"

Fields = Mapping[str, object]


# What is asked ------------------------------------------------------------------------------------


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


# Images that are uploaded -------------------------------------------------------------------------


def encoded(file: str, image: Image.Image) -> Upload:
    """An image as a file, of the kind that its name says."""
    written = BytesIO()
    if file.endswith(".jpg"):
        image.save(written, "JPEG", quality=95)
        return Upload(file, written.getvalue(), "image/jpeg")
    image.save(written, "PNG")
    return Upload(file, written.getvalue(), "image/png")


def gradient(width: int, height: int) -> Image.Image:
    """An opaque ground of which no two corners are alike."""
    down = Image.linear_gradient("L")
    across = down.transpose(Image.Transpose.ROTATE_90)
    bands = (down, across, down.transpose(Image.Transpose.ROTATE_180))
    return Image.merge("RGB", [band.resize((width, height)) for band in bands])


def shapes(ground: Image.Image) -> Image.Image:
    """A red disc with a leaf and a half transparent bar, on any ground."""
    width, height = ground.size
    above = Image.new("RGBA", ground.size)
    pen = ImageDraw.Draw(above)
    pen.ellipse((width // 6, height // 4, 5 * width // 6, 11 * height // 12), (214, 40, 40, 255))
    leaf = [(width // 2, height // 4), (2 * width // 3, height // 12), (width // 2, height // 8)]
    pen.polygon(leaf, (46, 140, 60, 255))
    pen.rectangle((width // 3, height // 2, width // 2, 3 * height // 4), (250, 220, 90, 128))
    mixed = Image.alpha_composite(ground.convert("RGBA"), above)
    return mixed if ground.mode == "RGBA" else mixed.convert(ground.mode)


def noisy(image: Image.Image, spread: int) -> Image.Image:
    """The image with even noise, at most ``spread`` to either side."""
    noise = random.Random(spread).randbytes(len(image.tobytes()))
    pairs = zip(image.tobytes(), noise, strict=True)
    changed = bytes(
        min(255, max(0, value + one * (2 * spread + 1) // 256 - spread)) for value, one in pairs
    )
    return Image.frombytes(image.mode, image.size, changed)


@dataclass(frozen=True, slots=True)
class Uploads:
    """All of them. The models draw 64 × 64 pixels; most uploads are larger."""

    wide: Upload  # RGBA, transparent around the thing
    tall: Upload  # RGB
    square: Upload  # RGB, a JPEG
    exact: Upload  # RGBA, as large as the models' own images
    small: Upload  # RGBA, can be upscaled twice
    tiny: Upload  # RGB, can be upscaled four times
    flat: Upload  # RGB, a thing on plain white
    noisy: Upload  # RGB
    holed: Upload  # RGBA, opaque but for a hole
    wide_mask: Upload  # RGBA, as large as ``wide``, transparent where it marks
    square_mask: Upload  # L, as large as ``square``, white where it marks
    square_clear_mask: Upload  # RGBA, as large as ``square``, transparent where it marks


@cache
def uploads() -> Uploads:
    """Draws them."""
    holed = shapes(gradient(150, 150)).convert("RGBA")
    ImageDraw.Draw(holed).rectangle((20, 70, 90, 130), (0, 0, 0, 0))
    wide_mask = Image.new("RGBA", (200, 130), "black")
    ImageDraw.Draw(wide_mask).rectangle((100, 20, 170, 100), (0, 0, 0, 0))
    square_mask = Image.new("L", (128, 128))
    ImageDraw.Draw(square_mask).ellipse((30, 50, 110, 120), 255)
    square_clear_mask = Image.new("RGBA", (128, 128), "white")
    ImageDraw.Draw(square_clear_mask).ellipse((10, 10, 70, 90), (0, 0, 0, 0))
    return Uploads(
        wide=encoded("wide.png", shapes(Image.new("RGBA", (200, 130)))),
        tall=encoded("tall.png", shapes(gradient(97, 161))),
        square=encoded("square.jpg", shapes(gradient(128, 128))),
        exact=encoded("exact.png", shapes(Image.new("RGBA", (64, 64)))),
        small=encoded("small.png", shapes(Image.new("RGBA", (32, 24)))),
        tiny=encoded("tiny.png", shapes(gradient(16, 16))),
        flat=encoded("flat.png", shapes(Image.new("RGB", (120, 90), "white"))),
        noisy=encoded("noisy.png", noisy(shapes(Image.new("RGB", (80, 64), "white")), 40)),
        holed=encoded("holed.png", holed),
        wide_mask=encoded("wide-mask.png", wide_mask),
        square_mask=encoded("square-mask.png", square_mask),
        square_clear_mask=encoded("square-clear-mask.png", square_clear_mask),
    )


# The requests -------------------------------------------------------------------------------------


APPLE, CAT = "red apple, fluent 3d style", "猫，noto 风格"


def drawings() -> list[Request]:
    """``POST /v1/images``, of every model."""
    last = 2**53 - 2  # the third image from here has seed 0
    return [
        draw("flow-defaults", seed=11),
        draw("flow-prompt", prompt=APPLE, seed=7, steps=8),
        draw("flow-chinese", prompt=CAT, seed=12, steps=8),
        draw(
            "flow-string-seed-webp-transparent",
            prompt="robot",
            seed="ada",
            size=128,
            format="webp",
            background="transparent",
            steps=6,
        ),
        draw(
            "flow-jpeg-colour-quality",
            prompt="fox, noto style",
            seed=13,
            format="jpeg",
            background="#ff8800",
            quality=35,
            guidance=7.5,
            steps=6,
        ),
        draw("flow-short-colour-small", seed=14, background="#08f", size=24, steps=4),
        draw(
            "flow-unguided-accept-webp",
            accept="image/webp",
            prompt="rocket, noto style",
            seed=15,
            guidance=1,
            quality=100,
            steps=5,
        ),
        draw("flow-json-last-seeds", accept=JSON, prompt=APPLE, seed=last, n=3, steps=4),
        draw("gpt-prompt", model=GPT, prompt=APPLE, seed=21),
        draw("gpt-no-prompt-webp", model=GPT, seed="grace", format="webp", size=96, quality=60),
        draw(
            "gpt-likeliest-transparent",
            model=GPT,
            prompt="penguin, noto style",
            seed=22,
            temperature=0,
            background="transparent",
        ),
        draw(
            "gpt-free-chinese",
            model=GPT,
            prompt=CAT,
            seed=23,
            temperature=1.2,
            top_k=40,
            top_p=0.8,
            guidance=4,
        ),
        draw("gpt-json-jpeg", model=GPT, prompt="sunflower", seed=24, n=2, format="jpeg"),
        draw("gan-prompt-transparent", model=GAN, prompt=APPLE, seed=31, background="transparent"),
        draw("gan-no-prompt-webp", model=GAN, seed="Zoë", format="webp", background="1a2b3c"),
        draw("gan-chinese-jpeg-large", model=GAN, prompt=CAT, seed=32, format="jpeg", size=200),
        draw("gan-json", model=GAN, prompt="guitar, fluent 3d style", seed=33, n=4),
        draw("walk-flow-webp", prompt=APPLE, seed=41, walk=4, steps=4),
        draw(
            "walk-gan-png-transparent",
            model=GAN,
            prompt="cactus, noto style",
            seed=42,
            walk=8,
            format="png",
            background="transparent",
        ),
        draw("walk-gan-json", accept=JSON, model=GAN, seed=54, walk=12, format="webp", size=80),
    ]


def addresses(digests: Mapping[str, str]) -> list[Request]:
    """``GET /v1/images/{seed}.{format}``. ``digests`` are the models', by id."""
    return [
        address("address-png", 7, "png", prompt="hot beverage, fluent 3d style", steps=6),
        address(
            "address-string-seed-transparent",
            "ada",
            "webp",
            prompt="robot, noto style",
            size=128,
            background="transparent",
            steps=4,
        ),
        address("address-chinese-seed", "小猫", "png", prompt=CAT, guidance=3.5, steps=5),
        address("address-jpeg", 51, "jpeg", background="#336699", quality=70, steps=4),
        address(
            "address-gpt-sampling",
            52,
            "png",
            model=GPT,
            prompt="guitar",
            temperature=0.9,
            top_k=100,
            top_p=0.9,
        ),
        address("address-gan-pinned", 53, "png", model=f"{GAN}@{digests[GAN]}", prompt="sunflower"),
        address("address-walk-gan", 54, "webp", model=GAN, walk=10),
        address(
            "address-walk-flow-pinned",
            55,
            "png",
            model=f"{FLOW}@{digests[FLOW][:12]}",
            prompt="fox",
            walk=3,
            steps=3,
            size=48,
        ),
    ]


def transforms() -> list[Request]:
    """``POST /v1/images/transform``, every operation."""
    files = uploads()
    return [
        transform("vary-wide", "vary", files.wide, seed=61, steps=8),
        transform(
            "vary-exact-jpeg", "vary", files.exact, strength=0.3, format="jpeg", seed=62, steps=8
        ),
        transform("restyle", "restyle", files.tall, prompt="red apple, noto style", seed=63),
        transform(
            "restyle-json",
            "restyle",
            files.wide,
            accept=JSON,
            prompt=APPLE,
            strength=0.5,
            n=2,
            size=100,
            seed=64,
            steps=6,
        ),
        transform(
            "inpaint-white-mask",
            "inpaint",
            files.square,
            mask=files.square_mask,
            prompt="red apple",
            seed=65,
            steps=6,
        ),
        transform(
            "inpaint-transparent-mask-webp",
            "inpaint",
            files.wide,
            mask=files.wide_mask,
            prompt=APPLE,
            strength=0.6,
            format="webp",
            seed=66,
            steps=8,
        ),
        transform("inpaint-transparent-image", "inpaint", files.holed, seed="hole", steps=6),
        transform(
            "inpaint-gpt",
            "inpaint",
            files.square,
            mask=files.square_mask,
            model=GPT,
            prompt="red apple, noto style",
            temperature=0.7,
            seed=67,
        ),
        transform("outpaint", "outpaint", files.exact, prompt=APPLE, seed=68, steps=6),
        transform(
            "outpaint-margins",
            "outpaint",
            files.tall,
            left=40,
            top=10,
            background="#fed",
            size=180,
            seed=69,
            steps=6,
        ),
        transform("upscale-2", "upscale", files.small, factor=2, prompt=APPLE, seed=70, steps=8),
        transform("upscale-4", "upscale", files.tiny, factor=4, seed=71, steps=6),
        transform("colorize", "colorize", files.square, prompt="red apple", seed=72, steps=8),
        transform("denoise-told", "denoise", files.noisy, noise=0.1, steps=4, seed=73),
        transform("denoise-estimated", "denoise", files.noisy, seed=74, background="transparent"),
    ]


def descriptions() -> list[Request]:
    """``POST /v1/images/describe``."""
    path, files = "/v1/images/describe", uploads()
    labels = "red apple, noto style\ncat\n猫\nstrawberry, fluent 3d style"
    return [
        form("describe", path, ("image", files.flat)),
        form("describe-labels", path, ("image", files.wide), labels=labels, model=GPT),
    ]


def of_openai() -> list[Request]:
    """OpenAI's routes, but for streams and addresses."""
    files, edits = uploads(), "/v1/images/edits"
    return [
        generations("openai-low", prompt=APPLE, n=2, quality="low", seed=81),
        generations(
            "openai-high-transparent-webp",
            prompt="rocket, noto style",
            quality="high",
            background="transparent",
            size="96x96",
            output_format="webp",
            output_compression=50,
            response_format="b64_json",
            seed=82,
        ),
        form(
            "openai-edit-mask",
            edits,
            ("image", files.square),
            ("mask", files.square_clear_mask),
            prompt="green apple",
            quality="low",
            seed=83,
        ),
        form(
            "openai-edit-faithful",
            edits,
            ("image", files.wide),
            prompt="red apple, noto style",
            input_fidelity="high",
            background="opaque",
            output_format="jpeg",
            steps=6,
            seed=84,
        ),
        form(
            "openai-edit-several",
            edits,
            *(("image[]", one) for one in (files.exact, files.tall, files.wide)),
            prompt="red apple, noto style",
            size="128x128",
            steps=6,
            seed=85,
        ),
        form(
            "openai-edit-several-mask",
            edits,
            ("image", files.wide),
            ("image", files.square),
            ("mask", files.wide_mask),
            prompt="red apple",
            n=2,
            steps=5,
            seed=86,
        ),
        form(
            "openai-variation",
            "/v1/images/variations",
            ("image", files.tall),
            quality="low",
            background="transparent",
            seed="another",
        ),
    ]


def streams() -> list[Request]:
    """Events of both kinds. No other request may want these images, see the module."""
    files = uploads()
    return [
        previewed(
            draw("stream-flow", accept=EVENTS, prompt=APPLE, seed=91, n=2, steps=6, previews=True)
        ),
        previewed(
            draw(
                "stream-gpt",
                accept=EVENTS,
                model=GPT,
                prompt="penguin, fluent 3d style",
                seed=92,
                format="webp",
                previews=True,
            )
        ),
        previewed(
            transform(
                "stream-outpaint",
                "outpaint",
                files.wide,
                accept=EVENTS,
                prompt=APPLE,
                seed=93,
                steps=5,
                previews="true",
            )
        ),
        previewed(
            generations(
                "openai-stream",
                prompt="cactus, noto style",
                stream=True,
                partial_images=2,
                quality="low",
                seed=94,
            )
        ),
        previewed(
            form(
                "openai-edit-stream",
                "/v1/images/edits",
                ("image", files.square),
                ("mask", files.square_clear_mask),
                prompt="red apple",
                stream="true",
                partial_images=2,
                steps=6,
                seed=95,
            )
        ),
    ]


# What is answered ---------------------------------------------------------------------------------


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
    match content_type:
        case "application/json":
            contents: Any = lasting(response.json())
            digest = sha256(canonical(contents))
        case "text/event-stream":
            contents = sorted(events(response.text), key=canonical)
            digest = sha256(canonical(contents))
        case _:
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


# What differs -------------------------------------------------------------------------------------


COMPARED = ("status", "content_type", "sha256", "request")
SHOWN = 20
"""Characters of a value in the table: enough to see it. Requests stand below it in full."""

Record = Mapping[str, Mapping[str, Any]]


def differences(one: Record, other: Record) -> Iterator[tuple[str, str, str, str]]:
    """Name of the request, what of it differs, and both values."""
    for name in dict.fromkeys((*one, *other)):
        if name not in one or name not in other:
            first, second = ("yes" if name in each else "no" for each in (one, other))
            yield name, "recorded", first, second
            continue
        for what in COMPARED:
            values = [each[name].get(what) for each in (one, other)]
            if values[0] != values[1]:
                first, second = (str(value)[:SHOWN] for value in values)
                yield name, what, first, second


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows below each other, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)


def explained(name: str, one: Record, other: Record) -> str:
    """How the contents of two answers, or their requests, differ, line by line."""
    texts = [
        json.dumps(
            {key: each[name].get(key) for key in ("contents", "request")},
            ensure_ascii=False,
            indent=1,
            sort_keys=True,
        )
        for each in (one, other)
    ]
    before, after = (text.splitlines() for text in texts)
    changed = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    lines = [f"    {line}" for line in changed]
    if one[name]["sha256"] != other[name]["sha256"] and pixels(one[name]) == pixels(other[name]):
        lines.append("    The pixels are equal: only what the file says of itself has changed.")
    return "".join(f"{line}\n" for line in (name, *lines))


def pixels(answer: Mapping[str, Any]) -> object:
    """What of an answer that is an image depends on its pixels; no two others are equal in it."""
    contents = answer.get("contents")
    return contents.get("pixels", object()) if isinstance(contents, Mapping) else object()


def report(one: Record, other: Record) -> tuple[str, bool]:
    """What there is to say of two records, and whether they are equal."""
    rows = list(differences(one, other))
    bad = [name for name, answer in one.items() if answer["status"] != httpx.codes.OK]
    note = f"A has errors in place of {', '.join(bad)}.\n" if bad else ""
    if not rows:
        return f"All {len(one)} answers are equal.\n{note}", True
    names = list(dict.fromkeys(row[0] for row in rows))
    changed = list(dict.fromkeys(row[0] for row in rows if row[1] in ("sha256", "request")))
    text = table([("request", "differs in", "A", "B"), *rows])
    text += "".join(f"\n{explained(name, one, other)}" for name in changed)
    total = len({*one, *other})
    return f"{text}\n{len(names)} of {total} answers differ.\n{note}", False


# The commands -------------------------------------------------------------------------------------


def main(arguments: Iterable[str] | None = None) -> int:
    """Exit status 1: something differs, or was not answered as it should be. 2: misused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="ask a running service")
    recording.add_argument("base_url", metavar="BASE_URL", help="e.g. http://127.0.0.1:8000")
    recording.add_argument("out", metavar="OUT.json", type=Path)
    comparing = commands.add_parser("compare", help="tell what differs")
    comparing.add_argument("records", metavar="RECORD.json", type=Path, nargs=2)
    given = parser.parse_args(None if arguments is None else list(arguments))
    if given.command == "record":
        return write_record(given.base_url, given.out)
    try:
        one, other = (read_record(path) for path in given.records)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    text, equal = report(one, other)
    sys.stdout.write(text)
    return 0 if equal else 1


def read_record(path: Path) -> Record:
    """What `write_record` wrote. Raises ``OSError``, or ``ValueError`` where it did not."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or not kept:
        raise ValueError(f"{path} is no record")
    return kept


def write_record(base_url: str, out: Path) -> int:
    """Asks everything and writes a file. The exit status."""
    try:
        recorder = record(base_url)
    except (httpx.HTTPError, NotReady) as error:
        sys.stderr.write(f"{base_url}: {error}\n")
        return 1
    kept = {name: asdict(answer) for name, answer in recorder.answers.items()}
    out.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write("".join(f"{complaint}\n" for complaint in recorder.complaints))
    sys.stdout.write(f"{len(kept)} answers are in {out}.\n")
    return 1 if recorder.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
