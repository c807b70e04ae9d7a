"""If these fail, strangers draw, or those with a key or a link cannot."""

from __future__ import annotations

import time

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from app.api.auth import hash_key
from app.api.rate_limit import RateLimit
from app.api.signing import Signer
from app.metrics import Load, Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import error, png
from tests.engine.fakes import until
from tests.metrics import metric_in

SECRET = "a secret of some length"
ADA = {"Authorization": "Bearer ada's key"}
BOB = {"Authorization": "Bearer bob's key"}


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
async def test_without_a_key_nothing_is_answered(
    client: httpx.AsyncClient, address: str, headers: dict[str, str]
) -> None:
    answer = await client.get(address, headers=headers)
    assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
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
    assert metric_in(text, 'key_requests_total{key="bob",outcome="ok"}') >= 1
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
        assert (refused.status_code, error(refused)["type"]) == (403, "permission_error")
    assert (await client.get(signed("/v1/models"))).status_code == 401


async def test_a_signed_address_expires(client: httpx.AsyncClient) -> None:
    answer = await client.get(signed("/v1/images/7.png", -1))
    assert (answer.status_code, error(answer)["code"]) == (403, "expired")


async def test_a_signed_address_that_pins_is_kept_no_longer_than_it_holds(
    client: httpx.AsyncClient,
) -> None:
    numerics = (await client.get("/v1/models/tiny", headers=ADA)).json()["numerics"]
    answer = await client.get(signed(f"/v1/images/7.png?numerics={numerics}"))
    assert answer.status_code == 200
    assert int(answer.headers["cache-control"].split("max-age=")[1].split(",")[0]) <= 60


async def test_addresses_in_answers_work_without_a_key(client: httpx.AsyncClient) -> None:
    body = {"prompt": "apple", "response_format": "url"}
    answer = await client.post("/v1/images/generations", json=body, headers=ADA)
    assert (await client.get(answer.json()["data"][0]["url"])).status_code == 200


async def test_another_host_is_refused(client: httpx.AsyncClient) -> None:
    for host, status in (
        ("tessera:8000", 200),
        ("TESSERA", 200),
        ("a.example.org", 200),
        ("A.Example.ORG:443", 200),
        ("example.org", 400),
        ("aexample.org", 400),
        ("a.example.org.evil.test", 400),
        ("", 400),
        ("evil.test", 400),
    ):
        answer = await client.get("/", headers={"Host": host})
        assert answer.status_code == status, host
        for probe in ("/livez", "/readyz"):  # asked by address, as kubelet does
            assert (await client.get(probe, headers={"Host": host})).status_code == 200
        metrics = await client.get("/metrics", headers={"Host": host, **ADA})
        assert metrics.status_code == 200
    assert (error(answer)["code"], error(answer)["param"]) == ("untrusted_host", "Host")


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


async def test_the_word_signature_in_a_prompt_is_no_signature(client: httpx.AsyncClient) -> None:
    for address in (
        "/v1/images/7.png?prompt=signature=x",
        "/v1/images/7.png?prompt=my+signature=",
        "/v1/images/7.png?prompt=a%26signature=x",
    ):
        answer = await client.get(address, headers=ADA)
        assert answer.status_code == 200, answer.text
        assert (await client.get(address)).status_code == 401
    # A field of that name is one, wherever it stands, even beside a key.
    for query in ("signature=x", "prompt=a&signature=x", "signature=x&prompt=a"):
        answer = await client.get(f"/v1/images/7.png?{query}", headers=ADA)
        assert (answer.status_code, error(answer)["code"]) == (403, "invalid_signature")


async def test_limits_count_evaluations_of_each_key(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    body = {"prompt": "apple", "n": 10, "steps": 4}  # guided: 80 evaluations
    assert (await client.post("/v1/images", json=body, headers=ADA)).status_code == 200
    refused = await client.post("/v1/images", json=body, headers=ADA)
    assert (refused.status_code, error(refused)["code"]) == (429, "rate_limited")
    assert error(refused)["message"] == (
        "80 evaluations were asked for, the limit is 100 per 1 hour"
    )
    # Until this hour ends, and then until 60 of the 80 no longer count.
    assert 2700 <= int(refused.headers["retry-after"]) <= 6300
    assert len(submitted) == 1
    # What can never be granted is not worth another try.
    never = await client.post("/v1/images", json=body | {"steps": 50}, headers=BOB)
    assert never.status_code == 429
    assert never.headers["x-should-retry"] == "false"
    assert (await client.post("/v1/images", json=body, headers=BOB)).status_code == 200


@pytest.mark.parametrize(
    ("body", "evaluations"),
    [
        ({"prompt": "a", "steps": 51}, 102),
        ({"prompt": "a", "steps": 60, "guidance": 1}, None),
        ({"prompt": "a", "steps": 26, "solver_order": 2}, 104),
        ({"steps": 60}, None),
        ({"prompt": "a", "walk": 13}, 104),
        ({"prompt": "a", "walk": 13, "model": "tiny-gan"}, None),
        ({"prompt": "a", "n": 4, "model": "tiny-gpt"}, 128),
    ],
)
async def test_what_a_request_costs(
    client: httpx.AsyncClient, body: dict[str, object], evaluations: int | None
) -> None:
    answer = await client.post("/v1/images", json=body, headers=ADA)
    assert answer.status_code == (200 if evaluations is None else 429), answer.text
    if evaluations is not None:
        assert error(answer)["message"].startswith(f"{evaluations} evaluations were asked for")


async def test_a_description_is_counted_too(client: httpx.AsyncClient) -> None:
    picture = {"image": ("image", png(Image.new("RGB", (9, 9), "red")))}
    labels = {"labels": "\n".join(f"label {number}" for number in range(40))}
    answers = [
        await client.post("/v1/images/describe", files=picture, data=labels, headers=ADA)
        for _ in "ab"
    ]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert error(answers[1])["message"].startswith("56 evaluations")  # 16 of a caption, 40 labels


async def test_what_cannot_be_charged_leaves_the_batch(
    client: httpx.AsyncClient, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where two requests are checked at one time, and only the first finds enough left."""

    async def unchecked(*_: object) -> None:
        pass

    monkeypatch.setattr(RateLimit, "check", unchecked)
    name = 'cancellations_total{model="tiny"}'
    before = metric_in(metrics.render().decode(), name)
    body = {"prompt": "a", "n": 10, "steps": 100}
    for headers in (ADA, ADA | {"Accept": "text/event-stream"}):
        answer = await client.post("/v1/images", json=body, headers=headers)
        assert (answer.status_code, error(answer)["code"]) == (429, "rate_limited")
    await until(lambda: metric_in(metrics.render().decode(), name) == before + 20)
    assert metrics.load["tiny"] == Load(waiting=0, running=0)


async def test_what_is_refused_is_not_charged(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        body = {"prompt": "a", "n": 10, "steps": 4}
        refused = await client.post("/v1/images", json=body | {"guidance": 11}, headers=ADA)
        assert refused.status_code == 400
        late = await client.post("/v1/images", json=body, headers=ADA | {"Accept": "image/png"})
        assert late.status_code == 406
    assert (await client.post("/v1/images", json=body, headers=ADA)).status_code == 200


async def test_what_costs_no_evaluation_is_not_limited(client: httpx.AsyncClient) -> None:
    for _ in range(30):
        assert (await client.get("/v1/images/7.png", headers=ADA)).status_code == 200
        assert (await client.head("/v1/images/8.png", headers=ADA)).status_code == 200


async def test_answers_have_security_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/images/7.png", headers=ADA)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
