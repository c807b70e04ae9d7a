"""The official client, unchanged but for its base_url. If these fail, programs written for the
OpenAI API no longer run against this service."""

from __future__ import annotations

import base64
from io import BytesIO

import httpx
import openai
from PIL import Image


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return Image.open(BytesIO(base64.b64decode(b64_json)))


def test_a_picture_in_base64(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="red apple", extra_body={"seed": 7})
    assert answer.data is not None
    image = opened(answer.data[0].b64_json)
    assert (image.format, image.size) == ("PNG", (16, 16))
    assert (answer.size, answer.output_format, answer.background) == ("16x16", "png", "opaque")
    assert answer.usage is not None
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.text_tokens > 0


def test_every_field_of_the_client(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="red apple",
        model="tiny",
        n=4,
        size="32x32",
        quality="low",
        background="transparent",
        output_format="webp",
        output_compression=80,
        response_format="b64_json",
        moderation="low",
        complexity="low",
        user="u",
        safety_identifier="s",
        extra_body={"seed": "ada", "steps": 3, "guidance": 1.5, "solver_order": 2},
    )
    assert answer.data is not None
    images = [opened(each.b64_json) for each in answer.data]
    assert [(image.format, image.mode, image.size) for image in images] == [
        ("WEBP", "RGBA", (32, 32))
    ] * 4
    assert len({image.tobytes() for image in images}) == 4


def test_an_address_that_is_the_picture(client: openai.OpenAI) -> None:
    links = client.images.generate(
        prompt="red apple", response_format="url", n=2, extra_body={"seed": 7}
    )
    drawn = client.images.generate(prompt="red apple", n=2, extra_body={"seed": 7})
    assert links.data is not None
    assert drawn.data is not None
    for link, picture in zip(links.data, drawn.data, strict=True):
        assert link.url is not None
        fetched = httpx.get(link.url)
        assert fetched.status_code == 200
        assert "immutable" in fetched.headers["cache-control"]
        assert base64.b64encode(fetched.content).decode() == picture.b64_json


def test_a_stream_with_three_partials(client: openai.OpenAI) -> None:
    # A reader that is slower than this tiny model, as on a busy machine, misses partials.
    for _ in range(10):
        stream = client.images.generate(
            prompt="red apple", stream=True, partial_images=3, extra_body={"steps": 100}
        )
        *partials, completed = list(stream)
        if len(partials) == 3:
            break
    assert [event.type for event in partials] == ["image_generation.partial_image"] * 3
    indices = [event.to_dict().get("partial_image_index") for event in partials]
    assert indices == [0, 1, 2]
    assert completed.type == "image_generation.completed"
    for event in (*partials, completed):
        assert opened(event.b64_json).size == (16, 16)
        assert (event.size, event.background, event.output_format) == ("16x16", "opaque", "png")
        assert event.quality == "medium"
        assert event.created_at > 0
    assert completed.usage.total_tokens > 0


def test_a_stream_without_partials_is_one_event(client: openai.OpenAI) -> None:
    (event,) = client.images.generate(prompt="red apple", stream=True)
    assert event.type == "image_generation.completed"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tessera"


def test_an_alias_stands_for_a_model(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a", model="gpt-image-1")
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (16, 16)
