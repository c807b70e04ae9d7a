"""A walk is one animated image of many frames, the same ones every time."""

from __future__ import annotations

import base64
from io import BytesIO

import httpx
import pytest
from PIL import Image

from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import error, events
from tests.files import read_metadata

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


async def test_it_is_animated_webp(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    answer = await client.post("/v1/images", json=WALK)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-location"] == (
        "/v1/images/7.webp?prompt=red%20apple&model=tiny&walk=6"
    )
    assert len(set(shown(answer.content))) == 6
    metadata = read_metadata(answer.content)
    assert metadata is not None
    assert (metadata.prompt, metadata.seed, metadata.operation) == ("red apple", 7, "walk")
    with Image.open(BytesIO(answer.content)) as image:
        assert image.info["loop"] == 0  # for ever
    [requests] = submitted
    assert [(request.seed, request.phase) for request in requests] == [(7, k / 6) for k in range(6)]


@pytest.mark.parametrize(
    "fields", [{}, {"format": "png"}, {"background": "transparent"}, {"model": "tiny-gan"}]
)
async def test_its_address_gives_the_same_bytes(
    client: httpx.AsyncClient,
    submitted: list[tuple[ImageRequest, ...]],
    fields: dict[str, object],
) -> None:
    posted = await client.post("/v1/images", json=WALK | fields)
    fetched = await client.get(posted.headers["content-location"])
    assert fetched.status_code == 200, fetched.text
    assert fetched.content == posted.content
    assert len(set(submitted)) == 1
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
    metadata = read_metadata(file)
    assert metadata is not None
    assert metadata.operation == "walk"
    # The first frame is the seed's own image.
    still = (await client.get("/v1/images/7.png?prompt=red%20apple")).content
    with Image.open(BytesIO(still)) as image:
        assert image.convert("RGB").tobytes() == frames[0]


async def test_json_and_events_have_one_image(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "application/json"})
    [image] = answer.json()["images"]
    file = base64.b64decode(image["b64_json"])
    assert len(shown(file)) == 6
    assert image["format"] == "webp"
    assert (await client.get(image["url"])).content == file

    accept = {"Accept": "text/event-stream"}
    long = WALK | {"walk": 24, "steps": 100}
    answer = await client.post("/v1/images", json=long, headers=accept)
    happened = list(events(answer.text))
    progress = [data for name, data in happened if name == "progress"]
    assert {data["index"] for data in progress} == set(range(24))
    ended = [data["index"] for data in progress if data["step"] == data["steps"]]
    assert sorted(ended) == list(range(24))  # however fast they were drawn
    [sent] = [data for name, data in happened if name == "image"]
    assert len(shown(base64.b64decode(sent["b64_json"]))) == 24
    assert happened[-1] == ("done", {"images": 1})


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"walk": 1}, "walk", "walk: should be greater than or equal to 2; 1 was given"),
        ({"walk": 4.5}, "walk", "walk: should be a valid integer; 4.5 was given"),
        ({"walk": 25}, "walk", "walk: 25 was given, at most 24 frames are accepted"),
        ({"walk": 4, "n": 2}, "n", "n: 2 was given, a walk is one picture"),
        (
            {"walk": 4, "format": "jpeg"},
            "walk",
            "walk: a jpeg cannot be animated; webp and png can",
        ),
        (
            {"walk": 4, "model": "tiny-gpt"},
            "walk",
            "walk: 4 was given, tiny-gpt cannot walk: no image is between two of its own",
        ),
    ],
)
async def test_what_cannot_be_walked_is_refused(
    client: httpx.AsyncClient, fields: dict[str, object], param: str, message: str
) -> None:
    answer = await client.post("/v1/images", json=fields)
    assert answer.status_code == 400
    assert (error(answer)["param"], error(answer)["message"]) == (param, message)


async def test_accept_may_ask_for_png(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    answer = await client.post("/v1/images", json=WALK, headers={"Accept": "image/jpeg"})
    assert answer.status_code == 406


class TestASmallQueue:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_walk=3)

    async def test_the_limit_is_a_setting(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/images", json=WALK)
        assert error(answer)["message"] == "walk: 6 was given, at most 3 frames are accepted"
