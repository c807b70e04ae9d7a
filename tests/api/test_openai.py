"""If these fail, a field of the OpenAI contract means something else than it says."""

from __future__ import annotations

import httpx
import pytest
from PIL import Image

from app.api.openai.responses import Partials
from app.engine import Preview
from model.request import ImageRequest, Picture
from tests.api.application import error, png

PICTURE = Picture(1, 1, 3, b"abc")


@pytest.mark.parametrize(
    ("quality", "steps"),
    [(None, 4), ("auto", 4), ("low", 2), ("standard", 4), ("high", 8), ("max", 8)],
)
async def test_quality_is_a_number_of_steps(
    client: httpx.AsyncClient,
    submitted: list[tuple[ImageRequest, ...]],
    quality: str | None,
    steps: int,
) -> None:
    body = {"prompt": "apple", "quality": quality}
    assert (await client.post("/v1/images/generations", json=body)).status_code == 200
    assert submitted[-1][0].value("steps") == steps
    await client.post("/v1/images/generations", json=body | {"steps": 5})
    assert submitted[-1][0].value("steps") == 5


async def test_an_address_is_given_without_drawing(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    body = {"prompt": "apple", "response_format": "url", "n": 2, "seed": 2**53 - 1}
    data = (await client.post("/v1/images/generations", json=body)).json()["data"]
    assert [image["seed"] for image in data] == [2**53 - 1, 0]
    assert data[1]["url"].startswith("http://tessera/v1/images/0.png?prompt=apple&model=tiny%40")
    assert submitted == []
    assert (await client.get(data[1]["url"])).status_code == 200


async def test_a_models_parameters_are_extra_fields(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    body = {"prompt": "apple", "model": "tiny-gpt", "temperature": 0.5, "seed": "ada"}
    answer = await client.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    ((request,),) = submitted
    assert (request.model, request.value("temperature")) == ("tiny-gpt", 0.5)
    assert request.seed == answer.json()["data"][0]["seed"]
    # "quality" means nothing to a number of steps that is fixed.
    body |= {"quality": "high"}
    assert (await client.post("/v1/images/generations", json=body)).status_code == 200
    assert submitted[-1][0].value("steps") == 16
    answer = await client.post("/v1/images/generations", json=body | {"sed": "ada"})
    assert (answer.status_code, error(answer)["code"]) == (400, "unknown_field")
    assert error(answer)["message"].startswith("sed: there is no such field; there are prompt, ")


@pytest.mark.parametrize(
    ("fields", "strength"),
    [
        ({}, 0.8),
        ({"input_fidelity": "low"}, 0.8),
        ({"input_fidelity": "high"}, 0.5),
        ({"strength": "0.3"}, 0.3),
        ({"input_fidelity": "high", "strength": "0.3"}, 0.3),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
async def test_how_far_an_edit_goes_from_its_image(
    client: httpx.AsyncClient,
    submitted: list[tuple[ImageRequest, ...]],
    fields: dict[str, str],
    strength: float,
    masked: bool,
) -> None:
    files = {"image": ("image", png(Image.new("RGBA", (16, 16), "red")))}
    if masked:
        files["mask"] = ("mask", png(Image.new("RGBA", (16, 16))))
        if not fields or fields == {"input_fidelity": "low"}:
            strength = 1  # nothing of one image is seen where it is regenerated
    texts = {"prompt": "apple", **fields}
    answer = await client.post("/v1/images/edits", data=texts, files=files)
    assert answer.status_code == 200, answer.text
    assert submitted[0][0].value("strength") == strength


async def test_the_other_images_of_an_edit_are_seen_where_it_is_regenerated(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]]
) -> None:
    red, gold = (("image[]", ("i", png(Image.new("RGB", (16, 16), c)))) for c in ("red", "gold"))
    mask = ("mask", ("m", png(Image.new("RGBA", (16, 16)))))
    texts = {"prompt": "apple"}
    answer = await client.post("/v1/images/edits", data=texts, files=[red, gold, mask])
    assert answer.status_code == 200, answer.text
    assert submitted[0][0].value("strength") == 0.8


@pytest.mark.parametrize(
    ("count", "at", "steps", "sent"),
    [
        (3, [1, 2, 3, 4, 5, 6, 7], 8, [2, 4, 6]),
        (1, [1, 2, 3, 4, 5, 6, 7], 8, [4]),
        (3, [1, 2, 3], 4, [1, 2, 3]),
        (3, [6, 7], 8, [6, 7]),  # a slow reader has missed the first ones
        (3, [1], 2, [1]),
        (0, [1, 2, 3], 4, []),
    ],
)
def test_partials_are_spread_evenly(count: int, at: list[int], steps: int, sent: list[int]) -> None:
    partials = Partials(count)
    previews = [Preview(0, step, steps, PICTURE) for step in at]
    assert [preview.step for preview in previews if partials.wanted(preview)] == sent
