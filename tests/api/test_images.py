"""If these fail, a request no longer gets the picture that it asks for, or not in its form."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO

import httpx
import pytest
from PIL import Image
from pydantic import HttpUrl

from app.api import answers
from app.engine import DeadlineExceeded, EngineError, QueueFull, RequestRefused, WorkerCrashed
from app.pictures import read_caption
from app.settings import Settings
from tests.api.easel import Easel

APPLE = {"prompt": "red apple", "seed": 7}


def events(text: str) -> Iterator[tuple[str, dict[str, object]]]:
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_one_picture_is_answered_with_itself(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-tessera-seed"] == "7"
    assert answer.headers["content-location"] == "/v1/images/7.png?prompt=red%20apple&model=tiny"
    assert answer.headers["cache-control"] == "no-store"
    assert [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")] == [
        "queue",
        "compute",
        "encode",
    ]
    caption = read_caption(answer.content)
    assert caption is not None
    assert (caption.prompt, caption.seed, caption.model) == ("red apple", 7, "tiny")
    assert (await client.post("/v1/images", json=APPLE)).content == answer.content


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "", "seed": "ada lovelace/ü?.png"},
        {"seed": 2**53 - 1, "steps": 3, "guidance": 1.25},
        {"size": 40, "background": "#f80"},
        {"format": "webp", "background": "transparent", "quality": 50},
        {"format": "jpeg", "background": "#102030"},
    ],
)
async def test_the_address_gives_the_same_bytes(
    client: httpx.AsyncClient, easel: Easel, fields: dict[str, object]
) -> None:
    posted = await client.post("/v1/images", json=APPLE | fields)
    assert posted.status_code == 200, posted.text
    fetched = await client.get(posted.headers["content-location"])
    assert fetched.status_code == 200, fetched.text
    assert fetched.content == posted.content
    assert fetched.headers["content-type"] == posted.headers["content-type"]
    # Even where nothing was kept, the engine is asked for the same.
    assert len(set(easel.submitted)) == 1


async def test_a_name_in_an_address_is_its_seed(client: httpx.AsyncClient) -> None:
    named = await client.get("/v1/images/ada.png")
    assert (await client.post("/v1/images", json={"seed": "ada"})).content == named.content
    number = named.headers["x-tessera-seed"]
    assert (await client.get(f"/v1/images/{number}.png")).content != b""
    assert (await client.get("/v1/images/a.b.png")).status_code == 200


async def test_no_seed_is_a_random_one(client: httpx.AsyncClient) -> None:
    seeds = {(await client.post("/v1/images", json={})).headers["x-tessera-seed"] for _ in "ab"}
    assert len(seeds) == 2


async def test_json_holds_every_picture_with_its_own_address(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE | {"seed": 2**53 - 1, "n": 3})
    assert answer.headers["content-type"] == "application/json"
    assert "content-location" not in answer.headers
    images = answer.json()["images"]
    assert [image["seed"] for image in images] == [2**53 - 1, 0, 1]
    for image in images:
        alone = await client.get(image["url"])
        assert alone.content == base64.b64decode(image["b64_json"])


async def test_events_tell_of_progress_previews_and_pictures(client: httpx.AsyncClient) -> None:
    body = APPLE | {"n": 2, "previews": True}
    answer = await client.post("/v1/images", json=body, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = list(events(answer.text))
    assert {name for name, _ in told} == {"progress", "preview", "image", "done"}
    assert told[-1] == ("done", {"images": 2})
    for name, data in told:
        if name in ("preview", "image"):
            file = base64.b64decode(str(data["b64_json"]))
            assert Image.open(BytesIO(file)).size == (16, 16)


async def test_previews_come_only_when_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE, headers={"Accept": "text/event-stream"})
    assert "event: preview" not in answer.text


async def test_a_failure_on_the_way_is_the_last_event(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    easel.accident = WorkerCrashed("the worker died on this picture")
    answer = await client.post("/v1/images", json=APPLE, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200
    name, data = list(events(answer.text))[-1]
    assert (name, data["error"]) == (
        "error",
        {
            "message": "the worker died on this picture",
            "type": "server_error",
            "param": None,
            "code": "worker_crashed",
        },
    )


async def test_a_silent_stream_is_kept_alive(
    client: httpx.AsyncClient, easel: Easel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "SILENCE", 0.01)
    easel.delay = 0.05
    answer = await client.post("/v1/images", json=APPLE, headers={"Accept": "text/event-stream"})
    assert ": ping\n\n" in answer.text
    assert answer.text.count("event: image") == answer.text.count("event: done") == 1


async def test_resampling_is_said(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE | {"size": 24})
    assert Image.open(BytesIO(answer.content)).size == (24, 24)
    assert answer.headers["x-tessera-resampled-from"] == "16"
    assert "x-tessera-resampled-from" not in (await client.post("/v1/images", json=APPLE)).headers


async def test_head_and_304_run_no_model(client: httpx.AsyncClient, easel: Easel) -> None:
    head = await client.head("/v1/images/7.png?prompt=red%20apple")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "image/png"
    kept = await client.get(
        "/v1/images/7.png?prompt=red%20apple",
        headers={"If-None-Match": f'"other", W/{head.headers["etag"]}'},
    )
    assert (kept.status_code, kept.content) == (304, b"")
    assert kept.headers["etag"] == head.headers["etag"]
    assert easel.submitted == []


async def test_the_etag_names_the_bytes(client: httpx.AsyncClient) -> None:
    addresses = [
        "/v1/images/7.png",
        "/v1/images/8.png",
        "/v1/images/7.webp",
        "/v1/images/7.png?prompt=a",
        "/v1/images/7.png?size=17",
        "/v1/images/7.png?steps=3",
        "/v1/images/7.png?background=f00",
    ]
    tags = {(await client.head(address)).headers["etag"] for address in addresses}
    assert len(tags) == len(addresses)
    # Saying a default aloud changes nothing.
    spoken = await client.head("/v1/images/7.png?steps=4&guidance=2&size=16&background=%23FFFFFF")
    assert spoken.headers["etag"] == (await client.head("/v1/images/7.png")).headers["etag"]


async def test_an_address_is_immutable_only_if_it_pins_the_model(
    client: httpx.AsyncClient,
) -> None:
    plain = await client.head("/v1/images/7.png")
    assert plain.headers["cache-control"] == "public, max-age=3600"
    digest = (await client.get("/v1/models/tiny")).json()["digest"]
    pinned = await client.head(f"/v1/images/7.png?model=tiny@{digest[:12]}")
    assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
    pinned = await client.head("/v1/images/7.png?numerics=numerics-1")
    assert "immutable" in pinned.headers["cache-control"]
    for other in ("model=tiny@0123456789ab", "numerics=others"):
        answer = await client.get(f"/v1/images/7.png?{other}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_loaded")
        assert answer.headers["cache-control"] == "no-store"


async def test_a_picture_is_computed_and_encoded_once(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    first = await client.get("/v1/images/7.png")
    assert (await client.get("/v1/images/7.png")).content == first.content
    assert len(easel.submitted) == 1
    assert "tessera_file_cache_hits_total" in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (QueueFull("256 rows wait", 2.5), 503, "queue_full", {"retry-after": "3"}),
        (DeadlineExceeded("too late"), 504, "deadline_exceeded", {"x-should-retry": "false"}),
        (WorkerCrashed("poison"), 500, "worker_crashed", {"x-should-retry": "false"}),
        (RequestRefused("not this one"), 400, "request_refused", {}),
    ],
)
async def test_what_the_engine_refuses_is_said(
    client: httpx.AsyncClient,
    easel: Easel,
    error: EngineError,
    status: int,
    code: str,
    headers: dict[str, str],
) -> None:
    easel.refusal = error
    for accept in ("image/png", "application/json", "text/event-stream"):
        answer = await client.post("/v1/images", json=APPLE, headers={"Accept": accept})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["message"] == str(error)
        assert answer.headers.items() >= headers.items()


async def test_an_address_too_long_for_a_header_is_left_out(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json={"prompt": " " * 1000, "seed": 1})
    assert answer.status_code == 200
    assert "content-location" not in answer.headers


class TestBehindAProxy:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(public_url=HttpUrl("https://pictures.example/t/"))

    async def test_addresses_begin_with_the_public_one(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/images", json=APPLE | {"n": 2})
        assert answer.json()["images"][0]["url"].startswith(
            "https://pictures.example/t/v1/images/7.png?"
        )
