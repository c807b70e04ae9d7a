"""If these fail, a field of the OpenAI contract means something else than it says."""

from __future__ import annotations

import httpx
import pytest

from app.api.openai.reply import Partials
from app.engine import Preview
from model.protocol import Picture
from tests.api.easel import Easel

PICTURE = Picture(1, 1, 3, b"abc")


@pytest.mark.parametrize(
    ("quality", "steps"),
    [(None, 4), ("auto", 4), ("low", 2), ("standard", 4), ("high", 8), ("max", 8)],
)
async def test_quality_is_a_number_of_steps(
    client: httpx.AsyncClient, easel: Easel, quality: str | None, steps: int
) -> None:
    body = {"prompt": "apple", "quality": quality}
    assert (await client.post("/v1/images/generations", json=body)).status_code == 200
    assert easel.submitted[-1].steps == steps
    await client.post("/v1/images/generations", json=body | {"steps": 5})
    assert easel.submitted[-1].steps == 5


async def test_an_address_is_given_without_drawing(client: httpx.AsyncClient, easel: Easel) -> None:
    body = {"prompt": "apple", "response_format": "url", "n": 2, "seed": 2**53 - 1}
    data = (await client.post("/v1/images/generations", json=body)).json()["data"]
    assert [image["seed"] for image in data] == [2**53 - 1, 0]
    assert data[1]["url"].startswith("http://tessera/v1/images/0.png?prompt=apple&model=tiny%40")
    assert easel.submitted == []
    assert (await client.get(data[1]["url"])).status_code == 200


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
