"""If these fail, an image that takes longer than a balancer waits is lost, or drawn for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic import HttpUrl, SecretStr

from app.api.auth import hash_key
from app.api.preferences import Preferences, preferences
from app.api.signing import Signer
from app.engine import Engine, EngineSettings
from app.metrics import Metrics
from app.settings import Settings
from tests.api.application import application, asking, asking_app, asking_fakes, error, metric
from tests.engine.fakes import fake_engine, started, until, workers

LATER = {"Prefer": "respond-async"}
SECRET = "a secret of the service"
LONG = {"prompt": "a", "seed": 1, "steps": 200}  # of a fake: 400 evaluations


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keeping(tiny_models: dict[str, Path]) -> AsyncIterator[tuple[Engine, Metrics]]:
    """A real engine that keeps finished images in memory, as services do."""
    metrics = Metrics()
    settings = EngineSettings(
        models=(tiny_models["flow"],), devices=("cpu",), dtype="fp32", threads=1
    )
    async with started(Engine(settings, metrics)) as engine:
        await engine.wait_ready()
        yield engine, metrics


@pytest_asyncio.fixture(loop_scope="session")
async def served(
    keeping: tuple[Engine, Metrics], settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    engine, metrics = keeping
    async with asking(engine, settings, metrics) as client:
        yield client


async def fetched(client: httpx.AsyncClient, address: str) -> httpx.Response:
    """What an address gives in the end, asked as a client of it would ask."""
    for _ in range(1000):
        answer = await client.get(address, headers=LATER)
        if answer.status_code != 202:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{address} is still being drawn")


async def test_an_address_is_answered_at_once_and_drawn_once(
    served: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    address = "/v1/images/7.png?prompt=red%20apple&steps=100"
    drawn = await metric(served, "images_total")
    answer = await served.get(address, headers=LATER)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"http://tessera{address}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-location" not in answer.headers
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    assert body["images"] == [{"index": 0, "seed": 7, "url": answer.headers["location"]}]
    assert body["model"] == "tiny"
    # Asked again, by clients that wait and by one that does not, it joins what is being drawn.
    joined = await asyncio.gather(served.get(address, headers=LATER), served.get(address))
    assert [each.status_code for each in joined] == [202, 200]
    assert joined[1].content == (await client.get(address)).content  # of another engine
    assert (await fetched(served, address)).content == joined[1].content
    assert await metric(served, "images_total") == drawn + 1
    assert await metric(served, 'requests_total{outcome="accepted"}') >= 2


async def test_several_images_without_a_seed_get_an_address_each(
    served: httpx.AsyncClient,
) -> None:
    drawn = await metric(served, "images_total")
    body = {"prompt": "red apple", "n": 3, "steps": 60, "format": "webp", "metadata": "source"}
    answer = await served.post("/v1/images", json=body, headers=LATER)
    assert answer.status_code == 202, answer.text
    assert "location" not in answer.headers
    images = answer.json()["images"]
    first = int(answer.headers["x-tessera-seed"])
    assert [image["seed"] for image in images] == [first, first + 1, first + 2]
    for image in images:
        file = await fetched(served, image["url"])
        assert file.headers["content-type"] == "image/webp"
        assert b"red apple" not in file.content
    assert await metric(served, "images_total") == drawn + 3


async def test_it_is_drawn_though_nobody_asks_again(served: httpx.AsyncClient) -> None:
    drawn = await metric(served, "images_total")
    answer = await served.post("/v1/images", json={"seed": 40, "steps": 50}, headers=LATER)
    async with asyncio.timeout(30):
        while await metric(served, "images_total") == drawn:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
    file = await served.get(answer.headers["location"])
    assert file.headers["server-timing"].startswith("queue;dur=0.0, compute;dur=0.0")


async def test_what_need_not_be_drawn_is_answered_with_itself(served: httpx.AsyncClient) -> None:
    body = {"prompt": "red apple", "seed": 50, "n": 2}
    await served.post("/v1/images", json=body)
    again = await served.post("/v1/images", json=body, headers=LATER)
    assert (again.status_code, len(again.json()["images"])) == (200, 2)
    assert "preference-applied" not in again.headers
    one = await served.get("/v1/images/50.png?prompt=red%20apple", headers=LATER)
    assert (one.status_code, one.headers["content-type"]) == (200, "image/png")


async def test_a_client_may_wait_for_a_while_first(served: httpx.AsyncClient) -> None:
    short = await served.get("/v1/images/60.png", headers={"Prefer": "respond-async, wait=60"})
    assert (short.status_code, short.headers["content-type"]) == (200, "image/png")
    async with asking_fakes("slow") as client:
        began = time.monotonic()
        wait = {"Prefer": "wait=1,respond-async"}
        long = await client.post("/v1/images", json=LONG, headers=wait)
        assert long.status_code == 202
        assert 1 <= time.monotonic() - began < 10


async def test_streams_and_uploads_are_answered_as_always(served: httpx.AsyncClient) -> None:
    events = await served.post(
        "/v1/images", json={"seed": 70}, headers=LATER | {"Accept": "text/event-stream"}
    )
    assert (events.status_code, "event: done" in events.text) == (200, True)
    image = (await served.get("/v1/images/70.png")).content
    edited = await served.post(
        "/v1/images/transform",
        data={"operation": "vary", "seed": "1"},
        files={"image": image},
        headers=LATER,
    )
    assert (edited.status_code, edited.headers["content-type"]) == (200, "image/png")


async def test_without_room_in_memory_it_is_answered_as_always(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/images/7.png", headers=LATER)  # this engine keeps nothing
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert "preference-applied" not in answer.headers


async def test_what_is_refused_is_refused_at_once_and_polls_are_not_charged() -> None:
    settings = Settings(rate_limit="1000/hour")
    async with asking_fakes("slow", settings=settings, max_rows_waiting=1) as client:
        wrong = await client.post("/v1/images", json=LONG | {"steps": 0}, headers=LATER)
        assert (wrong.status_code, error(wrong)["param"]) == (400, "steps")
        full = await client.post("/v1/images", json=LONG | {"n": 2}, headers=LATER)
        assert (full.status_code, error(full)["code"]) == (503, "queue_full")
        for _ in range(5):  # 400 evaluations each, were they charged
            answer = await client.post("/v1/images", json=LONG, headers=LATER)
            assert answer.status_code == 202
            answer = await client.get(answer.headers["location"], headers=LATER)
            assert answer.status_code == 202
        other = LONG | {"seed": 100, "steps": 400}
        limited = await client.post("/v1/images", json=other, headers=LATER)
        assert (limited.status_code, error(limited)["code"]) == (429, "rate_limited")


async def test_it_survives_its_worker_and_a_request_that_kills_it_is_refused() -> None:
    async with asking_fakes("steady") as client:
        body = {"prompt": "a", "seed": 3, "steps": 50}
        later = await client.post("/v1/images", json=body, headers=LATER)
        await asyncio.sleep(0.2)
        (worker,) = workers()
        worker.kill()
        answer = await client.get(later.headers["location"])
        assert answer.status_code == 200
        assert await metric(client, "replays_total") == 1
        assert await metric(client, "images_total") == 1
        poison = {"prompt": "crash", "seed": 3}
        later = await client.post("/v1/images", json=poison, headers=LATER)
        assert later.status_code == 202
        answer = await fetched(client, later.headers["location"])
        assert (answer.status_code, error(answer)["code"]) == (500, "worker_crashed")


async def test_draining_waits_for_it_and_lets_its_clients_join() -> None:
    metrics = Metrics()
    async with started(fake_engine("steady", metrics=metrics)) as engine:
        await engine.wait_ready()
        async with application(engine, Settings(), metrics) as app, asking_app(app) as client:
            body = {"prompt": "a", "seed": 3, "steps": 100}
            later = await client.post("/v1/images", json=body, headers=LATER)
            draining = asyncio.create_task(engine.drain(60))
            await until(lambda: engine.state == "draining")
            refused = await client.post("/v1/images", json=body | {"seed": 4}, headers=LATER)
            assert (refused.status_code, error(refused)["code"]) == (503, "draining")
            again = await client.get(later.headers["location"], headers=LATER)
            assert again.status_code == 202
            assert (await client.get(later.headers["location"])).status_code == 200
            assert await draining is True
            # From memory, for as long as the process lives.
            assert (await client.get(later.headers["location"] + "&size=9")).status_code == 200


class TestWithKeys:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            api_keys={"ada": hash_key("key")},
            url_secret=SecretStr(SECRET),
            public_url=HttpUrl("https://pictures.example/t"),
        )

    async def test_an_address_is_signed_for_whoever_has_a_key(
        self, served: httpx.AsyncClient
    ) -> None:
        key = {"Authorization": "Bearer key"}
        assert (await served.get("/v1/images/80.png", headers=LATER)).status_code == 401
        body = {"prompt": "red apple", "seed": 80, "steps": 60}
        answer = await served.post("/v1/images", json=body, headers=LATER | key)
        prefix = "https://pictures.example/t"
        assert answer.headers["location"].startswith(f"{prefix}/v1/images/80.png?")
        path = answer.headers["location"].removeprefix(prefix)
        assert (await fetched(served, path)).status_code == 200

    async def test_a_signature_holds_no_longer_for_it(self, served: httpx.AsyncClient) -> None:
        path = Signer(SECRET).sign("/v1/images/81.png?steps=100", int(time.time()) + 60)
        answer = await served.get(path, headers=LATER)
        assert answer.status_code == 202
        assert answer.headers["location"] == f"https://pictures.example/t{path}"
        key = {"Authorization": "Bearer key"}
        answer = await served.get("/v1/images/82.png?steps=100", headers=LATER | key)
        assert answer.headers["location"].endswith("/v1/images/82.png?steps=100")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, Preferences()),
        (["respond-async"], Preferences(True)),
        (["Respond-Async; x=1 , WAIT=20"], Preferences(True, 20)),
        (['foo="a, respond-async", wait="5"'], Preferences(False, 5)),
        (["return=minimal", "respond-async", "wait=3, wait=9"], Preferences(True, 3)),
        (["respond-async, wait=-1"], Preferences(True)),
        (["respond-async, wait=1e9"], Preferences(True)),
        (['"', ",,;=", "wait=²"], Preferences()),
    ],
)
async def test_how_the_header_is_read(given: list[str] | None, read: Preferences) -> None:
    assert await preferences(given) == read
