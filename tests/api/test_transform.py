"""If these fail, a picture that was uploaded becomes something else than was asked for."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app.pictures import read_caption
from app.settings import Settings
from app.uploads import prepare, retouch
from app.uploads.decoding import decode
from tests.api.easel import Easel

SIDE = 16  # of the tiny model
URL = "/v1/images/transform"


def file(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    written = BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


SMALL = file(Image.new("RGB", (4, 4)))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGBA, every byte random, alpha too."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(pixels)


def square(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A mask: white in the box, black around."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def pixels(answer: httpx.Response | bytes) -> NDArray[np.uint8]:
    content = answer if isinstance(answer, bytes) else answer.content
    return np.asarray(Image.open(BytesIO(content)).convert("RGBA"))


async def send(
    client: httpx.AsyncClient,
    image: Image.Image | bytes,
    mask: Image.Image | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    **fields: object,
) -> httpx.Response:
    files = {"image": ("image", image if isinstance(image, bytes) else file(image))}
    if mask is not None:
        files["mask"] = ("mask", mask if isinstance(mask, bytes) else file(mask))
    texts = {name: str(value) for name, value in fields.items()}
    return await client.post(URL, data=texts, files=files, headers=headers)


async def done(*args: Any, **fields: Any) -> httpx.Response:
    answer = await send(*args, **fields)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(
    ("fields", "does", "strength", "steps"),
    [
        ({"operation": "vary"}, "vary", 0.7, 4),
        ({"operation": "vary", "strength": "0.25", "steps": 3}, "vary", 0.25, 3),
        ({"operation": "restyle", "prompt": "red apple"}, "vary", 0.8, 4),
        ({"operation": "colorize"}, "colorize", 1.0, 4),
        ({"operation": "denoise", "noise": 0.1}, "denoise", 1.0, 1),
        ({"operation": "denoise", "steps": 5}, "denoise", 1.0, 5),
        ({"operation": "outpaint"}, "inpaint", 1.0, 4),
    ],
)
async def test_what_the_model_is_asked_for(
    client: httpx.AsyncClient,
    easel: Easel,
    fields: dict[str, object],
    does: str,
    strength: float,
    steps: int,
) -> None:
    await done(client, noise(20, 20), seed=7, n=2, headers={"Accept": "*/*"}, **fields)
    (request,) = easel.submitted
    assert (request.operation, request.steps, request.seed, request.n) == (does, steps, 7, 2)
    source = request.source
    assert source is not None
    assert (source.picture.width, source.picture.height, source.picture.channels) == (SIDE, SIDE, 4)
    assert source.strength == strength
    assert source.noise == (0.1 if "noise" in fields else None)


async def test_a_picture_of_the_model_s_size_reaches_it_as_it_is(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    image = noise(SIDE, SIDE)
    answer = await done(client, image, operation="vary")
    source = easel.submitted[0].source
    assert source is not None
    assert source.picture.pixels == image.tobytes()
    assert "x-tessera-fitted" not in answer.headers


async def test_another_size_is_fitted_and_said(client: httpx.AsyncClient, easel: Easel) -> None:
    blue = Image.new("RGB", (64, 32), "blue")
    answer = await done(client, blue, operation="vary", n=2)
    assert answer.json()["fitted"] == answer.headers["x-tessera-fitted"] == "64x32 -> 16x8"
    assert [(each["width"], each["height"]) for each in answer.json()["images"]] == [(16, 8)] * 2
    source = easel.submitted[0].source
    assert source is not None
    seen = np.frombuffer(source.picture.pixels, np.uint8).reshape(SIDE, SIDE, 4)
    assert (seen[4:12] == (0, 0, 255, 255)).all()
    assert (seen[:4] == 0).all(), "what lies around is clear"


async def test_a_size_is_that_of_the_longer_side(client: httpx.AsyncClient) -> None:
    answer = await done(client, noise(30, 60), operation="colorize", size=100)
    assert pixels(answer).shape == (100, 50, 4)


@pytest.mark.parametrize(("width", "height"), [(SIDE, SIDE), (50, 31), (7, 12), (400, 3)])
@pytest.mark.parametrize("by", ["white", "alpha", "own alpha"])
async def test_outside_the_mask_every_byte_is_the_upload_s(
    client: httpx.AsyncClient, easel: Easel, width: int, height: int, by: str
) -> None:
    box = (width // 4, height // 3, width // 2, height // 2)
    anew = np.asarray(square(width, height, box)) == 255
    before = np.asarray(noise(width, height)).copy()
    before[..., 3] |= 1  # no pixel of it is fully transparent by itself
    mask: Image.Image | None = square(width, height, box)
    if by == "alpha":
        mask = Image.fromarray(np.where(anew, 0, 255).astype(np.uint8)[..., None].repeat(4, 2))
    if by == "own alpha":
        before[anew, 3] = 0
        mask = None
    answer = await done(client, Image.fromarray(before), mask, operation="inpaint", seed=3)
    after = pixels(answer)
    assert (after[~anew] == before[~anew]).all()
    assert (after[anew] != before[anew]).any(axis=1).all()
    source = easel.submitted[0].source
    assert source is not None
    assert source.mask is not None
    assert 0 < np.count_nonzero(np.frombuffer(source.mask, np.uint8)) < SIDE * SIDE


async def test_a_mask_of_one_pixel_is_not_lost(client: httpx.AsyncClient, easel: Easel) -> None:
    await done(client, noise(900, 900), square(900, 900, (5, 5, 5, 5)), operation="inpaint")
    source = easel.submitted[0].source
    assert source is not None
    assert np.count_nonzero(np.frombuffer(source.mask or b"", np.uint8)) >= 1


@pytest.mark.parametrize(
    ("margins", "size", "place"),
    [
        ({}, (60, 30), (10, 5)),
        ({"left": 50}, (60, 20), (20, 0)),
        ({"top": 10, "right": 200, "bottom": 0}, (120, 22), (0, 2)),
    ],
)
async def test_outpainting_keeps_the_upload_in_its_place(
    client: httpx.AsyncClient,
    margins: dict[str, int],
    size: tuple[int, int],
    place: tuple[int, int],
) -> None:
    image = noise(40, 20)
    after = pixels(await done(client, image, operation="outpaint", **margins))
    assert after.shape == (size[1], size[0], 4)
    left, top = place
    assert (after[top : top + 20, left : left + 40] == np.asarray(image)).all()


async def test_upscaling_multiplies_the_upload(client: httpx.AsyncClient, easel: Easel) -> None:
    for factor, width, height in ((2, 8, 8), (2, 5, 3), (4, 4, 1)):
        image = noise(width, height)
        answer = await done(client, image, operation="upscale", factor=factor)
        assert pixels(answer).shape == (factor * height, factor * width, 4)
        source = easel.submitted[-1].source
        assert source is not None
        assert source.picture.width == source.picture.height == SIDE // factor
        assert "x-tessera-fitted" not in answer.headers


async def test_an_answer_has_no_address_and_says_what_was_done(client: httpx.AsyncClient) -> None:
    image = noise(20, 20)
    answer = await done(client, image, operation="restyle", prompt="red apple", seed="ada")
    assert "content-location" not in answer.headers
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    caption = read_caption(answer.content)
    assert caption is not None
    assert (caption.operation, caption.prompt) == ("restyle", "red apple")
    assert answer.headers["x-tessera-seed"] == str(caption.seed)
    listed = await done(client, image, operation="vary", headers={"Accept": "application/json"})
    assert listed.json()["images"][0]["url"] is None


async def test_without_a_seed_it_is_random(client: httpx.AsyncClient) -> None:
    answers = [await done(client, noise(9, 9), operation="vary") for _ in "ab"]
    assert len({answer.headers["x-tessera-seed"] for answer in answers}) == 2


async def test_equal_requests_give_equal_bytes_and_other_uploads_others(
    client: httpx.AsyncClient,
) -> None:
    first = await done(client, noise(20, 20), operation="vary", seed=1)
    assert (await done(client, noise(20, 20), operation="vary", seed=1)).content == first.content
    other = await done(client, noise(20, 20, seed=1), operation="vary", seed=1)
    assert other.content != first.content


async def test_events_show_the_frame_of_the_upload(client: httpx.AsyncClient) -> None:
    answer = await done(
        client,
        noise(48, 24),
        square(48, 24, (4, 4, 8, 8)),
        operation="inpaint",
        previews="true",
        n=2,
        headers={"Accept": "text/event-stream"},
    )
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    told = [(name[7:], json.loads(data[6:])) for name, data in blocks]
    assert {name for name, _ in told} == {"progress", "preview", "image", "done"}
    for name, data in told:
        if name in ("preview", "image"):
            assert pixels(base64.b64decode(data["b64_json"])).shape == (24, 48, 4)


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, "RGBA"),
        ({"format": "webp"}, "RGBA"),
        ({"format": "jpeg"}, "RGB"),
        ({"background": "#f80"}, "RGB"),
        ({"background": "transparent"}, "RGBA"),
    ],
)
async def test_transparency_stays_where_it_can(
    client: httpx.AsyncClient, fields: dict[str, str], mode: str
) -> None:
    for operation in ("vary", "outpaint"):
        answer = await done(client, noise(20, 20), operation=operation, **fields)
        assert Image.open(BytesIO(answer.content)).mode == mode


async def test_an_opaque_picture_stays_opaque(client: httpx.AsyncClient) -> None:
    photograph = noise(20, 20).convert("RGB")
    for operation in ("vary", "outpaint"):
        answer = await done(client, photograph, operation=operation)
        assert Image.open(BytesIO(answer.content)).mode == "RGB"
    hole = square(20, 20, (4, 4, 8, 8))
    answer = await done(client, photograph, hole, operation="inpaint")
    assert (pixels(answer)[..., 3] == 255).all()
    kept = np.asarray(hole) == 0
    assert (pixels(answer)[kept, :3] == np.asarray(photograph)[kept]).all()
    answer = await done(client, photograph, operation="vary", background="transparent")
    assert Image.open(BytesIO(answer.content)).mode == "RGBA"


APPLE: dict[str, object] = {"operation": "restyle", "prompt": "red apple"}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "operation", "is required"),
        ({"operation": "fly"}, "operation", "'vary', 'inpaint'"),
        ({"operation": "vary", "strenght": 1}, "strenght", "no such field; there are image, mask"),
        ({"operation": "vary", "strength": 0}, "strength", "greater than or equal to 0.01"),
        ({"operation": "vary", "strength": "nan"}, "strength", "'nan' was given"),
        ({"operation": "vary", "factor": 2}, "factor", "means nothing to vary, only to upscale"),
        ({"operation": "vary", "noise": 0.1}, "noise", "only to denoise"),
        ({"operation": "colorize", "strength": 1}, "strength", "only to vary, restyle, inpaint"),
        ({"operation": "inpaint", "left": 5}, "left", "only to outpaint"),
        ({"operation": "outpaint", "left": 0}, "image", "no margins of a pixel or more"),
        ({"operation": "outpaint", "left": 201}, "left", "less than or equal to 200"),
        ({"operation": "upscale", "factor": 3}, "factor", "3 was given, 2 and 4 are accepted"),
        ({"operation": "upscale"}, "image", "20 x 20 pixels; at most 8 x 8 by 2 and 4 x 4 by 4"),
        ({"operation": "restyle"}, "prompt", "restyle needs to know"),
        ({"operation": "restyle", "prompt": " "}, "prompt", "restyle needs to know"),
        ({"operation": "inpaint"}, "image", "no transparent pixels, and no mask"),
        (APPLE | {"size": 1025}, "size", "at most 1024"),
        (APPLE | {"n": 11}, "n", "at most 10"),
        (APPLE | {"steps": 101}, "steps", "tiny takes 1 to 100"),
        (APPLE | {"seed": "a" * 257}, "seed", "string of 1 to 256 characters"),
        (APPLE | {"format": "jpeg", "background": "transparent"}, "background", "png and webp can"),
        (APPLE | {"prompt": "z9 " * 40}, "prompt", "tokens, tiny takes at most 48"),
    ],
)
async def test_a_bad_field_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str, says: str
) -> None:
    answer = await send(client, Image.new("RGB", (20, 20)), **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: ")
    assert says in error["message"]


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (
            Image.new("L", (20, 20), 0),
            "marks nothing: no pixel of it is fully transparent or white",
        ),
        (Image.new("L", (20, 19), 255), "has 20 x 19 pixels, the image has 20 x 20"),
        (b"white", "is text, not a picture"),
    ],
)
async def test_a_mask_that_marks_nothing_is_refused(
    client: httpx.AsyncClient, mask: Image.Image | bytes, says: str
) -> None:
    answer = await send(client, Image.new("RGB", (20, 20)), mask, operation="inpaint")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mask")
    assert says in answer.json()["error"]["message"]


async def test_a_mask_means_nothing_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await send(client, noise(9, 9), Image.new("L", (9, 9)), operation="vary")
    assert answer.json()["error"]["message"] == "mask: means nothing to vary, only to inpaint"


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"{}", "application/json", "a form is needed, with the header Content-Type: multipart"),
        (b"operation=vary", "application/x-www-form-urlencoded", "a form is needed"),
        (b"", "multipart/form-data", "the body is no form: Missing boundary"),
        (b"", "multipart/form-data; boundary=x", "is required"),
        (b"nonsense", "multipart/form-data; boundary=x", "the body is no form"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x", "the body is no form"),
        (b"--x\r\nContent-Disposition: form-data", "multipart/form-data; boundary=x", "required"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str, says: str
) -> None:
    answer = await client.post(URL, content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]


async def test_what_is_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    image = ("image", ("a", file(noise(9, 9))))
    answer = await client.post(URL, data={"operation": "vary"}, files=[image, image])
    assert answer.json()["error"]["message"] == "image: 2 files were sent, one is accepted"
    answer = await client.post(URL, data={"operation": ["vary", "vary"]}, files=[image])
    assert answer.json()["error"]["code"] == "repeated_parameter"
    answer = await client.post(URL, files=[image, ("operation", ("o", b"vary"))])
    assert answer.json()["error"]["message"] == "operation: is a file, a text is needed"
    answer = await client.post(URL, files=[("image", (None, "apple.png"))])
    assert answer.json()["error"]["message"].startswith("image: is a text, a file is needed")


async def test_a_model_without_the_operation_says_what_it_can(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    easel.can("tiny", "generate", "vary")
    answer = await send(client, noise(9, 9), operation="upscale")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "operation")
    assert error["message"] == ("operation: tiny cannot upscale; it can generate, vary, restyle")
    model = (await client.get("/v1/models/tiny")).json()
    assert model["operations"] == ["generate", "vary", "restyle"]


async def test_pixels_are_never_touched_on_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def watched(file: bytes, most_pixels: int) -> Image.Image:
        threads.append(threading.current_thread().name)
        return decode(file, most_pixels)

    for module in (prepare, retouch):
        monkeypatch.setattr(module, "decode", watched)
    mask = square(20, 20, (4, 4, 8, 8))
    await done(client, noise(20, 20), mask, operation="inpaint", n=2)
    assert len(threads) == 6, "image and mask, to begin with and for each answer"
    assert all(name.startswith("upload") for name in threads)


class TestLimits:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            max_upload_bytes=20_000, max_upload_pixels=10_000, upload_memory_bytes=60_000
        )

    async def test_a_form_that_is_too_large_is_refused(self, client: httpx.AsyncClient) -> None:
        answer = await send(client, b" " * 20_000, operation="vary")
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        # Elsewhere the limit is that of JSON.
        answer = await client.post("/v1/images", content=b" " * 20_001)
        assert answer.status_code == 400

    async def test_too_many_pixels_are_refused(self, client: httpx.AsyncClient) -> None:
        answer = await send(client, Image.new("1", (101, 100)), operation="vary")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "image_too_large")
        assert error["message"] == "image: has 101 x 100 pixels; at most 10000 are accepted"
        answer = await send(client, Image.new("1", (80, 80)), operation="outpaint")
        assert answer.json()["error"]["code"] == "image_too_large"

    async def test_what_an_answer_takes_is_bounded_too(self, client: httpx.AsyncClient) -> None:
        hole = square(80, 80, (4, 4, 8, 8))
        for n, status in ((1, 200), (2, 400)):
            answer = await send(client, Image.new("RGB", (80, 80)), hole, operation="inpaint", n=n)
            assert answer.status_code == status
        assert answer.json()["error"]["message"] == (
            "n: 2 pictures of 80 x 80 pixels were asked for; "
            "at most 10000 pixels are accepted, all together"
        )
        # Where the answers have another size, it is theirs that counts.
        answer = await send(client, Image.new("RGB", (80, 80)), operation="vary", n=10)
        assert answer.status_code == 200

    @pytest.mark.parametrize("operation", ["vary", "outpaint"])
    async def test_uploads_at_once_are_bounded_and_make_room_again(
        self, client: httpx.AsyncClient, easel: Easel, operation: str
    ) -> None:
        easel.delay = 0.2
        large = file(noise(60, 60))
        assert 14_000 < len(large) < 15_000
        # Four forms would fit, six do not; and of edits, whose answers are large, only one does.
        answers = await asyncio.gather(
            *(send(client, large, operation=operation) for _ in "123456")
        )
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= (1 if operation == "outpaint" else 4)
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["error"]["code"] == "uploads_full"
        assert refused.headers["retry-after"] == "2"
        for _ in range(4):
            assert (await send(client, large, operation=operation)).status_code == 200


async def slow_upload(client: httpx.AsyncClient, seconds: float) -> httpx.Response:
    form = httpx.Request("POST", URL, data={"operation": "vary"}, files={"image": SMALL})
    body = form.read()

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:50]
        await asyncio.sleep(seconds)
        yield body[50:]

    return await client.post(URL, content=chunks(), headers=form.headers)


class TestTime:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(body_timeout=0.05)

    async def test_an_upload_may_take_longer_than_other_bodies(
        self, client: httpx.AsyncClient
    ) -> None:
        assert (await slow_upload(client, 0.1)).status_code == 200


class TestTooLittleTime:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(upload_timeout=0.05)

    async def test_an_upload_that_does_not_come_is_refused(self, client: httpx.AsyncClient) -> None:
        answer = await slow_upload(client, 30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_too_slow")
