"""Three families behind one server, chosen by ``model``, in batches of their own at one time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from model.registry import shipped
from tests.crowd import in_a_crowd_and_alone
from tests.service.running import Service, running
from tests.tiny import PROMPTS

FAMILIES = {"flow": "tiny", "gpt": "tiny-gpt", "gan": "tiny-gan"}
"""And the models that are of them."""

Answer = tuple[int, bytes, str]


@pytest.fixture(scope="module")
def three(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A server that keeps nothing, so that everything is computed."""
    settings = {"CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0", "MAX_ROWS_WAITING": "1000"}
    log = tmp_path_factory.mktemp("service") / "log"
    models = ",".join(str(tiny_models[family]) for family in FAMILIES)
    with running(tiny_models["flow"], log, **settings, MODELS=models) as service:
        yield service.await_ready()


def family_of(number: int) -> str:
    """They take turns."""
    return list(FAMILIES)[number % 3]


def asked(number: int) -> dict[str, Any]:
    """Request ``number`` of a mixture of all families and of what each takes."""
    dice = random.Random(number)
    family = family_of(number)
    body: dict[str, Any] = {
        "model": FAMILIES[family],
        "prompt": dice.choice(["", *PROMPTS]),
        "seed": dice.randrange(2**53),
    }
    match family:
        case "flow":
            body |= {"steps": dice.randint(2, 9), "guidance": dice.choice([1.0, 2.0, 4.0])}
        case "gpt":
            body |= {"temperature": dice.choice([0.5, 1.0]), "guidance": dice.choice([1.0, 2.0])}
    if family != "gpt" and number % 4 == 0:
        body |= {"walk": 5}
    return body


async def ask(http: httpx.AsyncClient, number: int) -> Answer:
    answer = await http.post("/v1/images", json=asked(number))
    return answer.status_code, answer.content, answer.headers.get("x-tessera-model", "")


async def test_each_is_answered_by_the_model_that_it_names_as_if_alone(
    three: Service, full: bool
) -> None:
    numbers = range(120 if full else 48)
    async with three.client() as http:

        async def asking(number: int) -> Answer:
            return await ask(http, number)

        answers = await in_a_crowd_and_alone(asking, numbers, apart=0.01)
        assert {status for status, _, _ in answers.alone} == {200}
        assert answers.differing == 0
        assert len({content for _, content, _ in answers.alone}) == len(numbers)
        for number, (_, _, model) in zip(numbers, answers.alone, strict=True):
            assert model.startswith(f"{FAMILIES[family_of(number)]}@")
        models = (await http.get("/v1/models")).json()["data"]
        assert [model["family"] for model in models] == list(FAMILIES)
        assert [model["seed_exact"] for model in models] == [True, True, True]
    for name in FAMILIES.values():
        assert three.metric(f'images_total{{model="{name}"}}') > 0
        assert three.metric(f'rows_running{{model="{name}"}}') == 0
    assert three.metric("worker_restarts_total") == 0


async def test_a_model_refuses_what_only_another_can(three: Service) -> None:
    """And names the field, whatever its neighbours in the process can do."""
    cases = [
        ({"model": "tiny-gan", "steps": 4}, "steps", "4 was given, 1 is accepted"),
        ({"model": "tiny-gan", "temperature": 0.5}, "temperature", "means nothing to tiny-gan"),
        ({"model": "tiny-gpt", "walk": 8}, "walk", "tiny-gpt cannot walk"),
        ({"model": "tiny", "top_k": 3}, "top_k", "means nothing to tiny, which takes steps"),
    ]
    async with three.client() as http:
        for body, param, said in cases:
            answer = await http.post("/v1/images", json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["param"] == param
            assert said in error["message"]


async def test_an_address_names_the_model_too(three: Service) -> None:
    query = {"prompt": "red apple", "background": "transparent"}
    async with three.client() as http:
        files = {}
        for name in FAMILIES.values():
            answer = await http.get("/v1/images/7.png", params=query | {"model": name})
            files[name] = answer.content
            with Image.open(BytesIO(answer.content)) as picture:
                assert picture.info["model"] == name
        assert len(set(files.values())) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_all_that_ship_are_served_by_one_process(tmp_path: Path) -> None:
    """In one batch each, flow first."""
    folders = shipped()
    names = [folder.name for folder in folders]
    if len(names) < 2:
        pytest.skip(f"only {', '.join(names)} is in the tree")
    models = ",".join(map(str, folders))
    settings = {"MODELS": models, "DTYPE": "auto", "REQUEST_TIMEOUT": "300"}
    with running(folders[0], tmp_path / "log", **settings) as service:
        service.await_ready()
        async with service.client() as http:
            listed = (await http.get("/v1/models")).json()["data"]
            assert [model["id"] for model in listed] == names
            assert listed[0]["family"] == "flow"
            assert all(model["seed_exact"] for model in listed)
            bodies = [
                {"model": name, "prompt": "red apple, noto style", "seed": seed}
                for seed in (1, 2)
                for name in names
            ]
            crowd = await asyncio.gather(*(http.post("/v1/images", json=body) for body in bodies))
            assert {answer.status_code for answer in crowd} == {200}
            assert len({answer.content for answer in crowd}) == len(bodies)
