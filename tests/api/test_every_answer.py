"""If these fail, an answer is not what HTTP, or this service everywhere else, says of it."""

from __future__ import annotations

import gzip
import logging

import httpx
import pytest
from fastapi import APIRouter
from PIL import Image
from pydantic import HttpUrl

from app.api.deps import Services
from app.engine import Engine
from app.metrics import Metrics
from app.settings import Settings
from tests.api.application import application, asking, asking_app, error, metric, png

JSON = {"Content-Type": "application/json"}
ADDRESS = "/v1/images/7.png?prompt=red%20apple&steps=2"


@pytest.fixture
def settings() -> Settings:
    return Settings(
        cors_origins=("https://page.example",),
        public_url=HttpUrl("https://pictures.example.org/tessera"),
        model_aliases={"dall-e-3": "tiny", "gpt-image-1": "tiny"},
    )


async def test_whatever_can_be_got_has_a_head(
    engine: Engine, settings: Settings, metrics: Metrics
) -> None:
    async with application(engine, settings, metrics) as app, asking_app(app) as client:
        paths = set((await client.get("/openapi.json")).json()["paths"])
        paths |= {"/", "/docs", "/openapi.json", "/tessera.js"}
        for path in paths:
            address = path.replace("{id}", "tiny").replace("{seed}.{format}", "7.png")
            got, head = await client.get(address), await client.head(address)
            assert head.status_code == got.status_code, address
            assert head.headers.get("content-type") == got.headers.get("content-type"), address
            if path != "/metrics":  # they count what was asked
                lengths = {got.headers["content-length"], None}
                assert head.headers.get("content-length") in lengths, address


async def test_a_head_draws_nothing_and_has_the_same_name(client: httpx.AsyncClient) -> None:
    head = await client.head(ADDRESS)
    assert "content-length" not in head.headers
    got = await client.get(ADDRESS)
    for name in ("etag", "cache-control", "content-type", "content-location"):
        assert head.headers[name] == got.headers[name]


async def test_an_image_says_its_address_as_clients_see_it(client: httpx.AsyncClient) -> None:
    got = await client.get(ADDRESS)
    posted = await client.post("/v1/images/generations", json={"prompt": "a", "seed": 7})
    for answer in (got, await client.head(ADDRESS), posted):
        assert answer.headers["content-location"].startswith("/tessera/v1/images/7.png?")


@pytest.mark.parametrize("spelled", ["jpg", "JPG", "Jpeg", "PNG", "WebP"])
async def test_a_format_is_known_by_the_names_that_people_write(
    client: httpx.AsyncClient, spelled: str
) -> None:
    media_type = f"image/{spelled.lower().replace('jpg', 'jpeg')}"
    got = await client.get(f"/v1/images/7.{spelled}?steps=2")
    posted = await client.post("/v1/images", json={"seed": 7, "steps": 2, "format": spelled})
    assert got.headers["content-type"] == posted.headers["content-type"] == media_type
    assert got.content == posted.content
    body = {"prompt": "a", "seed": 7, "output_format": spelled, "response_format": "url"}
    (image,) = (await client.post("/v1/images/generations", json=body)).json()["data"]
    assert f"/7.{media_type.removeprefix('image/')}?" in image["url"]
    assert (await client.get("/v1/images/7.bmp")).status_code == 400


async def test_what_was_left_empty_in_a_form_was_not_sent(client: httpx.AsyncClient) -> None:
    picture = {"image": png(Image.new("RGB", (4, 4)))}
    optional = ("model", "size", "quality", "background", "metadata", "lora", "steps", "seed", "n")
    texts = dict.fromkeys((*optional, "format", "previews", "left"), "")
    answer = await client.post(
        "/v1/images/transform", data={"operation": "vary", **texts}, files=picture
    )
    assert answer.status_code == 200, answer.text
    texts = dict.fromkeys(("model", "n", "size", "quality", "stream", "seed", "user"), "")
    answer = await client.post("/v1/images/edits", data={"prompt": "", **texts}, files=picture)
    assert error(answer)["param"] == "prompt", "restyle needs one"
    answer = await client.post("/v1/images/edits", data={"prompt": "a", **texts}, files=picture)
    assert answer.status_code == 200, answer.text
    nonsense = {"operation": "vary", "nonsense": ""}
    answer = await client.post("/v1/images/transform", data=nonsense, files=picture)
    assert error(answer)["code"] == "unknown_field"
    answer = await client.post("/v1/images", json={"size": ""})
    assert error(answer)["param"] == "size", "JSON has null"


async def test_a_name_on_another_line_is_looked_at(client: httpx.AsyncClient) -> None:
    etag = (await client.head(ADDRESS)).headers["etag"]
    headers = [("If-None-Match", '"another"'), ("If-None-Match", f'W/{etag}, "third"')]
    assert (await client.get(ADDRESS, headers=headers)).status_code == 304


@pytest.mark.parametrize(
    "address", ["/v1/images/generations/", "/v1/images/", "/v1/models/", "/docs/", "/livez/"]
)
async def test_nothing_is_redirected(client: httpx.AsyncClient, address: str) -> None:
    for answer in (await client.post(address, json={}), await client.get(address)):
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert error(answer)["code"] == "not_found"


async def test_the_document_says_where_the_service_is(client: httpx.AsyncClient) -> None:
    servers = (await client.get("/openapi.json")).json()["servers"]
    assert servers == [{"url": "https://pictures.example.org/tessera"}]


class TestWhatFailsInAWayThatIsNotKnown:
    async def test_is_headed_and_shaped_as_all_errors(
        self, engine: Engine, settings: Settings, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        router = APIRouter()

        @router.get("/v1/broken")
        async def broken() -> None:
            raise ZeroDivisionError

        async with application(engine, settings, metrics) as app:
            app.include_router(router)
            async with asking_app(app) as client:
                with caplog.at_level(logging.ERROR):
                    answer = await client.get("/v1/broken", headers={"X-Request-Id": "r-1"})
        assert (answer.status_code, error(answer)["code"]) == (500, "internal_error")
        assert answer.headers["x-request-id"] == "r-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "ZeroDivisionError" in caplog.text
        assert 'tessera_requests_total{outcome="failed"}' in metrics.render().decode()

    async def test_has_the_headers_of_a_page_that_may_call(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(Services, "checkpoint")
        headers = {"Origin": "https://page.example"}
        answer = await client.post("/v1/images", json={}, headers=headers)
        assert answer.status_code == 500
        assert answer.headers["access-control-allow-origin"] == "https://page.example"


async def test_a_refused_preflight_is_an_error_as_all_are(client: httpx.AsyncClient) -> None:
    counted = 'requests_total{outcome="invalid"}'
    before = await metric(client, counted)
    refused = ({"Origin": "https://other"}, {"Access-Control-Request-Method": "DELETE"})
    for changed in refused:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        answer = await client.options("/v1/images", headers=asked | changed)
        assert (answer.status_code, error(answer)["code"]) == (400, "cors_refused")
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert await metric(client, counted) == before + 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"prompt": "\xff"}', "byte 12 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"seed": ', "Expecting value"),
        ('{"prompt": "é"}'.encode("utf-16"), ""),
    ],
)
async def test_a_body_that_is_no_json_is_told_why(
    client: httpx.AsyncClient, body: bytes, says: str
) -> None:
    answer = await client.post("/v1/images", content=body, headers=JSON)
    if answer.status_code != 200:  # json.loads itself reads UTF-16
        assert (answer.status_code, error(answer)["code"]) == (400, "invalid_json")
        assert error(answer)["message"].startswith("the body is not JSON: ")
        assert says in error(answer)["message"]


@pytest.mark.parametrize("address", ["/v1/images", "/v1/images/generations", "/v1/images/edits"])
async def test_a_compressed_body_is_refused_by_its_name(
    client: httpx.AsyncClient, address: str
) -> None:
    kind = "multipart/form-data; boundary=a" if address.endswith("edits") else JSON["Content-Type"]
    answer = await client.post(
        address,
        content=gzip.compress(b'{"prompt": "a"}'),
        headers={"Content-Type": kind, "Content-Encoding": "gzip"},
    )
    assert (answer.status_code, error(answer)["code"]) == (415, "unsupported_encoding")
    assert "Content-Encoding: gzip" in error(answer)["message"]


class TestClientsOfDallE:
    """LangChain's two tools."""

    async def test_may_name_a_style(self, client: httpx.AsyncClient) -> None:
        for style in ("vivid", "natural"):
            body = {"prompt": "a", "seed": 1, "style": style, "response_format": "b64_json"}
            assert (await client.post("/v1/images/generations", json=body)).status_code == 200

    async def test_get_addresses_where_they_do_not_say_what_they_want(
        self, client: httpx.AsyncClient
    ) -> None:
        body = {"prompt": "a", "seed": 1, "model": "dall-e-3"}
        (image,) = (await client.post("/v1/images/generations", json=body)).json()["data"]
        assert image["url"].startswith("https://pictures.example.org/tessera/v1/images/")
        for other in ({"response_format": "b64_json"}, {"model": "gpt-image-1"}):
            answer = await client.post("/v1/images/generations", json=body | other)
            (image,) = answer.json()["data"]
            assert image["b64_json"]


async def test_without_a_worker_it_is_not_ready_and_says_so(
    engine: Engine, settings: Settings, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(engine, settings, metrics) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert "tessera_workers 1.0" in (await client.get("/metrics")).text
        monkeypatch.setattr(Engine, "workers", 0)
        answer = await client.get("/readyz")
        assert (answer.status_code, error(answer)["code"]) == (503, "no_worker")
        assert "tessera_ready 0.0" in (await client.get("/metrics")).text
        assert (await client.get("/livez")).status_code == 200
