"""If these fail, a request no longer gets the image that it asks for, or not in its form."""

from __future__ import annotations

import base64
from io import BytesIO

import httpx
import pytest
from PIL import Image
from pydantic import HttpUrl

from app.api.images import LONGEST_REMEMBERED
from app.engine import Engine
from app.metrics import Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import application, asking_app, error, events, metric
from tests.files import read_metadata

APPLE = {"prompt": "red apple", "seed": 7}


async def test_one_image_is_answered_with_itself(client: httpx.AsyncClient, engine: Engine) -> None:
    answer = await client.post("/v1/images", json=APPLE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-tessera-seed"] == "7"
    assert (
        answer.headers["x-tessera-model"] == f"tiny@{engine.checkpoints['tiny'].spec.digest[:12]}"
    )
    assert answer.headers["x-tessera-numerics"] == engine.models["tiny"].numerics
    assert answer.headers["content-location"] == "/v1/images/7.png?prompt=red%20apple&model=tiny"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept"
    timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(timing) == ["queue", "compute", "encode"]
    assert float(timing["compute"]) > 0
    metadata = read_metadata(answer.content)
    assert metadata is not None
    assert (metadata.prompt, metadata.seed, metadata.model) == ("red apple", 7, "tiny")
    assert metadata.numerics == engine.models["tiny"].numerics


async def test_an_equal_request_gives_equal_bytes_though_it_is_computed_again(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    body = APPLE | {"n": 2}  # so that no file is kept; the engine of these tests keeps nothing
    one, other = [await client.post("/v1/images", json=body) for _ in "ab"]
    assert one.json()["images"] == other.json()["images"]
    assert len(submitted) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "", "seed": "ada lovelace/ü?.png"},
        {"seed": 2**53 - 1, "steps": 3, "guidance": 1.25},
        {"solver_order": 2},
        {"size": 40, "background": "#f80"},
        {"size": "40x40"},
        {"format": "webp", "background": "transparent", "quality": 50},
        {"format": "jpeg", "background": "#102030"},
        {"model": "tiny-gpt", "temperature": 0.5, "top_k": 7, "top_p": 0.25},
        {"model": "tiny-gan"},
    ],
)
async def test_the_address_gives_the_same_bytes(
    client: httpx.AsyncClient,
    submitted: list[tuple[ImageRequest, ...]],
    fields: dict[str, object],
) -> None:
    posted = await client.post("/v1/images", json=APPLE | fields)
    assert posted.status_code == 200, posted.text
    fetched = await client.get(posted.headers["content-location"])
    assert fetched.status_code == 200, fetched.text
    assert fetched.content == posted.content
    assert fetched.headers["content-type"] == posted.headers["content-type"]
    # Where nothing was kept (a file is), the engine is asked for the same.
    assert len(set(submitted)) == 1


async def test_a_parameter_is_in_the_address_unless_it_is_the_default(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    body = {"seed": 7, "steps": 4, "guidance": 1.5, "solver_order": 2, "size": 16}
    answer = await client.post("/v1/images", json=body)
    assert answer.headers["content-location"] == (
        "/v1/images/7.png?model=tiny&guidance=1.5&solver_order=2"
    )
    ((request,),) = submitted
    assert (request.value("steps"), request.value("guidance")) == (4, 1.5)
    assert request.value("solver_order") == 2
    given = {"temperature": 0.5, "top_k": 7, "top_p": 0.25}
    answer = await client.post("/v1/images", json={"model": "tiny-gpt", "seed": 1, **given})
    for part in ("temperature=0.5", "top_k=7", "top_p=0.25"):
        assert part in answer.headers["content-location"]
    assert "steps" not in answer.headers["content-location"]
    assert [submitted[-1][0].value(name) for name in given] == list(given.values())


async def test_a_name_in_an_address_is_its_seed(client: httpx.AsyncClient) -> None:
    named = await client.get("/v1/images/ada.png")
    assert (await client.post("/v1/images", json={"seed": "ada"})).content == named.content
    number = named.headers["x-tessera-seed"]
    assert (await client.get(f"/v1/images/{number}.png")).content == named.content
    assert (await client.get("/v1/images/a.b.png")).status_code == 200


async def test_no_seed_is_a_random_one(client: httpx.AsyncClient) -> None:
    seeds = {(await client.post("/v1/images", json={})).headers["x-tessera-seed"] for _ in "ab"}
    assert len(seeds) == 2


async def test_json_holds_every_image_with_its_own_address(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE | {"seed": 2**53 - 1, "n": 3})
    assert answer.headers["content-type"] == "application/json"
    assert "content-location" not in answer.headers
    images = answer.json()["images"]
    assert [image["seed"] for image in images] == [2**53 - 1, 0, 1]
    assert [image["index"] for image in images] == [0, 1, 2]
    for image in images:
        alone = await client.get(image["url"])
        assert alone.content == base64.b64decode(image["b64_json"])


async def test_events_report_progress_previews_and_images(client: httpx.AsyncClient) -> None:
    body = APPLE | {"n": 2, "previews": True, "steps": 60}
    answer = await client.post("/v1/images", json=body, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    happened = list(events(answer.text))
    assert {name for name, _ in happened} == {"progress", "preview", "image", "done"}
    assert happened[-1] == ("done", {"images": 2})
    for name, data in happened:
        if name in ("preview", "image"):
            file = base64.b64decode(data["b64_json"])
            assert Image.open(BytesIO(file)).size == (16, 16)
        if name in ("progress", "preview"):
            assert data["index"] in (0, 1)
            assert 1 <= data["step"] < data["steps"] == 60


async def test_previews_come_only_when_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json=APPLE, headers={"Accept": "text/event-stream"})
    assert "event: preview" not in answer.text
    assert "event: image" in answer.text


async def test_a_size_is_a_number_or_width_x_height(client: httpx.AsyncClient) -> None:
    bodies = ({"size": 24}, {"size": "24"}, {"size": "24x24"}, {"size": 24.0})
    answers = [await client.post("/v1/images", json=APPLE | body) for body in bodies]
    answers.append(await client.get("/v1/images/7.png?prompt=red%20apple&size=24x24"))
    assert len({answer.content for answer in answers}) == 1
    assert Image.open(BytesIO(answers[0].content)).size == (24, 24)
    assert answers[0].headers["content-location"].endswith("&size=24")
    assert answers[0].headers["x-tessera-resampled-from"] == "16"
    assert "x-tessera-resampled-from" not in (await client.post("/v1/images", json=APPLE)).headers


async def test_head_and_304_run_no_model(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    head = await client.head("/v1/images/7.png?prompt=red%20apple")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "image/png"
    kept = await client.get(
        "/v1/images/7.png?prompt=red%20apple",
        headers={"If-None-Match": f'"other", W/{head.headers["etag"]}'},
    )
    assert (kept.status_code, kept.content) == (304, b"")
    assert kept.headers["etag"] == head.headers["etag"]
    assert submitted == []


async def test_only_short_addresses_of_single_images_are_remembered(
    engine: Engine, settings: Settings, metrics: Metrics
) -> None:
    """A thousand others, which cost a client nothing by HEAD, would take much memory."""
    short = "/v1/images/7.png?prompt=red%20apple"
    long = short + "%20" * (LONGEST_REMEMBERED // 3)
    async with application(engine, settings, metrics) as app, asking_app(app) as client:
        for address in (short, "/v1/images/7.webp?walk=6", long, short):
            assert (await client.head(address)).status_code == 200
        assert [*app.state.services.addresses] == [
            (b"/v1/images/7.png", b"prompt=red%20apple"),
        ]
        named = await client.get(f"{short}&numerics=other")
        assert (named.status_code, named.json()["error"]["code"]) == (404, "not_loaded")


async def test_the_etag_names_the_bytes(client: httpx.AsyncClient) -> None:
    addresses = [
        "/v1/images/7.png",
        "/v1/images/8.png",
        "/v1/images/7.webp",
        "/v1/images/7.png?prompt=a",
        "/v1/images/7.png?size=17",
        "/v1/images/7.png?steps=3",
        "/v1/images/7.png?solver_order=2",
        "/v1/images/7.png?background=f00",
        "/v1/images/7.png?walk=3",
        "/v1/images/7.png?walk=4",
        "/v1/images/7.png?model=tiny-gpt",
    ]
    tags = {(await client.head(address)).headers["etag"] for address in addresses}
    assert len(tags) == len(addresses)
    # A default that is named changes nothing.
    named = await client.head(
        "/v1/images/7.png?steps=4&guidance=2&solver_order=1&size=16x16&background=%23FFFFFF"
    )
    assert named.headers["etag"] == (await client.head("/v1/images/7.png")).headers["etag"]


async def test_an_address_is_immutable_only_if_it_pins_the_model(
    client: httpx.AsyncClient,
) -> None:
    plain = await client.head("/v1/images/7.png")
    assert plain.headers["cache-control"] == "public, max-age=3600"
    model = (await client.get("/v1/models/tiny")).json()
    pinned = await client.head(f"/v1/images/7.png?model=tiny@{model['digest'][:12]}")
    assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
    pinned = await client.head(f"/v1/images/7.png?numerics={model['numerics']}")
    assert "immutable" in pinned.headers["cache-control"]
    for other in ("model=tiny@0123456789ab", "numerics=others"):
        answer = await client.get(f"/v1/images/7.png?{other}")
        assert (answer.status_code, error(answer)["code"]) == (404, "not_loaded")
        assert answer.headers["cache-control"] == "no-store"


async def test_a_file_is_computed_and_encoded_once(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    hits = 'file_cache_hits_total{model="tiny"}'
    before = await metric(client, hits)
    first = await client.get("/v1/images/7.png")
    assert (await client.get("/v1/images/7.png")).content == first.content
    assert len(submitted) == 1
    assert await metric(client, hits) == before + 1


async def test_an_address_too_long_for_a_header_is_left_out(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", json={"prompt": " " * 1000, "seed": 1})
    assert answer.status_code == 200
    assert "content-location" not in answer.headers


class TestWithoutMemory:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(file_cache_bytes=0)

    async def test_no_file_is_kept(
        self, client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
    ) -> None:
        first = await client.get("/v1/images/7.png")
        assert (await client.get("/v1/images/7.png")).content == first.content
        assert len(submitted) == 2


class TestBehindAProxy:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(public_url=HttpUrl("https://pictures.example/t/"))

    async def test_addresses_begin_with_the_public_one(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/images", json=APPLE | {"n": 2})
        assert answer.json()["images"][0]["url"].startswith(
            "https://pictures.example/t/v1/images/7.png?"
        )
        one = await client.post("/v1/images", json=APPLE)
        assert one.headers["content-location"].startswith("/t/v1/images/7.png?")


async def test_an_address_says_what_its_file_says_of_itself(client: httpx.AsyncClient) -> None:
    tags = set()
    for metadata in ("none", "source", "full", None):
        body = {"prompt": "secret", "seed": 7} | ({"metadata": metadata} if metadata else {})
        posted = await client.post("/v1/images", json=body)
        address = posted.headers["content-location"]
        assert address.endswith(f"&metadata={metadata}") == (metadata is not None)
        fetched = await client.get(address)
        assert fetched.content == posted.content
        assert (b"secret" in fetched.content) == (metadata in ("full", None))
        assert (b"trainedAlgorithmicMedia" in fetched.content) == (metadata != "none")
        tags.add(fetched.headers["etag"])
    assert len(tags) == 3, "full is the default"


class TestMetadata:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(metadata="source")

    async def test_a_setting_is_the_default(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/images", json={"prompt": "secret", "seed": 7})
        assert "metadata" not in answer.headers["content-location"]
        assert b"secret" not in answer.content
        assert b"trainedAlgorithmicMedia" in answer.content
        answer = await client.post("/v1/images", json={"prompt": "secret", "metadata": "full"})
        assert b"secret" in answer.content
