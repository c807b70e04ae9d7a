"""Promise 1 as clients see it: the same request, the same bytes of the file, alone or in a crowd.

A real server, real requests. And the inverse: with the fixed tile switched off, the same
comparison finds differences, so it is able to.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.registry import shipped
from tests.crowd import in_a_crowd_and_alone
from tests.devices import DEVICES
from tests.service.running import Start, running

pytestmark = pytest.mark.timeout(900)

Body = dict[str, Any]

PROMPTS = ["", "red apple, noto style", "blue square", "绿色圆形"]


def mixed(count: int, *, steps: int = 12) -> list[Body]:
    """Requests that have little in common."""
    dice = random.Random(5)
    return [
        {
            "prompt": dice.choice(PROMPTS),
            "seed": dice.randrange(2**53),
            "n": dice.randint(1, 4),
            "steps": dice.randint(1, steps),
            "guidance": dice.choice([0.0, 1.0, 2.0, 7.5]),
        }
        for _ in range(count)
    ]


async def pictures(http: httpx.AsyncClient, body: Body) -> list[str]:
    """The request's files, in base64."""
    answer = await http.post("/v1/images", json=body, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return [image["b64_json"] for image in answer.json()["images"]]


async def differing(http: httpx.AsyncClient, requests: list[Body]) -> int:
    """How many of the requests, sent at random times, are answered otherwise than alone."""

    async def ask(body: Body) -> list[str]:
        return await pictures(http, body)

    answers = await in_a_crowd_and_alone(ask, requests, apart=0.02)
    files = {file for answer in answers.alone for file in answer}
    assert len(files) == sum(body["n"] for body in requests)
    return answers.differing


@pytest.mark.parametrize("device", DEVICES)
async def test_mixed_requests_at_random_times_equal_the_same_ones_alone(
    start: Start, full: bool, device: str
) -> None:
    requests = mixed(200 if full else 40)
    settings = {"DEVICES": device, "CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0"}
    with start(**settings, MAX_ROWS_WAITING="1000") as service:
        service.await_ready()
        async with service.client() as http:
            (model,) = (await http.get("/v1/models")).json()["data"]
            assert model["seed_exact"] is True
            assert await differing(http, requests) == 0
            drawn = sum(body["n"] for body in requests)
            assert service.metric("images_total") == 2 * drawn  # nothing out of a memory
            assert service.metric("rows_joined_total") > 0


@pytest.mark.parametrize("device", DEVICES)
async def test_without_the_fixed_tile_the_same_requests_differ(tmp_path: Path, device: str) -> None:
    # Strong guidance: it multiplies differences of the last bit until they show in pixels.
    requests = [body | {"guidance": 7.5} for body in mixed(8, steps=3)]
    settings = {"DEVICES": device, "CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0"}
    with running(shipped()[0], tmp_path / "log", ("tests.free_batch",), **settings) as service:
        service.await_ready()
        async with service.client() as http:
            differ = await differing(http, requests)
            (model,) = (await http.get("/v1/models")).json()["data"]
    if not differ:
        pytest.skip(f"0 of {len(requests)} differ in fp32 with free batches on {device}")
    assert model["seed_exact"] is False
