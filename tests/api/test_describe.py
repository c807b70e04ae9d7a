"""Descriptions over HTTP, and the settings of models that draw tokens."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from app.api.describe import DescribeForm
from model.protocol import TokenSampling
from tests.api.easel import Easel
from tests.tiny import tiny_gpt

URL = "/v1/images/describe"


@pytest.fixture(scope="session")
def gpt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt(tmp_path_factory.mktemp("models") / "tiny-gpt")


@pytest.fixture
async def easel(folder: Path, gpt_folder: Path) -> Easel:
    engine = Easel(folder, gpt_folder)
    await engine.start()
    return engine


def picture(width: int = 20, height: int = 10) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


async def send(
    client: httpx.AsyncClient, image: bytes | None = None, **texts: str
) -> httpx.Response:
    files = {"image": ("image", image or picture())}
    return await client.post(URL, files=files, data=texts)


def error(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()["error"]
    return body


async def test_a_picture_is_described_by_the_first_that_can(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    answer = await send(client)
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "tiny-gpt",
        "numerics": "numerics-1",
        "caption": "a caption",
        "labels": [{"label": "a label", "probability": 1.0}],
    }
    assert answer.headers["server-timing"] == "queue;dur=1.0, compute;dur=2.0"
    [request] = easel.submitted
    assert (request.operation, request.model, request.n) == ("describe", "tiny-gpt", 1)
    assert request.source is not None
    assert request.source.picture.width == 16
    # In the middle of the square, with nothing above.
    assert request.source.picture.pixels[:64] == bytes(64)
    assert request.source.picture.pixels[8 * 64 : 8 * 64 + 4] == b"\xff\0\0\xff"


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


async def test_labels_are_what_is_chosen_from(client: httpx.AsyncClient, easel: Easel) -> None:
    answer = await send(client, labels="cat,dog", model="tiny-gpt")
    assert [each["label"] for each in answer.json()["labels"]] == ["cat", "dog"]
    assert easel.submitted[0].labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("texts", "status", "param", "message"),
    [
        ({"model": "tiny"}, 400, "model", "model: tiny cannot describe; tiny-gpt can"),
        ({"model": "x"}, 404, "model", "model: there is no 'x'; there are tiny, tiny-gpt"),
        ({"labels": ",".join(map(str, range(65)))}, 400, "labels", "labels: 65 were given, at"),
        ({"labels": "many words " * 30}, 400, "labels", "labels: has 330 tokens, tiny-gpt"),
        ({"prompt": "a"}, 400, "prompt", "prompt: there is no such field"),
    ],
)
async def test_what_cannot_be_described_is_refused(
    client: httpx.AsyncClient, texts: dict[str, str], status: int, param: str, message: str
) -> None:
    answer = await send(client, None, **texts)
    assert answer.status_code == status
    assert error(answer)["param"] == param
    assert error(answer)["message"].startswith(message)


async def test_a_file_that_is_no_picture_is_refused(client: httpx.AsyncClient) -> None:
    answer = await send(client, b"text")
    assert answer.status_code == 400
    assert error(answer)["code"] == "unsupported_image"


async def test_without_a_model_that_can_nothing_is_found(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    easel.checkpoints = {"tiny": easel.checkpoints["tiny"]}
    answer = await send(client)
    assert answer.status_code == 404
    assert error(answer)["message"] == "no model here can describe; there are tiny"


async def test_token_settings_reach_the_model_that_draws_tokens(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    given = {"temperature": 0.5, "top_k": 7, "top_p": 0.25}
    answer = await client.post("/v1/images", json={"model": "tiny-gpt", "seed": 1, **given})
    assert answer.status_code == 200
    assert easel.submitted[0].sampling == TokenSampling(0.5, 7, 0.25)
    assert easel.submitted[0].steps == 16
    address = answer.headers["content-location"]
    for part in ("temperature=0.5", "top_k=7", "top_p=0.25"):
        assert part in address
    again = await client.get(address)
    assert again.content == answer.content
    assert easel.submitted[-1].rows() == easel.submitted[0].rows()


async def test_what_is_not_said_is_the_checkpoints_own(
    client: httpx.AsyncClient, easel: Easel
) -> None:
    answer = await client.post("/v1/images", json={"model": "tiny-gpt", "seed": 1})
    assert easel.submitted[0].sampling == TokenSampling(1.0, 0, 1.0)
    assert "top" not in answer.headers["content-location"]


@pytest.mark.parametrize("field", ["temperature", "top_k", "top_p"])
async def test_models_that_draw_no_tokens_refuse_them(
    client: httpx.AsyncClient, field: str
) -> None:
    answer = await client.post("/v1/images", json={field: 1})
    assert answer.status_code == 400
    assert error(answer)["message"].startswith(
        f"{field}: means nothing to tiny, which draws no tokens"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("top_k", 13, "top_k: 13 was given, tiny-gpt takes 0 to 12"),
        ("steps", 4, "steps: 4 was given, tiny-gpt takes 16 to 16"),
    ],
)
async def test_settings_out_of_range_are_refused(
    client: httpx.AsyncClient, field: str, value: int, message: str
) -> None:
    answer = await client.post("/v1/images", json={"model": "tiny-gpt", field: value})
    assert error(answer)["message"] == message


async def test_models_say_what_they_take(client: httpx.AsyncClient) -> None:
    flow, gpt = (await client.get("/v1/models")).json()["data"]
    assert (flow["temperature"], flow["top_k"], flow["top_p"]) == (None, None, None)
    assert gpt["temperature"] == {"minimum": 0, "maximum": 2, "default": 1}
    assert gpt["top_k"] == {"minimum": 0, "maximum": 12, "default": 0}
    assert gpt["operations"] == ["generate", "describe", "inpaint", "outpaint"]
