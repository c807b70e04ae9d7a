"""A model that draws tokens and describes, behind a real server, beside a flow model."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.faults.clients import client, metric
from tests.service.running import Service, running
from tests.service.test_schema import CONFIG, HOOKS
from tests.tiny import PROMPTS, tiny_gpt

SIDE = 16
Answer = tuple[int, Any]


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt(tmp_path_factory.mktemp("models") / "tiny-gpt")


@pytest.fixture(scope="module")
def both(tiny: Path, gpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with both families that keeps nothing, so that everything is computed."""
    settings = {"MODELS": f"{tiny},{gpt}", "CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0"}
    log = tmp_path_factory.mktemp("service") / "log"
    with running(tiny, log, **settings, MAX_ROWS_WAITING="1000") as service:
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
    dice = random.Random(11)

    async with client(both) as http:

        async def later(number: int) -> Answer:
            await asyncio.sleep(dice.uniform(0, 0.02 * len(numbers)))
            return await ask(http, number)

        crowd = await asyncio.gather(*map(later, numbers))
        alone = [await ask(http, number) for number in numbers]
        assert {status for status, _ in alone} == {200}
        assert crowd == alone
        assert len({str(answer) for answer in alone}) == len(numbers)
        models = (await http.get("/v1/models")).json()["data"]
        assert [model["seed_exact"] for model in models] == [True, True]
        # Rows joined those that were under way, others went on when they were done, and none is
        # left behind.
        assert await metric(http, 'rows_joined_total{model="tiny-gpt"}') > 0
        assert await metric(http, 'rows_left_total{model="tiny-gpt"}') > 0
        assert await metric(http, 'rows_running{model="tiny-gpt"}') == 0
        assert await metric(http, 'descriptions_total{model="tiny-gpt"}') > 0


async def test_abandoned_rows_give_their_lanes_back(both: Service) -> None:
    """Clients that leave, again and again, must not use up the cache."""
    async with client(both) as http:
        for number in range(30):
            body = {"model": "tiny-gpt", "prompt": "red apple", "seed": number, "n": 4}
            request = http.build_request("POST", "/v1/images", json=body)
            request.headers["accept"] = "text/event-stream"
            answer = await http.send(request, stream=True)
            await answer.aclose()
        assert (await ask(http, 3))[0] == 200
        assert await metric(http, "worker_restarts_total") == 0


@pytest.mark.timeout(600)
def test_the_schema_holds_where_tokens_are_drawn(gpt: Path, full: bool, tmp_path: Path) -> None:
    """Other fields and one route more than with flow alone, which test_schema.py asks."""
    with running(gpt, tmp_path / "log", MAX_ROWS_WAITING="10000", REQUEST_TIMEOUT="600") as service:
        service.await_ready()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{service.url}/openapi.json", "--max-examples", "100" if full else "15"),
                *("--include-path-regex", "^/v1/images(/describe)?$"),
                *(() if full else ("--generation-deterministic",)),
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        metrics = httpx.get(f"{service.url}/metrics").text
        assert 'outcome="ok",route="/v1/images/describe"' in metrics
