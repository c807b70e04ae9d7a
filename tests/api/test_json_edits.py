"""If these fail, edits in OpenAI's JSON form mean something else than those in a form."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from typing import Any

import httpx
import pytest
from PIL import Image

from app.api.errors import ApiError
from app.api.forms import read_json
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import error, png
from tests.generation.corpus import noise

URL = "/v1/images/edits"

Jobs = list[tuple[ImageRequest, ...]]
RED = png(Image.new("RGB", (20, 20), "red"))
TEXT = base64.b64encode(RED).decode()
DATA = f"data:image/png;base64,{TEXT}"
BODY: dict[str, Any] = {"prompt": "apple", "seed": 7}


async def sent(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post(URL, json=BODY | fields)


async def test_json_means_what_the_form_means(client: httpx.AsyncClient, submitted: Jobs) -> None:
    files = [("image", ("a.png", RED)), ("image", ("b.png", png(noise(20, 20))))]
    hole = Image.new("RGBA", (20, 20), "white")
    hole.paste((0, 0, 0, 0), (4, 4, 9, 9))
    mask = png(hole)
    texts = {"prompt": "apple", "seed": "7", "steps": "3", "output_format": "webp"}
    by_form = await client.post(URL, data=texts, files=[*files, ("mask", ("m.png", mask))])
    images = [
        {"image_url": "data:image/png;base64," + base64.b64encode(file).decode()}
        for _, (_, file) in files
    ]
    by_json = await sent(
        client,
        images=images,
        mask={"image_url": "data:image/png;base64," + base64.b64encode(mask).decode()},
        steps=3,
        output_format="webp",
        moderation="low",
        user=None,
    )
    assert by_form.status_code == by_json.status_code == 200, by_json.text
    assert by_form.json()["data"] == by_json.json()["data"]
    assert submitted[0] == submitted[1]
    assert submitted[0][0].operation == "inpaint"


@pytest.mark.parametrize(
    "fields",
    [
        {"images": [{"image_url": DATA}]},
        {"images": [{"image_url": {"url": DATA}}]},
        {"images": [{"b64_json": TEXT}]},
        {"images": [DATA], "mask": None},
        {"image": DATA},
        {"image": [TEXT]},
        {"image": {"image_url": DATA.replace("image/png", "image/x;charset=utf-8")}},
        {"image": "DATA:;BASE64," + TEXT.rstrip("=")},
        {"image": TEXT.replace("+", "-").replace("/", "_")},
        {"image": "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))},
    ],
)
async def test_a_picture_has_several_spellings(
    client: httpx.AsyncClient, submitted: Jobs, fields: dict[str, Any]
) -> None:
    answer = await sent(client, **fields)
    assert answer.status_code == 200, answer.text
    source = submitted[-1][0].source
    assert source is not None
    assert source.picture.pixels[:4] == b"\xff\0\0\xff"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({}, "image", "is required"),
        ({"images": []}, "image", "is required"),
        ({"image": "https://example.org/a.png"}, "image", "addresses are not fetched"),
        ({"images": [{"image_url": "http://10.0.0.1/"}]}, "images", "addresses are not fetched"),
        ({"images": [DATA, {"image_url": "FILE:///etc/passwd"}]}, "images.1", "are not fetched"),
        ({"images": [{"file_id": "file-abc"}]}, "images", "no files are kept here"),
        ({"images": [{}]}, "images", 'should be an object with "image_url"'),
        ({"images": [{"image_url": DATA, "detail": "low"}]}, "images", "should be an object"),
        ({"images": [7]}, "images", "should be a data: URL, or base64"),
        ({"images": DATA, "image": DATA}, "image", "is given beside another field"),
        ({"image": "data:image/png,abc"}, "image", "is a data: URL without base64"),
        ({"image": "data:image/png;base64"}, "image", "is a data: URL without base64"),
        ({"image": "a"}, "image", "is not base64"),
        ({"image": "红苹果"}, "image", "is not base64"),
        ({"image": base64.b64encode(b"hello").decode()}, "image", "is text, not a picture"),
        ({"image": [DATA] * 17}, "image", "17 files were sent, at most 16 are accepted"),
        ({"image": DATA, "mask": [DATA, DATA]}, "mask", "2 files were sent, one is accepted"),
        ({"image": DATA, "n": "2"}, "n", "should be a valid integer"),
        ({"image": DATA, "prompt": None}, "prompt", "should be a valid string"),
        ({"image": DATA, "prompt": "\ud800"}, "prompt", "half of a surrogate pair"),
        ({"image": DATA, "strenght": 1}, "strenght", "there is no such field"),
        ({"image": DATA, "markup": DATA}, "markup", ""),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str, says: str
) -> None:
    answer = await client.post(
        URL,
        content=json.dumps(BODY | fields),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert (answer.status_code, error(answer)["param"]) == (400, param), answer.text
    assert says in error(answer)["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_body"),
        (b"\xff\xff", "invalid_json"),
        (b"[" * 50_000, "invalid_json"),
        (b'{"image": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"prompt": "a", "prompt": "b"}', "invalid_json"),
    ],
)
async def test_what_is_no_object_is_refused(
    client: httpx.AsyncClient, body: bytes, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post(URL, content=body, headers=headers)
    assert (answer.status_code, error(answer)["code"]) == (400, code), answer.text


def test_a_body_of_many_values_is_not_parsed() -> None:
    body = b'{"image": [' + b"{}," * 3_000_000 + b"{}]}"
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ApiError, match="too many values"):
        read_json(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert time.monotonic() - began < 2


async def test_other_kinds_of_bodies_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, content=b"x", headers={"Content-Type": "text/plain"})
    assert error(answer)["message"].startswith("a form or JSON is needed, with the header")
    answer = await client.post("/v1/images/variations", json={"image": DATA})
    assert error(answer)["message"].startswith("a form is needed")


class TestLimits:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            max_upload_bytes=20_000, max_upload_pixels=10_000, upload_memory_bytes=60_000
        )

    async def test_they_are_those_of_a_form(self, client: httpx.AsyncClient) -> None:
        answer = await sent(client, image="A" * 20_000)
        assert (answer.status_code, error(answer)["code"]) == (413, "body_too_large")
        large = base64.b64encode(png(Image.new("1", (101, 100)))).decode()
        answer = await sent(client, image=large)
        assert error(answer)["code"] == "image_too_large"
        for _ in range(4):  # what one held is free for the next
            answer = await sent(client, image="A" * 17_000)
            assert (answer.status_code, error(answer)["code"]) == (400, "unsupported_image")
