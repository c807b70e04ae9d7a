"""If these fail, a balancer loses work, holds back streams or draws an address more than once.

The configurations of deploy/: a real nginx, and a real Envoy, each in front of two real services.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.deploy.clients import Outcome, ask, request
from tests.deploy.fleet import BALANCERS, Deployment, Replica, fleet

Program = Callable[[str], str]


@pytest.fixture(scope="module", params=BALANCERS)
def deployed(
    request: pytest.FixtureRequest,
    program: Program,
    replicas: list[Replica],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    path = program(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    ports = [replica.port for replica in replicas]
    with BALANCERS[request.param](path, folder, ports) as url:
        yield Deployment(request.param, url, replicas)


def new(deployed: Deployment, first: int) -> range:
    """Seeds that no replica has drawn for another balancer."""
    first += 1000 * list(BALANCERS).index(deployed.balancer)
    return range(first, first + 24)


async def ask_at_once(url: str, seeds: range, times: int) -> set[int]:
    """Asks for each image so many times at once; the statuses."""
    async with httpx.AsyncClient(
        base_url=url, timeout=300, limits=httpx.Limits(max_connections=200)
    ) as http:
        answers = await asyncio.gather(
            *(http.get(f"/v1/images/{seed}.png?steps=30") for seed in seeds for _ in range(times))
        )
    return {answer.status_code for answer in answers}


async def test_those_who_ask_for_one_image_at_once_meet_in_one_replica(
    deployed: Deployment,
) -> None:
    drawn = deployed.metric("images_total")
    per_replica = [replica.service.metric("images_total") for replica in deployed.replicas]
    assert await ask_at_once(deployed.url, new(deployed, 100), 4) == {200}
    assert deployed.metric("images_total") == drawn + 24
    for replica, before in zip(deployed.replicas, per_replica, strict=True):
        assert replica.service.metric("images_total") > before  # both have their share


async def test_without_the_hash_they_do_not_meet(
    program: Program, deployed: Deployment, tmp_path: Path
) -> None:
    # The test above would prove nothing if a cache, or chance, did it.
    ports = [replica.port for replica in deployed.replicas]
    without = {
        "nginx": ("hash $request_uri consistent;", ""),
        "envoy": ("lb_policy: RING_HASH", "lb_policy: ROUND_ROBIN"),
    }
    start = BALANCERS[deployed.balancer]
    with start(program(deployed.balancer), tmp_path, ports, without[deployed.balancer]) as url:
        drawn = deployed.metric("images_total")
        assert await ask_at_once(url, new(deployed, 200), 4) == {200}
        assert deployed.metric("images_total") > drawn + 24


async def test_events_are_passed_on_as_they_come(deployed: Deployment) -> None:
    async def until_the_first(http: httpx.AsyncClient, seed: int) -> float:
        """As a part of the time until all are drawn, which it would be if events were held back."""
        body = {"prompt": "red apple", "seed": seed, "steps": 100, "n": 8, "previews": True}
        events = {"Accept": "text/event-stream"}
        began = time.monotonic()
        async with http.stream("POST", "/v1/images", json=body, headers=events) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: progress"
            first = time.monotonic()
            assert "event: done" in [line async for line in lines]
        return (first - began) / (time.monotonic() - began)

    async with deployed.client() as http:
        parts = [await until_the_first(http, seed) for seed in new(deployed, 300)[::8]]
    assert min(parts) < 0.5


def test_uploads_are_taken_up_to_the_services_own_limit(deployed: Deployment) -> None:
    limit = Settings.model_fields["max_upload_bytes"].default
    codes = {}
    for size in (limit - 1000, limit, 2 * limit):  # of the file; the form is a little larger
        answer = httpx.post(
            f"{deployed.url}/v1/images/transform",
            data={"operation": "vary"},
            files={"image": b"x" * size},
            timeout=60,
        )
        codes[size] = answer.status_code, answer.json()["error"]["code"]
    assert codes == {
        limit - 1000: (400, "unsupported_image"),
        limit: (413, "body_too_large"),
        2 * limit: (413, "body_too_large"),
    }


@pytest.mark.parametrize("balancer", BALANCERS)
def test_without_replicas_the_answer_has_the_services_form(
    balancer: str, program: Program, tmp_path: Path
) -> None:
    with BALANCERS[balancer](program(balancer), tmp_path, [1]) as url:
        for path in ("/v1/models", "/v1/images/7.png"):
            answer = httpx.get(url + path)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "no_replica"
            assert answer.headers["retry-after"] == "2"


def test_metrics_are_not_for_everyone(deployed: Deployment) -> None:
    assert httpx.get(f"{deployed.url}/metrics").status_code == 404
    assert httpx.get(f"{deployed.url}/readyz").status_code == 200


# Replicas that come and go ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("balancer", BALANCERS)
async def test_nothing_is_lost_while_replicas_come_and_go(
    balancer: str, program: Program, tiny: Path, tmp_path: Path, full: bool
) -> None:
    if not full:
        pytest.skip("takes minutes: TESSERA_TEST_FULL=1")
    count = 1000
    path = program(balancer)
    with (
        fleet(tiny, tmp_path, SHUTDOWN_TIMEOUT="60") as replicas,
        BALANCERS[balancer](path, tmp_path, [replica.port for replica in replicas]) as url,
    ):
        seen = Outcome()
        async with replicas[0].service.client() as http:
            expected = [await ask(http, *request(k), seen) for k in range(count)]
        assert seen.streams_begun_again == 0

        # Requests go on until the replicas have come and gone that often.
        ends = [signal.SIGTERM, signal.SIGKILL] * 2
        ended = asyncio.Event()
        order = iter(range(10**9))

        async def clients(http: httpx.AsyncClient) -> None:
            while (turn := next(order)) < count or not ended.is_set():
                k = turn % count
                answer = await ask(http, *request(k), seen)
                seen.answered += 1
                seen.wrong += answer != expected[k]

        async def come_and_go() -> None:
            for turn, number in enumerate(ends):
                replica = replicas[turn % 2]
                await asyncio.sleep(5)  # Envoy asks every two whether one is ready again
                replica.service.signal(number)
                await asyncio.to_thread(replica.service.process.wait, 90)
                await asyncio.to_thread(replica.restart)
                await asyncio.to_thread(replica.service.await_ready, 180)
            ended.set()

        limits = httpx.Limits(max_connections=50)
        async with (
            httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(come_and_go())
            for _ in range(6):
                group.create_task(clients(http))
        print(f"{balancer}: {seen}, {count} different requests; {len(ends)} ends")
        assert seen.answered >= count
        assert seen.wrong == 0
        if balancer == "nginx":
            log = (tmp_path / "access.log").read_text()
            hits, retries = log.count("cache=HIT"), len(re.findall(r'answers="\d+,', log))
            print(f"{hits} from its cache, {retries} given to the next replica")
            assert hits
            assert retries
