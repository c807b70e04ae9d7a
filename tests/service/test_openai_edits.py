"""The official client's edits and variations. If these fail, programs written for the OpenAI API
can no longer give this service a picture."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.generation.corpus import drawing, written

# The client marks variations as deprecated; they are answered here all the same.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

SEED = {"seed": 7}
IMAGE = written(drawing(40, 24), "PNG")
OTHER = written(Image.new("RGB", (16, 16), "gold"), "JPEG")


def mask(width: int = 40, height: int = 24) -> tuple[bytes, NDArray[np.bool_]]:
    """Black, with a transparent square in it; and where that is."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[6:14, 8:20, 3] = 0
    return written(Image.fromarray(pixels), "PNG"), pixels[..., 3] == 0


def seen(answer: openai.types.ImagesResponse, index: int = 0) -> NDArray[np.uint8]:
    assert answer.data is not None
    return pixels(answer.data[index].b64_json)


def pixels(b64_json: str | None) -> NDArray[np.uint8]:
    assert b64_json is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(b64_json))).convert("RGBA"))


def test_a_mask_says_what_is_edited_and_all_else_stays(client: openai.OpenAI) -> None:
    file, regenerated = mask()
    answer = client.images.edit(image=IMAGE, mask=file, prompt="red apple", extra_body=SEED)
    assert (answer.size, answer.output_format, answer.background) == ("40x24", "png", "transparent")
    before, after = np.asarray(drawing(40, 24)), seen(answer)
    assert (after[~regenerated] == before[~regenerated]).all()
    assert (after[regenerated] != before[regenerated]).any()
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.text_tokens > 0


def test_without_a_mask_the_whole_picture_is_edited(client: openai.OpenAI) -> None:
    one, again, other = (
        client.images.edit(image=IMAGE, prompt=prompt, extra_body=SEED)
        for prompt in ("red apple", "red apple", "blue square")
    )
    assert one.size == "16x10"
    assert (seen(one) == seen(again)).all()
    assert (seen(one) != seen(other)).any()


def test_two_images_are_blended_where_they_are_regenerated(client: openai.OpenAI) -> None:
    lone = client.images.edit(image=[IMAGE], prompt="red apple", extra_body=SEED)
    both = client.images.edit(image=[IMAGE, OTHER], prompt="red apple", extra_body=SEED)
    assert (lone.size, both.size) == ("16x10", "16x10")
    assert (seen(lone) != seen(both)).any()
    file, regenerated = mask()
    masked = [
        seen(
            client.images.edit(image=[IMAGE, other], mask=file, prompt="red apple", extra_body=SEED)
        )
        for other in (OTHER, written(Image.new("RGB", (9, 5), "navy"), "PNG"))
    ]
    before = np.asarray(drawing(40, 24))
    for after in masked:
        assert (after[~regenerated] == before[~regenerated]).all()
    assert (masked[0][regenerated] != masked[1][regenerated]).any()


def test_every_field_of_an_edit(client: openai.OpenAI) -> None:
    answer = client.images.edit(
        image=("image.png", drawing_file(), "image/png"),
        prompt="red apple",
        model="tiny",
        n=2,
        size="32x32",
        quality="high",
        background="opaque",
        output_format="webp",
        output_compression=80,
        input_fidelity="high",
        response_format="b64_json",
        complexity="low",
        user="u",
        safety_identifier="s",
        extra_body={"seed": "ada", "steps": 3, "guidance": 1.5},
    )
    assert answer.data is not None
    assert (answer.size, answer.background, answer.output_format) == ("32x32", "opaque", "webp")
    assert answer.quality == "high"
    assert len(answer.data) == 2
    assert seen(answer).shape == (32, 32, 4)
    assert (seen(answer)[..., 3] == 255).all()
    assert (seen(answer) != seen(answer, 1)).any()


def drawing_file() -> BytesIO:
    return BytesIO(written(drawing(24, 24), "PNG"))


def test_fidelity_is_how_near_it_stays(client: openai.OpenAI) -> None:
    # With weights at random only this can be said: it counts, and so does a strength of one's own.
    low, high, strength = (
        seen(client.images.edit(image=IMAGE, prompt="a", **asked))
        for asked in (
            {"input_fidelity": "low", "extra_body": SEED},
            {"input_fidelity": "high", "extra_body": SEED},
            {"extra_body": SEED | {"strength": 0.5}},
        )
    )
    assert (low != high).any()
    assert (high == strength).all()


def test_a_stream_of_an_edit(client: openai.OpenAI) -> None:
    file, regenerated = mask()
    # A reader that is slower than this tiny model, as on a busy machine, misses partials.
    for _ in range(10):
        stream = client.images.edit(
            image=IMAGE,
            mask=file,
            prompt="red apple",
            stream=True,
            partial_images=2,
            extra_body={"steps": 100, **SEED},
        )
        *partials, completed = list(stream)
        if len(partials) == 2:
            break
    assert [event.type for event in partials] == ["image_edit.partial_image"] * 2
    assert completed.type == "image_edit.completed"
    assert completed.usage.total_tokens > 0
    before = np.asarray(drawing(40, 24))
    for event in (*partials, completed):
        assert event.size == "40x24"
        assert (pixels(event.b64_json)[~regenerated] == before[~regenerated]).all()


def test_variations_differ_and_are_the_same_again(client: openai.OpenAI) -> None:
    answer = client.images.create_variation(image=IMAGE, n=2, extra_body=SEED)
    assert answer.size == "16x10"
    assert (seen(answer, 0) != seen(answer, 1)).any()
    second = client.images.create_variation(image=IMAGE, extra_body={"seed": 8})
    assert (seen(second) == seen(answer, 1)).all()
    large = client.images.create_variation(
        image=OTHER, size="256x256", response_format="b64_json", user="u", model="tiny"
    )
    assert seen(large).shape == (256, 256, 4)


@pytest.mark.parametrize(
    ("ask", "param", "says"),
    [
        (lambda c: c.images.edit(image=b"not one", prompt="a"), "image", "is text, not a picture"),
        (lambda c: c.images.edit(image=IMAGE, prompt="a", mask=OTHER), "mask", "16 x 16"),
        (
            lambda c: c.images.edit(image=OTHER, prompt="a", mask=OTHER),
            "mask",
            "no pixel of it is transparent",
        ),
        (lambda c: c.images.edit(image=[IMAGE] * 17, prompt="a"), "image", "at most 16"),
        (lambda c: c.images.edit(image=[], prompt="a"), "image", "is required"),
        (
            lambda c: c.images.edit(image=IMAGE, prompt="a", size="64x64"),
            "size",
            "can be answered as 64x38, or in its own size",
        ),
        (lambda c: c.images.edit(image=IMAGE, prompt="a", size="huge"), "size", '"1024x768"'),
        (
            lambda c: c.images.edit(image=IMAGE, prompt="a", response_format="url"),
            "response_format",
            "'b64_json'; 'url' was given",
        ),
        (
            lambda c: c.images.edit(image=IMAGE, prompt="a", output_format="gif"),
            "output_format",
            "'jpeg'",
        ),
        (lambda c: c.images.edit(image=IMAGE, prompt="a", frame_count=2), "frame_count", "move"),
        (lambda c: c.images.edit(image=IMAGE, prompt="a", markup=IMAGE), "markup", "in the prompt"),
        (
            lambda c: c.images.edit(image=IMAGE, prompt="a", extra_body={"sed": 1}),
            "sed",
            "no such field",
        ),
        (lambda c: c.images.edit(image=IMAGE, prompt="a", n=11), "n", "at most 10"),
        (
            lambda c: c.images.create_variation(image=IMAGE, response_format="url"),
            "response_format",
            "'b64_json'",
        ),
        (lambda c: c.images.create_variation(image=b""), "image", "is empty"),
    ],
)
def test_bad_requests(
    client: openai.OpenAI, ask: Callable[[openai.OpenAI], object], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client)
    assert refused.value.param == param
    assert says in str(refused.value)
