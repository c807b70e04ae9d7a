"""If these fail, strangers draw, or those with a key or a link cannot."""

from __future__ import annotations

import time

import httpx
import pytest
from pydantic import SecretStr

from app.api.keys import hash_key
from app.api.signing import Signer
from app.settings import Settings
from tests.api.easel import Easel

SECRET = "a secret of some length"
ADA = {"Authorization": "Bearer ada's key"}


@pytest.fixture
def settings() -> Settings:
    return Settings(
        api_keys={"ada": hash_key("ada's key"), "bob": hash_key("bob's key").upper()},
        url_secret=SecretStr(SECRET),
        metrics_access="key",
        docs_access="off",
        trusted_hosts=("tessera", "*.example.org"),
        cors_origins=("https://page.example",),
        rate_limit="100/hour",
    )


def signed(address: str, seconds: int = 60) -> str:
    return Signer(SECRET).sign(address, int(time.time()) + seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": "Basic ada's key"},
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer \xff"},
    ],
)
@pytest.mark.parametrize("address", ["/v1/images/7.png", "/v1/models", "/metrics", "/v1/nowhere"])
async def test_without_a_key_nothing_is_told(
    client: httpx.AsyncClient, address: str, headers: dict[str, str]
) -> None:
    answer = await client.get(address, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_key_stands_before_validation_and_before_304(
    client: httpx.AsyncClient,
) -> None:
    etag = (await client.head("/v1/images/7.png", headers=ADA)).headers["etag"]
    for address in ("/v1/images/7.png?steps=0", "/v1/images/7.png"):
        answer = await client.get(address, headers={"If-None-Match": etag})
        assert answer.status_code == 401
    assert (await client.post("/v1/images", content=b"{")).status_code == 401


async def test_each_key_opens_and_is_counted_by_name(client: httpx.AsyncClient) -> None:
    for key in ("ada's key", "bob's key"):
        headers = {"Authorization": f"bearer {key}"}
        answer = await client.get("/v1/images/7.png", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"].startswith("private")
        assert "Authorization" in answer.headers["vary"]
    text = (await client.get("/metrics", headers=ADA)).text
    assert 'tessera_key_requests_total{key="bob",outcome="ok"} 1.0' in text
    assert "s key" not in text


async def test_probes_are_open_and_docs_can_be_off(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    for address in ("/docs", "/docs/swagger-ui.css", "/openapi.json"):
        assert (await client.get(address, headers=ADA)).status_code == 404
    assert (await client.get("/v1/models", headers=ADA)).json()["docs"] is False


async def test_a_signed_address_opens_that_picture_only(client: httpx.AsyncClient) -> None:
    address = signed("/v1/images/ada%20l.png?prompt=r%C3%A9d&size=20")
    answer = await client.get(address)
    assert answer.status_code == 200
    kind, age = answer.headers["cache-control"].split(", ")
    assert kind == "public"
    assert 50 <= int(age.removeprefix("max-age=")) <= 60
    # The same in other words: order, and how characters are escaped.
    path, query = address.split("?")
    reordered = "&".join(reversed(query.split("&"))).replace("r%C3%A9d", "%72%c3%a9d")
    assert (await client.get(f"{path}?{reordered}")).status_code == 200
    for changed in (
        address.replace("ada", "eda"),
        address.replace("size=20", "size=21"),
        address.replace("expires=", "expires=9"),
        address + "&steps=3",
        address.replace("/v1/images/", "/v1/images/generations/"),
        address[:-1],
    ):
        refused = await client.get(changed)
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    assert (await client.get(signed("/v1/models"))).status_code == 401


async def test_a_signed_address_expires(client: httpx.AsyncClient) -> None:
    answer = await client.get(signed("/v1/images/7.png", -1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "expired")


async def test_a_signed_address_that_pins_is_kept_no_longer_than_it_holds(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get(signed("/v1/images/7.png?numerics=numerics-1"))
    assert int(answer.headers["cache-control"].split("max-age=")[1].split(",")[0]) <= 60


async def test_addresses_in_answers_work_without_a_key(client: httpx.AsyncClient) -> None:
    body = {"prompt": "apple", "response_format": "url"}
    answer = await client.post("/v1/images/generations", json=body, headers=ADA)
    assert (await client.get(answer.json()["data"][0]["url"])).status_code == 200


async def test_another_host_is_refused(client: httpx.AsyncClient) -> None:
    for host, status in (
        ("tessera:8000", 200),
        ("a.example.org", 200),
        ("example.org", 400),
        ("evil.test", 400),
    ):
        answer = await client.get("/livez", headers={"Host": host})
        assert answer.status_code == status, host


async def test_pages_of_listed_origins_may_call(client: httpx.AsyncClient) -> None:
    preflight = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = await client.options("/v1/images", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    answer = await client.get("/v1/models", headers=ADA | {"Origin": "https://page.example"})
    assert "X-Tessera-Seed" in answer.headers["access-control-expose-headers"]
    answer = await client.get("/v1/models", headers=ADA | {"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_limits_count_evaluations_of_each_key(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    body = {"prompt": "apple", "n": 10, "steps": 4}  # guided: 80 evaluations
    assert (await client.post("/v1/images", json=body, headers=ADA)).status_code == 200
    refused = await client.post("/v1/images", json=body, headers=ADA)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.json()["error"]["message"] == (
        "80 evaluations were asked for, the limit is 100 per 1 hour"
    )
    # Until this hour ends, and then until 60 of the 80 no longer count.
    assert 2700 <= int(refused.headers["retry-after"]) <= 6300
    assert len(easel.submitted) == 1
    # What can never be granted is not worth another try.
    bob = {"Authorization": "Bearer bob's key"}
    never = await client.post("/v1/images", json=body | {"steps": 50}, headers=bob)
    assert never.status_code == 429
    assert never.headers["x-should-retry"] == "false"
    assert (await client.post("/v1/images", json=body, headers=bob)).status_code == 200


async def test_what_costs_no_evaluation_is_not_limited(client: httpx.AsyncClient) -> None:
    for _ in range(30):
        assert (await client.get("/v1/images/7.png", headers=ADA)).status_code == 200
        assert (await client.head("/v1/images/8.png", headers=ADA)).status_code == 200


async def test_browsers_are_told_to_be_careful(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/images/7.png", headers=ADA)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
