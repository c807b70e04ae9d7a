"""If these fail, a picture that was uploaded becomes something else than was asked for.

What each field means is tested with `app.generation.resolve`; here, what HTTP adds to it.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.generation.editing import prepare, retouch
from app.settings import Settings
from model.image_files.decode import decode
from model.request import ImageRequest, Source
from tests.api.application import error, events, png
from tests.files import read_metadata
from tests.generation.corpus import DISPLAY_P3, box_mask, noise, written

SIDE = 16  # of the tiny model
URL = "/v1/images/transform"


Jobs = list[tuple[ImageRequest, ...]]
SMALL = png(Image.new("RGB", (4, 4)))


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
    files = {"image": ("image", image if isinstance(image, bytes) else png(image))}
    if mask is not None:
        files["mask"] = ("mask", mask if isinstance(mask, bytes) else png(mask))
    texts = {name: str(value) for name, value in fields.items()}
    return await client.post(URL, data=texts, files=files, headers=headers)


async def done(*args: Any, **fields: Any) -> httpx.Response:
    answer = await send(*args, **fields)
    assert answer.status_code == 200, answer.text
    return answer


def source(jobs: Jobs) -> Source:
    """What the model was given of the last upload."""
    found = jobs[-1][0].source
    assert found is not None
    return found


@pytest.mark.parametrize("format_", ["png", "webp", "jpeg"])
async def test_no_answer_has_the_profile_of_an_upload(
    client: httpx.AsyncClient, format_: str
) -> None:
    upload = written(Image.new("RGBA", (16, 16), (200, 40, 40)), "PNG", icc_profile=DISPLAY_P3)
    answer = await done(client, upload, operation="vary", format=format_)
    assert "icc_profile" not in Image.open(BytesIO(answer.content)).info


async def test_the_texts_of_a_form_are_numbers_where_they_should_be(
    client: httpx.AsyncClient, submitted: Jobs
) -> None:
    fields = {"strength": "0.25", "steps": "3", "guidance": "1.5", "solver_order": "2.0"}
    answer = await done(client, noise(20, 20), operation="vary", seed="7", n="2", **fields)
    assert answer.headers["content-type"] == "application/json"
    (requests,) = submitted
    assert [request.seed for request in requests] == [7, 8]
    assert {request.operation for request in requests} == {"vary"}
    for name, value in fields.items():
        assert requests[0].value(name) == float(value)
    picture = source(submitted).picture
    assert (picture.width, picture.height, picture.channels) == (SIDE, SIDE, 4)


async def test_a_picture_of_the_model_s_size_reaches_it_as_it_is(
    client: httpx.AsyncClient, submitted: Jobs
) -> None:
    image = noise(SIDE, SIDE)
    answer = await done(client, image, operation="vary")
    assert source(submitted).picture.pixels == image.tobytes()
    assert "x-tessera-fitted" not in answer.headers


async def test_another_size_is_fitted_and_said(client: httpx.AsyncClient, submitted: Jobs) -> None:
    blue = Image.new("RGB", (64, 32), "blue")
    answer = await done(client, blue, operation="vary", n=2)
    assert answer.json()["fitted"] == answer.headers["x-tessera-fitted"] == "64x32 -> 16x8"
    assert [(each["width"], each["height"]) for each in answer.json()["images"]] == [(16, 8)] * 2
    seen = np.frombuffer(source(submitted).picture.pixels, np.uint8).reshape(SIDE, SIDE, 4)
    assert (seen[4:12] == (0, 0, 255, 255)).all()
    assert (seen[:4] == 0).all(), "what lies around is clear"


async def test_a_size_is_that_of_the_longer_side(client: httpx.AsyncClient) -> None:
    answer = await done(client, noise(30, 60), operation="colorize", size=100)
    assert pixels(answer).shape == (100, 50, 4)


@pytest.mark.parametrize(("width", "height"), [(SIDE, SIDE), (50, 31), (7, 12), (400, 3)])
@pytest.mark.parametrize("by", ["white", "alpha", "own alpha"])
async def test_outside_the_mask_every_byte_is_the_upload_s(
    client: httpx.AsyncClient, submitted: Jobs, width: int, height: int, by: str
) -> None:
    box = (width // 4, height // 3, width // 2, height // 2)
    regenerated = np.asarray(box_mask(width, height, box)) == 255
    before = np.asarray(noise(width, height)).copy()
    before[..., 3] |= 1  # no pixel of it is fully transparent by itself
    mask: Image.Image | None = box_mask(width, height, box)
    if by == "alpha":
        mask = Image.fromarray(
            np.where(regenerated, 0, 255).astype(np.uint8)[..., None].repeat(4, 2)
        )
    if by == "own alpha":
        before[regenerated, 3] = 0
        mask = None
    answer = await done(client, Image.fromarray(before), mask, operation="inpaint", seed=3)
    after = pixels(answer)
    assert (after[~regenerated] == before[~regenerated]).all()
    assert (after[regenerated] != before[regenerated]).any(axis=1).all()
    mask_seen = np.frombuffer(source(submitted).mask or b"", np.uint8)
    assert 0 < np.count_nonzero(mask_seen) < SIDE * SIDE


async def test_a_mask_of_one_pixel_is_not_lost(client: httpx.AsyncClient, submitted: Jobs) -> None:
    await done(client, noise(900, 900), box_mask(900, 900, (5, 5, 5, 5)), operation="inpaint")
    assert np.count_nonzero(np.frombuffer(source(submitted).mask or b"", np.uint8)) >= 1


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


async def test_upscaling_multiplies_the_upload(client: httpx.AsyncClient, submitted: Jobs) -> None:
    for factor, width, height in ((2, 8, 8), (2, 5, 3), (4, 4, 1)):
        image = noise(width, height)
        answer = await done(client, image, operation="upscale", factor=factor)
        assert pixels(answer).shape == (factor * height, factor * width, 4)
        picture = source(submitted).picture
        assert picture.width == picture.height == SIDE // factor
        assert "x-tessera-fitted" not in answer.headers


async def test_a_larger_upload_is_upscaled_and_one_too_large_refused(
    client: httpx.AsyncClient, submitted: Jobs
) -> None:
    for factor, width, height in ((2, 33, 7), (4, 20, 30), (2, 256, 1)):
        image = noise(width, height)
        answer = await done(client, image, operation="upscale", factor=factor, steps=1)
        assert pixels(answer).shape == (factor * height, factor * width, 4)
        assert source(submitted).picture.width == width
    for factor, width, height in ((2, 257, 1), (4, 1, 129)):
        image = noise(width, height)
        answer = await send(client, image, operation="upscale", factor=factor)
        assert (answer.status_code, error(answer)["code"]) == (400, "image_too_large")
        assert error(answer)["message"] == (
            f"image: has {width} x {height} pixels; at most 256 x 256 by 2 and 128 x 128 by 4 can "
            "be upscaled: a result has at most 512 x 512"
        )


async def test_an_answer_has_no_address_and_says_what_was_done(client: httpx.AsyncClient) -> None:
    image = noise(20, 20)
    answer = await done(client, image, operation="restyle", prompt="red apple", seed="ada")
    assert "content-location" not in answer.headers
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    metadata = read_metadata(answer.content)
    assert metadata is not None
    assert (metadata.operation, metadata.prompt) == ("restyle", "red apple")
    assert answer.headers["x-tessera-seed"] == str(metadata.seed)
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
        box_mask(48, 24, (4, 4, 8, 8)),
        operation="inpaint",
        previews="true",
        steps=60,
        n=2,
        headers={"Accept": "text/event-stream"},
    )
    happened = list(events(answer.text))
    assert {name for name, _ in happened} == {"progress", "preview", "image", "done"}
    for name, data in happened:
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
    hole = box_mask(20, 20, (4, 4, 8, 8))
    answer = await done(client, photograph, hole, operation="inpaint")
    assert (pixels(answer)[..., 3] == 255).all()
    kept = np.asarray(hole) == 0
    assert (pixels(answer)[kept, :3] == np.asarray(photograph)[kept]).all()
    answer = await done(client, photograph, operation="vary", background="transparent")
    assert Image.open(BytesIO(answer.content)).mode == "RGBA"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "operation", "operation: is required"),
        ({"operation": "fly"}, "operation", "operation: should be 'vary', 'inpaint', 'outpaint'"),
        ({"operation": "vary", "strength": "most"}, "strength", "'most' was given, a number is"),
        ({"operation": "vary", "strength": "nan"}, "strength", "nan was given, 0.01 to 1 is"),
        (
            {"operation": "vary", "steps": "2.5"},
            "steps",
            "2.5 was given, a whole number, 1 to 100, is",
        ),
        ({"operation": "outpaint", "left": 201}, "left", "less than or equal to 200"),
        ({"operation": "outpaint", "left": "some"}, "left", "left: should be a valid integer"),
        ({"operation": "upscale", "factor": 3}, "factor", "3 was given, 2 and 4 are accepted"),
        ({"operation": "vary", "seed": "a" * 257}, "seed", "string of 1 to 256 characters"),
        ({"operation": "vary", "size": "0"}, "size", "size: should be pixels such as 128, or"),
        ({"operation": "vary", "walk": 4}, "walk", "walk: there is no such field; there are"),
        ({"operation": "restyle"}, "prompt", "prompt: is required"),
        ({"operation": "inpaint"}, "image", "image: has no transparent pixels, and no mask"),
        ({"operation": "vary", "top_k": 3}, "top_k", "top_k: means nothing to tiny, which takes"),
    ],
)
async def test_a_bad_field_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str, says: str
) -> None:
    answer = await send(client, Image.new("RGB", (20, 20)), **fields)
    assert (answer.status_code, error(answer)["param"]) == (400, param)
    assert error(answer)["message"].startswith(f"{param}: ")
    assert says in error(answer)["message"]


async def test_an_unknown_field_is_answered_with_those_that_there_are(
    client: httpx.AsyncClient,
) -> None:
    answer = await send(client, noise(9, 9), operation="vary", strenght="far")
    assert (answer.status_code, error(answer)["code"]) == (400, "unknown_field")
    assert error(answer)["message"] == (
        "strenght: there is no such field; there are image, mask, prompt, negative_prompt, model, "
        "lora, size, quality, metadata, seed, n, format, previews, operation, factor, left, top, "
        "right, bottom, background, steps, guidance, solver_order, strength, noise, temperature, "
        "top_k, top_p"
    )
    answer = await client.post(URL, files={"picture": SMALL, "image": SMALL})
    assert error(answer)["message"].startswith("picture: there is no such field; there are image")


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (
            Image.new("L", (20, 20), 0),
            "marks nothing: no pixel of it is transparent or white",
        ),
        (Image.new("L", (20, 19), 255), "has 20 x 19 pixels, the image has 20 x 20"),
        (b"white", "is text, not a picture"),
    ],
)
async def test_a_mask_that_marks_nothing_is_refused(
    client: httpx.AsyncClient, mask: Image.Image | bytes, says: str
) -> None:
    answer = await send(client, Image.new("RGB", (20, 20)), mask, operation="inpaint")
    assert (answer.status_code, error(answer)["param"]) == (400, "mask")
    assert says in error(answer)["message"]


async def test_a_mask_means_nothing_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await send(client, noise(9, 9), Image.new("L", (9, 9)), operation="vary")
    assert error(answer)["message"] == "mask: means nothing to vary, only to inpaint"


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"{}", "application/json", "a form is needed, with the header Content-Type: multipart"),
        (b"operation=vary", "application/x-www-form-urlencoded", "a form is needed"),
        (b"", "multipart/form-data", "the body is no form: its Content-Type names no boundary"),
        (b"", "multipart/form-data; boundary=x", "is required"),
        (b"nonsense", "multipart/form-data; boundary=x", "the body is no form"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x", "the body is no form"),
        (b"--x\r\nContent-Disposition: form-data", "multipart/form-data; boundary=x", "form ends"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str, says: str
) -> None:
    answer = await client.post(URL, content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert says in error(answer)["message"]


def disposition(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


def form(*parts: tuple[str, bytes], end: bytes = b"--XbOuNd--\r\n") -> bytes:
    """Each part with its headers as they are."""
    made = [
        b"--XbOuNd\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n"
        for headers, content in parts
    ]
    return b"".join(made) + end


async def posted(client: httpx.AsyncClient, body: bytes, url: str = URL) -> httpx.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=XbOuNd"}
    return await client.post(url, content=body, headers=headers)


PICTURE = (disposition("image", '; filename="a.png"'), SMALL)
VARY = (disposition("operation"), b"vary")
SEED = (disposition("seed"), b"424242")


async def test_a_form_that_was_cut_is_refused_wherever_it_was(client: httpx.AsyncClient) -> None:
    for last in (SEED, PICTURE):
        parts = [part for part in (VARY, PICTURE, SEED) if part is not last] + [last]
        whole = form(*parts)
        assert (await posted(client, whole)).headers["x-tessera-seed"] == "424242"
        assert (await posted(client, whole.rstrip() + b"and an epilogue")).status_code == 200
        for cut in (*range(3, 40), len(whole) - 20):
            answer = await posted(client, whole[:-cut])
            assert (answer.status_code, error(answer)["code"]) == (400, "invalid_form"), cut
        assert "the form ends before its closing boundary" in error(answer)["message"]


async def test_a_preamble_is_skipped(client: httpx.AsyncClient) -> None:
    body = form(VARY, PICTURE, SEED)
    for preamble in (b"\r\n", b"This is a multi-part message.\r\n", b"--XbOuN\r\n"):
        answer = await posted(client, preamble + body)
        assert answer.headers["x-tessera-seed"] == "424242"
    for beginning in (b"a" * 10_000, body.replace(b"XbOuNd", b"other")):
        answer = await posted(client, beginning)
        assert (answer.status_code, error(answer)["code"]) == (400, "invalid_form")
        assert "boundary that its header names" in error(answer)["message"]


async def test_a_file_has_a_name_of_any_kind_or_a_picture_s_type(client: httpx.AsyncClient) -> None:
    for more in (
        "; filename*=UTF-8''%E7%8C%AB.png",
        "; filename*=utf-8''a.png",
        '; filename*0="a"; filename*1=".png"',
        '; filename="' + "a" * 5000 + '"',
        "\r\nContent-Type: image/png",
        "\r\nContent-Type: IMAGE/PNG",
    ):
        answer = await posted(client, form(VARY, (disposition("image", more), SMALL)))
        assert answer.status_code == 200, answer.text
    answer = await posted(client, form(VARY, (disposition("image"), SMALL)))
    assert error(answer)["message"] == (
        "image: is a text, a file is needed, which has a file name or a picture's type (with curl, "
        "-F image=@path)"
    )
    longer = (disposition("image", '; filename="' + "a" * 20_000 + '"'), SMALL)
    answer = await posted(client, form(VARY, longer))
    assert "a header of a part has more than 16384 bytes" in error(answer)["message"]


UNCHOSEN = '; filename=""\r\nContent-Type: application/octet-stream'


async def test_a_file_that_was_not_chosen_was_not_sent(client: httpx.AsyncClient) -> None:
    empty = (disposition("mask", UNCHOSEN), b"")
    assert (await posted(client, form(VARY, PICTURE, empty))).status_code == 200
    hole = (disposition("image", '; filename="a.png"'), png(Image.new("RGBA", (9, 9))))
    paint = (disposition("operation"), b"inpaint")
    assert (await posted(client, form(paint, hole, empty))).status_code == 200
    edits = form((disposition("prompt"), b"red"), PICTURE, empty)
    assert (await posted(client, edits, "/v1/images/edits")).status_code == 200
    answer = await posted(client, form(VARY, (disposition("image", UNCHOSEN), b"")))
    assert error(answer)["message"].startswith("image: is required")
    named = (disposition("mask", '; filename="m.png"'), b"")
    answer = await posted(client, form(paint, hole, named))
    assert error(answer)["message"] == "mask: is empty"
    nameless = (disposition("mask", '; filename=""'), png(Image.new("L", (9, 9), 255)))
    assert (await posted(client, form(paint, hole, nameless))).status_code == 200


async def test_a_text_is_read_in_its_charset_or_refused(
    client: httpx.AsyncClient, submitted: Jobs
) -> None:
    def prompt(text: bytes, kind: str = "") -> bytes:
        restyle = (disposition("operation"), b"restyle")
        more = f"\r\nContent-Type: text/plain; charset={kind}" if kind else ""
        return form(restyle, PICTURE, (disposition("prompt", more), text))

    for charset in ("gbk", "GB18030", "utf-8", "big5", "utf-16"):
        answer = await posted(client, prompt("红苹果".encode(charset, "replace"), charset))
        assert answer.status_code == 200, answer.text
        assert submitted[-1][0].prompt == "红苹果".encode(charset, "replace").decode(charset)
    for body, says in (
        (prompt("红苹果".encode("gbk")), "prompt: is not UTF-8, as which it came"),
        (prompt(b"\xff\xfe", "ascii"), "prompt: is not ascii, as which it came"),
        (prompt(b"a", "punycode"), "prompt: is in the charset 'punycode'; UTF-8 is read"),
        (prompt(b"a", "no-such"), "prompt: is in the charset 'no-such'; UTF-8 is read"),
    ):
        answer = await posted(client, body)
        assert (answer.status_code, error(answer)["message"]) == (400, says)
        assert error(answer)["param"] == "prompt"


async def test_a_form_has_so_many_parts(client: httpx.AsyncClient) -> None:
    for part, says in ((PICTURE, "more than 20 files"), (SEED, "more than 60 texts")):
        answer = await posted(client, form(*[part] * 61))
        assert (answer.status_code, error(answer)["code"]) == (400, "invalid_form")
        assert says in error(answer)["message"]
    answer = await posted(client, form(("Content-Disposition: form-data", b"")))
    assert "a part has no name" in error(answer)["message"]


async def test_previews_of_a_large_picture_are_small(client: httpx.AsyncClient) -> None:
    answer = await done(
        client,
        Image.new("RGB", (1500, 900), "blue"),
        box_mask(1500, 900, (4, 4, 800, 800)),
        operation="inpaint",
        previews="true",
        steps=60,
        headers={"Accept": "text/event-stream"},
    )
    sizes = {
        name: pixels(base64.b64decode(data["b64_json"])).shape[:2]
        for name, data in events(answer.text)
        if name in ("preview", "image")
    }
    assert sizes == {"preview": (307, 512), "image": (900, 1500)}


async def test_what_a_file_says_of_itself_can_be_left_out(client: httpx.AsyncClient) -> None:
    for metadata, marked, full in (("none", False, False), ("source", True, False), ("full", 1, 1)):
        answer = await done(
            client, noise(9, 9), operation="restyle", prompt="secret", metadata=metadata
        )
        assert (b"compositeWithTrainedAlgorithmicMedia" in answer.content) == marked
        assert (b"secret" in answer.content) == full
    answer = await send(client, noise(9, 9), operation="vary", metadata="some")
    assert error(answer)["message"].startswith("metadata: should be 'none', 'source' or 'full'")


async def test_what_is_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    image = ("image", ("a", png(noise(9, 9))))
    answer = await client.post(URL, data={"operation": "vary"}, files=[image, image])
    assert error(answer)["message"] == "image: 2 files were sent, one is accepted"
    answer = await client.post(URL, data={"operation": ["vary", "vary"]}, files=[image])
    assert error(answer)["code"] == "repeated_parameter"
    answer = await client.post(URL, files=[image, ("operation", ("o", b"vary"))])
    assert error(answer)["message"] == "operation: is a file, a text is needed"
    answer = await client.post(URL, files=[("image", (None, "apple.png"))])
    assert error(answer)["message"].startswith("image: is a text, a file is needed")


async def test_a_model_without_the_operation_says_what_it_can(client: httpx.AsyncClient) -> None:
    answer = await send(client, noise(9, 9), operation="upscale", model="tiny-gan")
    assert (answer.status_code, error(answer)["param"]) == (400, "operation")
    assert error(answer)["message"] == ("operation: tiny-gan cannot upscale; it can generate, walk")
    answer = await send(client, noise(9, 9), operation="vary", model="tiny-gpt")
    assert error(answer)["message"] == (
        "operation: tiny-gpt cannot vary; it can generate, describe, inpaint, outpaint"
    )


async def test_strength_means_nothing_to_a_model_that_paints_in_without_it(
    client: httpx.AsyncClient,
) -> None:
    hole = box_mask(16, 16, (4, 4, 8, 8))
    fields: dict[str, Any] = {"operation": "inpaint", "model": "tiny-gpt"}
    assert (await send(client, noise(16, 16), hole, **fields)).status_code == 200
    answer = await send(client, noise(16, 16), hole, strength=0.5, **fields)
    assert (answer.status_code, error(answer)["message"]) == (
        400,
        (
            "strength: means nothing to tiny-gpt, which takes steps, guidance, temperature, top_k, "
            "top_p"
        ),
    )


async def test_pixels_are_never_touched_on_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def watched(file: bytes, most_pixels: int) -> Image.Image:
        threads.append(threading.current_thread().name)
        return decode(file, most_pixels)

    for module in (prepare, retouch):
        monkeypatch.setattr(module, "decode", watched)
    mask = box_mask(20, 20, (4, 4, 8, 8))
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
        assert (answer.status_code, error(answer)["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        # Elsewhere the limit is that of JSON.
        answer = await client.post("/v1/images", content=b" " * 20_001)
        assert answer.status_code == 400

    async def test_too_many_pixels_are_refused(self, client: httpx.AsyncClient) -> None:
        answer = await send(client, Image.new("1", (101, 100)), operation="vary")
        assert (answer.status_code, error(answer)["code"]) == (400, "image_too_large")
        assert error(answer)["message"] == "image: has 101 x 100 pixels; at most 10000 are accepted"
        answer = await send(client, Image.new("1", (80, 80)), operation="outpaint")
        assert error(answer)["code"] == "image_too_large"

    async def test_what_an_answer_takes_is_bounded_too(self, client: httpx.AsyncClient) -> None:
        hole = box_mask(80, 80, (4, 4, 8, 8))
        for n, status in ((1, 200), (2, 400)):
            answer = await send(client, Image.new("RGB", (80, 80)), hole, operation="inpaint", n=n)
            assert answer.status_code == status
        assert error(answer)["message"] == (
            "n: 2 images of 80 x 80 pixels were asked for; "
            "at most 10000 pixels are accepted, all together"
        )
        # Where the answers have another size, it is theirs that counts.
        answer = await send(client, Image.new("RGB", (80, 80)), operation="vary", n=10)
        assert answer.status_code == 200

    @pytest.mark.parametrize("operation", ["vary", "outpaint"])
    async def test_uploads_at_once_are_bounded_and_make_room_again(
        self, client: httpx.AsyncClient, operation: str
    ) -> None:
        large = png(noise(60, 60))
        assert 14_000 < len(large) < 15_000
        # Four forms would fit, six do not; and of edits, whose answers are large, only one does.
        answers = await asyncio.gather(
            *(send(client, large, operation=operation, steps=100, prompt="a") for _ in "123456")
        )
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= (1 if operation == "outpaint" else 4)
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert error(refused)["code"] == "uploads_full"
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
        assert (answer.status_code, error(answer)["code"]) == (408, "body_too_slow")
