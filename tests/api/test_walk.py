"""A walk is one animated picture of many rows, the same ones every time."""

from __future__ import annotations

import base64
from io import BytesIO

import httpx
import pytest
from PIL import Image

from app.main import assemble
from app.metrics import Metrics
from app.pictures import read_caption
from app.settings import Settings
from tests.api.easel import Easel
from tests.api.test_images import events

WALK = {"prompt": "red apple", "seed": 7, "walk": 6}


def shown(file: bytes) -> list[bytes]:
    """The pixels of its frames."""
    with Image.open(BytesIO(file)) as image:
        count: int = getattr(image, "n_frames")  # noqa: B009 - only formats with frames have it
        frames = []
        for number in range(count):
            image.seek(number)
            frames.append(image.convert("RGB").tobytes())
        return frames


async def test_it_is_animated_webp(client: httpx.AsyncClient, easel: Easel) -> None:
    answer = await client.post("/v1/images", json=WALK)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-location"] == (
        "/v1/images/7.webp?prompt=red%20apple&model=tiny&walk=6"
    )
    assert len(set(shown(answer.content))) == 6
    caption = read_caption(answer.content)
    assert caption is not None
    assert (caption.prompt, caption.seed, caption.operation) == ("red apple", 7, "walk")
    with Image.open(BytesIO(answer.content)) as image:
        assert image.info["loop"] == 0  # for ever
    [request] = easel.submitted
    assert [(row.seed, row.turn) for row in request.rows()] == [(7, k / 6) for k in range(6)]


@pytest.mark.parametrize("fields", [{}, {"format": "png"}, {"background": "transparent"}])
async def test_its_address_gives_the_same_bytes(
    client: httpx.AsyncClient, easel: Easel, fields: dict[str, object]
) -> None:
    posted = await client.post("/v1/images", json=WALK | fields)
    fetched = await client.get(posted.headers["content-location"])
    assert fetched.status_code == 200, fetched.text
    assert fetched.content == posted.content
    assert len(set(easel.submitted)) == 1
    again = {"If-None-Match": fetched.headers["etag"]}
    assert (await client.get(posted.headers["content-location"], headers=again)).status_code == 304
    other = await client.get("/v1/images/7.webp?prompt=red%20apple&walk=7")
    assert other.headers["etag"] != fetched.headers["etag"]


async def test_png_holds_the_very_pixels(client: httpx.AsyncClient) -> None:
    """Frame 0 and every other one: nothing is lost, none is out of place."""
    file = (await client.post("/v1/images", json=WALK | {"format": "png"})).content
    frames = shown(file)
    assert len(frames) == 6
    assert len(set(frames)) == 6
    caption = read_caption(file)
    assert caption is not None
    assert caption.operation == "walk"


async def test_json_and_events_have_one_picture(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "application/json"})
    [image] = answer.json()["images"]
    file = base64.b64decode(image["b64_json"])
    assert len(shown(file)) == 6
    assert image["format"] == "webp"
    assert (await client.get(image["url"])).content == file

    accept = {"Accept": "text/event-stream"}
    answer = await client.post("/v1/images", json=WALK, headers=accept)
    told = list(events(answer.text))
    seen = {data["index"] for name, data in told if name == "progress"}
    assert seen  # of frames; a slow reader misses some
    assert seen <= set(range(6))
    [sent] = [data for name, data in told if name == "image"]
    assert base64.b64decode(str(sent["b64_json"])) == file
    assert told[-1] == ("done", {"images": 1})


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"walk": 1}, "walk", "2"),
        ({"walk": 25}, "walk", "25 was given, at most 24 frames are accepted"),
        ({"walk": 4, "n": 2}, "n", "2 was given, a walk is one picture"),
        ({"walk": 4, "format": "jpeg"}, "walk", "a jpeg cannot be animated; webp and png can"),
    ],
)
async def test_what_cannot_be_walked_is_refused(
    client: httpx.AsyncClient, fields: dict[str, object], param: str, said: str
) -> None:
    answer = await client.post("/v1/images", json=fields)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["error"]["message"]


async def test_a_model_that_cannot_walk_says_so(client: httpx.AsyncClient, easel: Easel) -> None:
    easel.can("tiny", "generate")
    answer = await client.post("/v1/images", json=WALK)
    assert answer.status_code == 400
    assert "tiny cannot walk" in answer.json()["error"]["message"]


async def test_accept_may_ask_for_png(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "image/jpeg"})
    assert answer.status_code == 406


async def test_the_document_has_it_where_a_model_can(
    client: httpx.AsyncClient, easel: Easel, settings: Settings
) -> None:
    document = (await client.get("/openapi.json")).json()
    walk = document["components"]["schemas"]["ImagesBody"]["properties"]["walk"]
    assert {"type": "integer", "minimum": 2, "maximum": settings.max_walk} in walk["anyOf"]
    easel.can("tiny", "generate")
    still = assemble(settings, easel, Metrics()).openapi()
    assert "walk" not in still["components"]["schemas"]["ImagesBody"]["properties"]
