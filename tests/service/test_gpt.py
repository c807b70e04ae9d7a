"""A model that draws tokens and describes, behind a real server, beside a flow model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.crowd import in_a_crowd_and_alone
from tests.service.running import Service, running
from tests.tiny import PROMPTS

SIDE = 16
Answer = tuple[int, Any]


@pytest.fixture(scope="module")
def both(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A server with both families that keeps nothing, so that everything is computed."""
    settings = {"CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0", "MAX_ROWS_WAITING": "1000"}
    models = f"{tiny_models['flow']},{tiny_models['gpt']}"
    log = tmp_path_factory.mktemp("service") / "log"
    with running(tiny_models["flow"], log, **settings, MODELS=models) as service:
        yield service.await_ready()


def upload(seed: int) -> dict[str, tuple[str, bytes]]:
    file = BytesIO()
    noise = random.Random(seed).randbytes(SIDE * SIDE * 4)
    Image.frombytes("RGBA", (SIDE, SIDE), noise).save(file, "PNG")
    return {"image": ("image", file.getvalue())}


def lower_half() -> bytes:
    file = BytesIO()
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, SIDE // 2, SIDE, SIDE))
    mask.save(file, "PNG")
    return file.getvalue()


async def ask(http: httpx.AsyncClient, number: int) -> Answer:
    """Request ``number`` of a mixture: drawings with settings of their own, and all else it can."""
    dice = random.Random(number)
    settings = {
        "prompt": dice.choice(["", *PROMPTS]),
        "seed": dice.randrange(2**53),
        "guidance": dice.choice([1.0, 1.5, 2.0, 7.5]),
        "temperature": dice.choice([0.5, 1.0, 1.5]),
        "top_k": dice.choice([0, 3, 8]),
        "top_p": dice.choice([0.5, 0.9, 1.0]),
        "model": "tiny-gpt",
    }
    match number % 4:
        case 0 if number % 8:
            texts = {"labels": "cat,dog,red apple"} if number % 3 else {}
            answer = await http.post("/v1/images/describe", files=upload(number), data=texts)
            return answer.status_code, answer.json()
        case 1:
            files = upload(number) | {"mask": ("mask", lower_half())}
            texts = {name: str(value) for name, value in settings.items()}
            texts["operation"] = "inpaint"
            answer = await http.post("/v1/images/transform", files=files, data=texts)
        case 2:
            answer = await http.post("/v1/images", json={"seed": number, "steps": 7})  # flow's
        case _:
            answer = await http.post("/v1/images", json=settings)
    return answer.status_code, answer.content


async def test_mixed_requests_at_random_times_equal_the_same_ones_alone(
    both: Service, full: bool
) -> None:
    numbers = range(1, 65 if full else 25)
    async with both.client() as http:

        async def asked(number: int) -> Answer:
            return await ask(http, number)

        answers = await in_a_crowd_and_alone(asked, numbers, apart=0.02)
        assert {status for status, _ in answers.alone} == {200}
        assert answers.differing == 0
        assert len({str(answer) for answer in answers.alone}) == len(numbers)
        models = (await http.get("/v1/models")).json()["data"]
        assert [model["seed_exact"] for model in models] == [True, True]
    # Rows joined those that were under way, others went on when they were done, and none is left
    # behind.
    assert both.metric('rows_joined_total{model="tiny-gpt"}') > 0
    assert both.metric('rows_left_total{model="tiny-gpt"}') > 0
    assert both.metric('rows_running{model="tiny-gpt"}') == 0
    assert both.metric('descriptions_total{model="tiny-gpt"}') > 0


async def test_abandoned_rows_give_their_kv_slots_back(both: Service) -> None:
    """Clients that leave, again and again, must not use up the cache."""
    async with both.client() as http:
        for number in range(30):
            body = {"model": "tiny-gpt", "prompt": "red apple", "seed": number, "n": 4}
            request = http.build_request("POST", "/v1/images", json=body)
            request.headers["accept"] = "text/event-stream"
            answer = await http.send(request, stream=True)
            await answer.aclose()
        assert (await ask(http, 3))[0] == 200
    assert both.metric("worker_restarts_total") == 0
