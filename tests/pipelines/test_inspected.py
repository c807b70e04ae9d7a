"""A pipeline class that nobody here has heard of, installed by pip and served by a real service.

If these fail, a class without an entry in the catalogue is refused, draws something else than its
own call, or takes the service down with what it raises.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from tests.crowd import in_a_crowd_and_alone
from tests.faults.clients import workers
from tests.pipelines import made_up
from tests.pipelines.questions import Question, pixels
from tests.service.running import Service, running

pytestmark = pytest.mark.timeout(300)

NAME = "made-up"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    made_up.make(home / NAME)
    return home / NAME


@pytest.fixture(scope="module")
def serving(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server beside whose packages is the class's."""
    home = tmp_path_factory.mktemp("service")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made_up.install(home / "packages").items():
            patch.setenv(name, value)
        with running(folder, home / "log", CACHE_BYTES="0", FILE_CACHE_BYTES="0") as service:
            yield service.await_ready(patience=120)


def question(seed: int, prompt: str = "a red apple", **given: Any) -> Question:
    size = given.pop("size", (32, 32))
    parameters = {"steps": 4.0, "guidance": 3.0} | given
    return Question(NAME, prompt, seed, size, parameters=parameters)


ASKED = [
    question(0),
    question(1, "a blue house", steps=6, guidance=1),
    question(2, "", steps=3, guidance=7.5),
    question(3, "an old tree", steps=5, guidance=1.5, size=(32, 16)),
    question(4, "a red apple", steps=9, guidance=2),
]


async def ask(http: httpx.AsyncClient, asked: Question) -> httpx.Response:
    return await http.post("/v1/images", json=asked.body)


async def draw(http: httpx.AsyncClient, asked: Question) -> bytes:
    answer = await ask(http, asked)
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_it_draws_what_its_own_call_draws(folder: Path, serving: Service) -> None:
    """And the same bytes beside others as alone, and by address."""
    own = made_up.MadeUpPipeline.from_pretrained(folder, local_files_only=True)
    own.set_progress_bar_config(disable=True)
    async with serving.client() as http:
        model = (await http.get(f"/v1/models/{NAME}")).json()
        assert model["seed_exact"]
        answers = await in_a_crowd_and_alone(lambda asked: draw(http, asked), ASKED, apart=0.02)
        by_address = await http.get(ASKED[0].address)
    assert answers.differing == 0
    assert by_address.content == answers.alone[0]
    for asked, answer in zip(ASKED, answers.alone, strict=True):
        image = own(
            prompt=asked.prompt,
            width=asked.size[0],
            height=asked.size[1],
            num_inference_steps=int(asked.parameters["steps"]),
            guidance_scale=asked.parameters["guidance"],
            generator=torch.Generator().manual_seed(asked.seed),
        ).images[0]
        assert np.abs(pixels(answer) - np.asarray(image, dtype=np.int16)).max() <= 2


async def test_what_its_call_raises_is_told_to_whoever_asked_and_to_nobody_else(
    serving: Service,
) -> None:
    [worker] = workers(serving)
    async with serving.client() as http:
        alone = [await draw(http, asked) for asked in ASKED]
        failing = [question(9, made_up.REFUSED), question(9, made_up.BROKEN)] * 3
        neighbours = [asyncio.create_task(draw(http, asked)) for asked in ASKED]
        failed = await asyncio.gather(*(ask(http, asked) for asked in failing))
        assert await asyncio.gather(*neighbours) == alone
        for asked, answer in zip(failing, failed, strict=True):
            error = answer.json()["error"]
            if asked.prompt == made_up.REFUSED:
                assert (answer.status_code, error["code"]) == (400, "request_refused")
                assert "this prompt is not for me" in error["message"]
            else:
                assert (answer.status_code, error["code"]) == (500, "image_failed")
                assert "nothing is right here" in error["message"]
                assert answer.headers["x-should-retry"] == "false"
        assert (await http.get("/readyz")).status_code == 200
        assert await draw(http, ASKED[0]) == alone[0]
    assert serving.metric("worker_restarts_total") == 0
    assert serving.metric("rows_running") == 0
    assert [worker.pid] == [each.pid for each in workers(serving)]
    assert "RuntimeError: nothing is right here" in serving.log, "whoever runs it is told where"


async def test_a_stream_ends_with_what_was_raised(serving: Service) -> None:
    accept = {"Accept": "text/event-stream"}
    async with serving.client() as http:
        body = question(9, made_up.BROKEN).body | {"previews": True}
        answer = await http.post("/v1/images", json=body, headers=accept)
    *_, last = answer.text.strip().split("\n\n")
    event, _, data = last.partition("\ndata: ")
    assert event == "event: error"
    assert json.loads(data)["error"]["code"] == "image_failed"
    assert "event: preview" in answer.text, "it went well until then"
