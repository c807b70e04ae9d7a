"""If these fail, an upload is described by the wrong model, or in words that are not its own."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.api.describe import DescribeForm
from app.engine import Engine, EngineSettings
from app.metrics import Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import asking, error, metric, png

URL = "/v1/images/describe"
RED = png(Image.new("RGB", (20, 10), "red"))


async def send(client: httpx.AsyncClient, image: bytes = RED, **texts: str) -> httpx.Response:
    return await client.post(URL, files={"image": ("image", image)}, data=texts)


async def test_an_image_is_described_by_the_first_model_that_can(
    client: httpx.AsyncClient, engine: Engine, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    before = await metric(client, 'descriptions_total{model="tiny-gpt"}')
    answer = await send(client)
    assert answer.status_code == 200, answer.text
    described = answer.json()
    assert set(described) == {"model", "numerics", "caption", "labels"}
    assert described["model"] == "tiny-gpt"
    assert described["numerics"] == engine.models["tiny-gpt"].numerics
    assert isinstance(described["caption"], str)
    probabilities = [label["probability"] for label in described["labels"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"queue;dur=[\d.]+, compute;dur=[\d.]+", answer.headers["server-timing"])
    assert await metric(client, 'descriptions_total{model="tiny-gpt"}') == before + 1

    ((request,),) = submitted
    assert (request.operation, request.model) == ("describe", "tiny-gpt")
    assert request.source is not None
    assert (request.source.picture.width, request.source.picture.height) == (16, 16)
    seen = np.frombuffer(request.source.picture.pixels, np.uint8).reshape(16, 16, 4)
    assert not seen[:4].any()  # in the middle of the square, with nothing above
    assert (seen[4:12] == (255, 0, 0, 255)).all()


async def test_equal_images_have_equal_descriptions(client: httpx.AsyncClient) -> None:
    one, other = [await send(client) for _ in "ab"]
    assert one.json() == other.json()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\r\n red apple, noto style \n\n", ("cat", "dog", "red apple, noto style")),
        ("cat, dog,cat,", ("cat", "dog")),
        ("猫", ("猫",)),
        ("  ", ()),
    ],
)
def test_labels_are_lines_or_parts_of_one(text: str, labels: tuple[str, ...]) -> None:
    assert DescribeForm(labels=text).choices() == labels


async def test_labels_are_what_is_chosen_from(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    answer = await send(client, labels="cat,dog", model="tiny-gpt")
    assert {each["label"] for each in answer.json()["labels"]} == {"cat", "dog"}
    assert submitted[0][0].labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("texts", "status", "param", "message"),
    [
        ({"model": "tiny"}, 400, "model", "model: tiny cannot describe; tiny-gpt can"),
        (
            {"model": "x"},
            404,
            "model",
            "model: there is no 'x'; there are tiny, tiny-gpt, tiny-gan",
        ),
        (
            {"labels": ",".join(map(str, range(65)))},
            400,
            "labels",
            "labels: 65 were given, at most 64 are accepted",
        ),
        (
            {"labels": "many words " * 30},
            400,
            "labels",
            "labels: has 330 tokens, tiny-gpt takes at most 48",
        ),
        (
            {"prompt": "a"},
            400,
            "prompt",
            "prompt: there is no such field; there are labels, model",
        ),
        ({"steps": "4"}, 400, "steps", "steps: there is no such field; there are labels, model"),
    ],
)
async def test_what_cannot_be_described_is_refused(
    client: httpx.AsyncClient, texts: dict[str, str], status: int, param: str, message: str
) -> None:
    answer = await send(client, RED, **texts)
    assert answer.status_code == status
    assert (error(answer)["param"], error(answer)["message"]) == (param, message)


async def test_a_file_that_is_no_picture_is_refused(client: httpx.AsyncClient) -> None:
    answer = await send(client, b"text")
    assert answer.status_code == 400
    assert error(answer)["code"] == "unsupported_image"
    answer = await client.post(URL, data={"model": "tiny-gpt"}, files={"picture": b"text"})
    assert error(answer)["message"] == (
        "picture: there is no such field; there are image, labels, model"
    )


async def test_without_a_model_that_can_nothing_is_found(
    tiny_models: dict[str, Path], settings: Settings
) -> None:
    metrics = Metrics()
    engine = Engine(EngineSettings(models=(tiny_models["flow"],)), metrics)
    async with asking(engine, settings, metrics) as client:
        answer = await send(client)
    assert answer.status_code == 404
    assert error(answer)["message"] == "model: none here can describe; there are tiny"
