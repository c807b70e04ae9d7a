"""The official client, unchanged but for its base_url. If these fail, programs written for the
OpenAI API no longer run against this service."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO

import httpx
import openai
import pytest
from PIL import Image

from tests.service.conftest import Start
from tests.service.running import Service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key="unused", max_retries=0, timeout=60
    ) as client:
        yield client


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
        extra_body={"seed": "ada", "steps": 3, "guidance": 1.5},
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


@pytest.mark.parametrize(
    ("ask", "param", "says"),
    [
        (lambda c: c.images.generate(prompt="a", size="1024x1536"), "size", "square"),
        (lambda c: c.images.generate(prompt="a", size="2048x2048"), "size", "at most 1024"),
        (lambda c: c.images.generate(prompt="a", style="vivid"), "style", "in the prompt"),
        (lambda c: c.images.generate(prompt="a", output_format="gif"), "output_format", "'png'"),
        (lambda c: c.images.generate(prompt="a", frame_count=2), "frame_count", "do not move"),
        (lambda c: c.images.generate(prompt="a", n=11), "n", "at most 10"),
        (lambda c: c.images.generate(prompt="a" * 2000), "prompt", "at most 1000"),
        (
            lambda c: c.images.generate(prompt="a", output_format="jpeg", background="transparent"),
            "background",
            "png and webp can",
        ),
        (lambda c: c.images.generate(prompt="a", extra_body={"sed": 1}), "sed", "no such field"),
        (
            lambda c: c.images.generate(prompt="a", response_format="url", stream=True),
            "response_format",
            "b64_json only",
        ),
    ],
)
def test_bad_requests(
    client: openai.OpenAI, ask: Callable[[openai.OpenAI], object], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert says in str(refused.value)
    assert refused.value.request_id


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(prompt="a", model="gpt-image-2")
    assert refused.value.code == "model_not_found"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tessera"


def test_an_alias_a_full_queue_and_a_deadline(start: Start) -> None:
    with start(
        MODEL_ALIASES="gpt-image-1=tiny", MAX_ROWS_WAITING="2", REQUEST_TIMEOUT="0.02"
    ) as service:
        service.await_ready()
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0)
        with pytest.raises(openai.InternalServerError) as full:
            client.images.generate(prompt="a", n=10)
        assert (full.value.status_code, full.value.code) == (503, "queue_full")
        assert int(full.value.response.headers["retry-after"]) >= 1
        with pytest.raises(openai.InternalServerError) as late:
            client.images.generate(prompt="a", extra_body={"steps": 100}, model="gpt-image-1")
        assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
        assert late.value.response.headers["x-should-retry"] == "false"
        client.close()
