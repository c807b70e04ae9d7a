"""If these fail, balancers, monitoring and people cannot tell what runs here, or how well."""

from __future__ import annotations

import re

import httpx

from tests.api.easel import Easel


async def test_ready_follows_the_engine(client: httpx.AsyncClient, easel: Easel) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    easel.state = "failed"
    easel.failure = "model.safetensors: truncated"
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "model.safetensors: truncated" in answer.json()["error"]["message"]
    assert (await client.get("/livez")).status_code == 200


async def test_before_loading_pictures_are_refused_and_models_described(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    easel.models = {}
    answer = await client.post("/v1/images", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == "2"
    model = (await client.get("/v1/models")).json()["data"][0]
    assert (model["id"], model["numerics"]) == ("tiny", None)


async def test_models_say_what_they_take(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    model = (await client.get("/v1/models/tiny")).json()
    assert listed.pop("limits") == {
        "n": 10,
        "size": 1024,
        "prompt_characters": 1000,
        "upload_bytes": 2**24,
        "upload_pixels": 2**24,
    }
    assert listed == {"object": "list", "data": [model], "docs": True}
    assert model["steps"] == {"minimum": 1, "maximum": 100, "default": 4}
    assert model["numerics"] == "numerics-1"
    assert model["seed_exact"] is True


async def test_metrics_count_by_route_and_outcome(client: httpx.AsyncClient) -> None:
    await client.get("/v1/images/7.png?prompt=secret")
    await client.get("/v1/images/7.png?steps=0")
    text = (await client.get("/metrics")).text
    route = 'route="/v1/images/{seed}.{format}"'
    assert f'tessera_request_seconds_count{{outcome="ok",{route}}} 1.0' in text
    assert f'tessera_request_seconds_count{{outcome="invalid",{route}}} 1.0' in text
    assert "tessera_ready 1.0" in text
    assert "secret" not in text


async def test_every_answer_has_an_id(client: httpx.AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = await client.get("/nowhere", headers={"X-Request-Id": "no good\nid"})
    assert len(made.headers["x-request-id"]) == 16


async def test_the_schema_and_its_page_are_served(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="((?:docs|web)/[^"]+)"', page.text)
    assert "docs/swagger-ui-bundle.js" in named
    for name in named:
        assert (await client.get(f"/{name}")).status_code == 200, name
    assert (await client.get("/docs/redoc.standalone.js")).status_code == 404
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/v1/images/{seed}.{format}" in paths
    assert not [path for path in paths if path.startswith("/docs")]
