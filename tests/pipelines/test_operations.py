"""What pipelines do with an upload: what the library's own img2img, inpaint and edit pipelines do.

If these fail, an operation starts from another picture, mask, strength or noise than it should, or
its image depends on what else is drawn in that moment.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image

from app.generation.editing.operations import MARGINS, EditName, EditRequest
from app.generation.output import finish
from app.generation.resolve import Generation, Limits, Wanted, parse_size, resolve
from model.pipelines.checkpoint import PipelineCheckpoint
from model.request import Picture
from tests.crowd import in_a_crowd_and_alone
from tests.generation.corpus import box_mask, written
from tests.pipelines.questions import library, pipeline, pixels
from tests.service.running import Service, official

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Ask:
    """An operation, as a client asks for it."""

    model: str
    operation: EditName
    uploads: tuple[tuple[int, int], ...]  # their sizes
    seed: int = 3
    size: str | None = None
    texts: Mapping[str, Any] = field(default_factory=dict)  # prompts, margins
    numbers: Mapping[str, float] = field(default_factory=dict)  # the model's parameters

    @property
    def images(self) -> tuple[bytes, ...]:
        return tuple(upload(size, index) for index, size in enumerate(self.uploads))

    @property
    def mask(self) -> bytes | None:
        if self.operation != "inpaint":
            return None
        image = Image.new("RGBA", self.uploads[0])
        image.putalpha(self.regenerated.point(lambda value: 255 - value))
        return written(image, "PNG")

    @property
    def regenerated(self) -> Image.Image:
        """White where the mask is transparent."""
        (width, height), *_ = self.uploads
        return box_mask(width, height, (width // 3, height // 4, width - 4, height - 3))

    @property
    def form(self) -> dict[str, str]:
        """Texts of POST /v1/images/transform."""
        given: dict[str, Any] = {"model": self.model, "operation": self.operation}
        given |= {"seed": self.seed, **({"size": self.size} if self.size else {})}
        return {name: str(value) for name, value in {**given, **self.texts, **self.numbers}.items()}

    @property
    def files(self) -> list[tuple[str, bytes]]:
        mask = [("mask", self.mask)] if self.mask else []
        return [*(("image", image) for image in self.images), *mask]

    def generation(self, folder: Path) -> Generation:
        """What the app makes of it."""
        margins: dict[str, Any] = {name: self.texts.get(name) for name in MARGINS}
        edit = EditRequest(operation=self.operation, images=self.images, mask=self.mask, **margins)
        wanted = Wanted(
            prompt=self.texts.get("prompt", ""),
            negative_prompt=self.texts.get("negative_prompt", ""),
            seed=self.seed,
            size=parse_size(self.size) if self.size else None,
            parameters=self.numbers,
            edit=edit,
        )
        return resolve(wanted, PipelineCheckpoint.open(folder), Limits())


def upload(size: tuple[int, int], number: int = 0) -> bytes:
    """A photograph of a kind: soft shapes with a little noise, another for each number."""
    width, height = size
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    dice = np.random.default_rng(number)
    waves = [np.sin(a * across + b * down + c) for a, b, c in dice.uniform(-9, 9, (3, 3))]
    image = 128 + 90 * np.stack(waves, axis=2) + dice.normal(0, 9, (height, width, 3))
    return written(Image.fromarray(image.clip(0, 255).astype(np.uint8)), "PNG")


LIGHT: dict[str, float] = {"steps": 4, "guidance": 2.5}

ASKED: dict[str, list[Ask]] = {
    "flux-dev": [
        Ask(
            *("flux-dev", "vary", ((50, 34),)),
            size="96x64",
            texts={"prompt": "a red apple", "negative_prompt": "a dog"},
            numbers=LIGHT | {"true_guidance": 3, "strength": 0.6},
        ),
        Ask(
            *("flux-dev", "inpaint", ((48, 32),)),
            size="96x64",
            texts={"prompt": "a blue house"},
            numbers=LIGHT | {"strength": 0.8},
        ),
    ],
    "sd3": [
        Ask("sd3", "vary", ((50, 34),), numbers=LIGHT | {"strength": 0.5}),
        Ask("sd3", "restyle", ((31, 47),), texts={"prompt": "an old tree"}, numbers={"steps": 6}),
        Ask(
            *("sd3", "restyle", ((48, 48),)),
            size="32x32",
            texts={"prompt": "a cat", "negative_prompt": "a dog"},
            numbers={"steps": 6, "guidance": 1, "strength": 0.8},
        ),
        Ask("sd3", "inpaint", ((45, 60),), texts={"prompt": "a red apple"}, numbers=LIGHT),
        Ask("sd3", "outpaint", ((40, 40),), texts={"right": 100}, numbers=LIGHT),
        Ask("sd3", "outpaint", ((30, 30),), texts={"prompt": "the sea"}, numbers=LIGHT),
    ],
    "z-image": [
        Ask("z-image", "vary", ((50, 34),), numbers=LIGHT),
        Ask("z-image", "restyle", ((24, 24),), texts={"prompt": "a cat"}, numbers={"steps": 6}),
        Ask(
            *("z-image", "inpaint", ((30, 40),)),
            texts={"prompt": "a red apple", "negative_prompt": "a dog"},
            numbers=LIGHT,
        ),
        Ask("z-image", "outpaint", ((20, 20),), texts={"left": 50}, numbers=LIGHT),
    ],
    "sana-sprint": [
        Ask("sana-sprint", "vary", ((70, 70),), numbers={"strength": 0.5}),
        Ask(
            *("sana-sprint", "restyle", ((60, 120),)),
            texts={"prompt": "a house at night"},
            numbers={"guidance": 2, "strength": 0.5},
        ),
    ],
    "sdxl": [
        Ask("sdxl", "vary", ((50, 34),), numbers=LIGHT),
        Ask(
            *("sdxl", "restyle", ((31, 47),)),
            texts={"prompt": "an old tree", "negative_prompt": "a dog"},
            numbers={"steps": 5, "guidance": 1, "strength": 0.4},
        ),
        Ask("sdxl", "inpaint", ((45, 60),), texts={"prompt": "a red apple"}, numbers=LIGHT),
        Ask(
            *("sdxl", "inpaint", ((45, 60),)),
            texts={"prompt": "a red apple"},
            numbers=LIGHT | {"strength": 1},
        ),
        Ask("sdxl", "outpaint", ((40, 40),), texts={"top": 30, "left": 20}, numbers=LIGHT),
    ],
    "flux-kontext": [
        Ask(
            *("flux-kontext", "edit", ((70, 50),)),
            size="64x96",
            texts={"prompt": "make it night", "negative_prompt": "a dog"},
            numbers={"steps": 2, "guidance": 2.5, "true_guidance": 2},
        ),
        Ask(
            *("flux-kontext", "inpaint", ((48, 32),)),
            size="96x64",
            texts={"prompt": "a blue house"},
            numbers={"steps": 3, "strength": 0.7},
        ),
        Ask(
            *("flux-kontext", "outpaint", ((32, 32),)),
            size="96x64",
            texts={"prompt": "the sea", "left": 50},
            numbers={"steps": 2},
        ),
    ],
    "qwen-edit": [
        Ask(
            *("qwen-edit", "edit", ((70, 50),)),
            texts={"prompt": "make it night", "negative_prompt": "a dog"},
            numbers={"steps": 2, "guidance": 3},
        ),
        Ask(
            *("qwen-edit", "edit", ((50, 50),)),
            size="128x64",
            texts={"prompt": "a cat"},
            numbers={"steps": 2, "guidance": 1},
        ),
    ],
    "qwen-edit-plus": [
        Ask(
            *("qwen-edit-plus", "edit", ((70, 50),)),
            size="128x128",
            texts={"prompt": "make it night"},
            numbers={"steps": 2, "guidance": 1},
        ),
        Ask(
            *("qwen-edit-plus", "edit", ((70, 50), (40, 60), (30, 30))),
            size="128x64",
            texts={"prompt": "the cat by the house at night", "negative_prompt": "a dog"},
            numbers={"steps": 2, "guidance": 3},
        ),
    ],
    "flux2-klein": [
        Ask("flux2-klein", "edit", ((70, 90),), size="64x72", texts={"prompt": "make it night"}),
        Ask(
            *("flux2-klein", "edit", ((70, 90), (64, 64), (100, 70), (66, 65))),
            size="64x72",
            texts={"prompt": "the cat by the house at night"},
        ),
        Ask(
            *("flux2-klein", "inpaint", ((48, 32),)),
            size="96x64",
            texts={"prompt": "a blue house"},
        ),
    ],
}


async def send(http: httpx.AsyncClient, ask: Ask) -> httpx.Response:
    return await http.post("/v1/images/transform", data=ask.form, files=ask.files)


async def draw(http: httpx.AsyncClient, ask: Ask) -> bytes:
    answer = await send(http, ask)
    assert answer.status_code == 200, f"{ask}: {answer.text}"
    return answer.content


def by_the_library(
    folder: Path, generation: Generation, strength: float | None = None
) -> Image.Image:
    """What its own pipeline for the operation draws of the upload as the app has prepared it."""
    [request] = generation.requests
    entry, source = PipelineCheckpoint.open(folder).entry, request.source
    assert source is not None
    cls = getattr(library, entry.operations[request.operation])
    own = library.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    parts = {**own.config, **own.components}
    takes = inspect.signature(cls.__init__).parameters
    drawing = cls(**{name: part for name, part in parts.items() if name in takes})
    drawing.set_progress_bar_config(disable=True)
    images = [
        Image.frombytes("RGB", (one.width, one.height), one.pixels)
        for one in (source.picture, *source.others)
    ]
    arguments: dict[str, Any] = {
        **entry.options,
        "prompt": request.prompt,
        "image": images if len(images) > 1 else images[0],
        "width": request.width,
        "height": request.height,
        "max_area": request.width * request.height,
        "generator": torch.Generator("cpu").manual_seed(request.seed),
    }
    for name, value in request.parameters:
        if name != "strength":
            arguments[entry.arguments[name]] = int(value) if name == "steps" else value
    arguments["strength"] = request.value("strength", 0) if strength is None else strength
    if request.negative_prompt or arguments.get("true_cfg_scale", 0) > 1:
        arguments["negative_prompt"] = request.negative_prompt
    if source.mask is not None:
        arguments["mask_image"] = Image.frombytes("L", images[0].size, source.mask)
    known = inspect.signature(cls.__call__).parameters
    called = {name: value for name, value in arguments.items() if name in known}
    result: Image.Image = drawing(**called).images[0].convert("RGB")
    return result


def framed(image: Image.Image, generation: Generation) -> Any:
    """What the answer shows of a model's image."""
    assert generation.edit is not None
    picture = Picture(image.width, image.height, 3, image.tobytes())
    shown = finish(picture, generation.output, generation.edit.framing)
    return np.asarray(shown.convert("RGB"), dtype=np.int16)


@pytest.mark.parametrize("model", ASKED)
async def test_operations_draw_what_the_library_draws(
    model: str, served: dict[str, Path], service: Service
) -> None:
    """And the same bytes alone and beside all others of the model, and beside plain images."""
    asked = ASKED[model]
    both: list[Ask | int] = [*asked, 1, 2]
    async with service.client() as http:

        async def either(ask: Ask | int) -> bytes:
            if isinstance(ask, Ask):
                return await draw(http, ask)
            size = asked[0].generation(served[model]).requests[0]
            body = {"model": model, "seed": ask, "size": f"{size.width}x{size.height}"}
            answer = await http.post("/v1/images", json=body | _few_steps(served[model]))
            assert answer.status_code == 200, answer.text
            return answer.content

        answers = await in_a_crowd_and_alone(either, both, apart=0.05)
    assert answers.differing == 0
    for ask, answer in zip(asked, answers.alone, strict=False):
        generation = ask.generation(served[model])
        drawn = pixels(answer)
        expected = framed(by_the_library(served[model], generation), generation)
        assert drawn.shape == expected.shape
        assert drawn.std() > 1, "a flat image shows no difference"
        assert np.abs(drawn - expected).max() <= 2, ask


def _few_steps(folder: Path) -> dict[str, float]:
    steps = PipelineCheckpoint.open(folder).spec.parameter("steps")
    assert steps is not None
    return {"steps": max(steps.minimum, min(steps.maximum, 3))}


@pytest.mark.parametrize("model", ASKED)
async def test_every_image_counts(model: str, service: Service) -> None:
    """The inverse: another upload in any place, another image."""
    async with service.client() as http:
        for ask in ASKED[model]:
            drawn = pixels(await draw(http, ask))
            for place in range(len(ask.uploads)):
                images = [*ask.images]
                images[place] = upload(ask.uploads[place], 99)
                files = [("image", image) for image in images]
                files += [one for one in ask.files if one[0] == "mask"]
                answer = await http.post("/v1/images/transform", data=ask.form, files=files)
                assert answer.status_code == 200, answer.text
                changed = (pixels(answer.content) != drawn).any(axis=2)
                if ask.operation == "inpaint":  # elsewhere the other upload is seen
                    mask = ask.regenerated.resize(drawn.shape[1::-1], Image.Resampling.NEAREST)
                    changed = changed[np.asarray(mask) > 0]
                assert changed.mean() > 0.2, f"{place} of {ask}"


@pytest.mark.parametrize(
    ("ask", "strength"),
    [
        (Ask("sana-sprint", "vary", ((70, 70),)), 0.5),
        (Ask("sd3", "vary", ((40, 40),), numbers={"steps": 2, "strength": 0.95}), 0.5),
        (Ask("z-image", "restyle", ((40, 40),), texts={"prompt": "a"}, numbers={"steps": 4}), 0.75),
        (Ask("sdxl", "vary", ((40, 40),), numbers={"steps": 4, "strength": 0.9}), 0.75),
        (Ask("sd3", "vary", ((40, 40),), numbers={"steps": 3, "strength": 1}), 1),
        (Ask("sd3", "outpaint", ((40, 40),), numbers={"steps": 6}), 1),
    ],
)
async def test_what_is_asked_for_with_less_than_all_strength_starts_from_the_image(
    ask: Ask, strength: float, served: dict[str, Path], service: Service
) -> None:
    """Also in so few steps that the library would round up to all of them. And what is painted
    around an upload starts from noise alone, not from the white that is there."""
    async with service.client() as http:
        drawn = pixels(await draw(http, ask))
    generation = ask.generation(served[ask.model])
    expected = framed(by_the_library(served[ask.model], generation, strength), generation)
    assert np.abs(drawn - expected).max() <= 2


@pytest.mark.parametrize("model", ASKED)
async def test_previews_of_operations_change_nothing(model: str, service: Service) -> None:
    restarts = service.metric("worker_restarts_total")
    async with service.client() as http:
        for ask in ASKED[model]:
            drawn = await draw(http, ask)
            # A reader that is slower than these tiny models, as on a busy machine, misses some.
            for _ in range(10):
                events = await stream(http, ask)
                [final] = [data for name, data in events if name == "image"]
                assert base64.b64decode(final["b64_json"]) == drawn
                if "preview" in dict(events):
                    break
            else:
                assert model == "sana-sprint", "which has one step from an image"
    assert service.metric("worker_restarts_total") == restarts


async def stream(http: httpx.AsyncClient, ask: Ask) -> list[tuple[str, Any]]:
    """Its events, by name; none of them is an error."""
    form = {**ask.form, "previews": "true"}
    accept = {"Accept": "text/event-stream"}
    path = "/v1/images/transform"
    answer = await http.post(path, data=form, files=ask.files, headers=accept)
    assert "event: error" not in answer.text, answer.text[-500:]
    blocks = (block.partition("\ndata: ") for block in answer.text.strip().split("\n\n"))
    return [(name.removeprefix("event: "), json.loads(data)) for name, _, data in blocks]


OFFICIAL = [
    Ask(
        *("flux-kontext", "edit", ((70, 50),)),
        size="64x96",
        texts={"prompt": "make it night"},
        numbers={"steps": 2},
    ),
    Ask(
        *("qwen-edit-plus", "edit", ((70, 50), (40, 60))),
        size="64x128",
        texts={"prompt": "the cat by the house"},
        numbers={"steps": 2, "guidance": 1},
    ),
    Ask("flux2-klein", "edit", ((64, 64),) * 4, size="72x64", texts={"prompt": "make it night"}),
    Ask("sd3", "restyle", ((50, 34),), texts={"prompt": "a cat"}, numbers=LIGHT),
    Ask("sd3", "restyle", ((48, 32),), size="72x48", texts={"prompt": "a cat"}, numbers=LIGHT),
    Ask("sd3", "inpaint", ((45, 60),), texts={"prompt": "a red apple"}, numbers=LIGHT),
    Ask("sdxl", "inpaint", ((40, 40),), size="64x64", texts={"prompt": "a cat"}, numbers=LIGHT),
    Ask(
        *("flux-kontext", "inpaint", ((48, 32),)),
        size="96x64",
        texts={"prompt": "a blue house"},
        numbers={"steps": 2},
    ),
    Ask("sdxl", "vary", ((50, 34),), numbers=LIGHT),
    Ask("z-image", "vary", ((48, 24),), size="48x24", numbers=LIGHT),
]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # variations, by the client
@pytest.mark.parametrize("ask", OFFICIAL, ids=lambda ask: f"{ask.model}-{ask.operation}")
async def test_the_official_client_gets_the_same(ask: Ask, service: Service) -> None:
    async with service.client() as http:
        drawn = await draw(http, ask)
    with official(service) as client:
        assert officially(client, ask) == drawn


def officially(client: openai.OpenAI, ask: Ask) -> bytes:
    """An edit without a mask is an "edit" where the model has it, else a "restyle"."""
    prompt = ask.texts.get("prompt", "")
    given: dict[str, Any] = {"model": ask.model, "size": ask.size or "auto"}
    given["extra_body"] = {"seed": ask.seed, **ask.numbers}
    if ask.operation == "vary":
        answer = client.images.create_variation(image=ask.images[0], **given)
    elif ask.mask:
        answer = client.images.edit(image=ask.images[0], mask=ask.mask, prompt=prompt, **given)
    else:
        answer = client.images.edit(image=[*ask.images], prompt=prompt, **given)
    assert answer.data is not None
    return base64.b64decode(answer.data[0].b64_json or "")


@pytest.mark.parametrize(
    ("size", "drawn"), [("auto", (64, 64)), ("32x24", (32, 24)), (None, (64, 64))]
)
def test_openai_s_size_is_what_the_model_draws(
    size: Any, drawn: tuple[int, int], service: Service
) -> None:
    given = {} if size is None else {"size": size}
    with official(service) as client:
        answer = client.images.generate(
            prompt="a cat", model="sd3", extra_body={"seed": 1, "steps": 2}, **given
        )
    assert answer.data is not None
    assert answer.size == "{}x{}".format(*drawn)
    image = base64.b64decode(answer.data[0].b64_json or "")
    assert Image.open(BytesIO(image)).size == drawn
    body = {"model": "sd3", "prompt": "a cat", "seed": 1, "steps": 2}
    body["size"] = "{}x{}".format(*drawn)
    assert httpx.post(f"{service.url}/v1/images", json=body).content == image


# --- What is refused ---------------------------------------------------------------------------


def refused(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    ("model", "most", "around"),
    [  # tokens that are accepted, and those of them that a tokenizer puts around the words
        ("flux-dev", 512, 1),
        ("sd3", 256, 1),
        ("sdxl", 77, 2),
        ("z-image", 504, 0),
        ("sana-sprint", 299, 1),
        ("qwen-edit", 1019, 0),
        ("flux2-klein", 500, 0),
    ],
)
def test_a_prompt_beyond_the_tokenizer_s_limit_is_refused_with_the_count(
    model: str, most: int, around: int, served: dict[str, Path], service: Service
) -> None:
    """Words at the very limit are read to the last, see the count of transformers' own."""
    fits, beyond = " ".join(["a"] * (most - around)), " ".join(["a"] * (most - around + 1))
    text = PipelineCheckpoint.open(served[model]).entry.text
    assert text is not None
    own = getattr(pipeline(served[model]), text.tokenizer)
    assert len(own(fits).input_ids) == most
    body: dict[str, Any] = {"model": model, "prompt": beyond}
    error = refused(httpx.post(f"{service.url}/v1/images", json=body))
    assert (error["code"], error["param"]) == ("prompt_too_long", "prompt")
    assert f"{most + 1} tokens" in error["message"]
    assert f"at most {most}" in error["message"]
    form = {"model": model, "operation": "edit", "prompt": beyond}
    again = httpx.post(
        f"{service.url}/v1/images/transform", data=form, files={"image": upload((64, 64))}
    )
    expected = "prompt_too_long" if "edit" in _operations(served[model]) else "invalid_value"
    assert refused(again)["code"] == expected
    if "negative_prompt" in inspect.signature(type(pipeline(served[model])).__call__).parameters:
        body = {"model": model, "negative_prompt": beyond}
        error = refused(httpx.post(f"{service.url}/v1/images", json=body))
        assert (error["code"], error["param"]) == ("prompt_too_long", "negative_prompt")
    if model == "sdxl":
        body = {"model": model, "prompt": fits, "size": "16x16", "steps": 1}
        assert httpx.post(f"{service.url}/v1/images", json=body).status_code == 200


def _operations(folder: Path) -> Sequence[str]:
    return PipelineCheckpoint.open(folder).spec.operations


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"model": "dit", "prompt": "golden retreiver"}, "prompt", ["golden retriever"]),
        ({"model": "dit", "prompt": "crane"}, "prompt", ["crane (#134)", "crane (#517)"]),
        ({"model": "dit", "negative_prompt": "crane"}, "negative_prompt", ["dit"]),
        ({"model": "sana-sprint", "negative_prompt": "a"}, "negative_prompt", ["sana-sprint"]),
        ({"model": "flux2-klein", "negative_prompt": "a"}, "negative_prompt", ["flux2-klein"]),
        ({"model": "flux2-klein", "steps": 5}, "steps", ["5 was given", "4 is accepted"]),
        ({"model": "sana-sprint", "steps": 1}, "steps", ["1 was given", "2 is accepted"]),
        ({"model": "flux2-klein", "guidance": 2}, "guidance", ["takes steps"]),
        ({"model": "sd3", "strength": 0.5}, "strength", ["means nothing to generate"]),
        ({"model": "sd3", "size": "30x32"}, "size", ["30x32 was given", "multiples of 4"]),
        ({"model": "sd3", "size": "128x64"}, "size", ["16 to 128", "at most 4096 pixels"]),
        ({"model": "sdxl", "size": "24x24"}, "size", ["24x24 was given", "multiples of 16"]),
        ({"model": "flux-dev", "size": "60x64"}, "size", ["from 64 to 1024", "256x256"]),
        ({"model": "dit", "size": "32x24"}, "size", ["32x24 was given", "other squares"]),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused_with_what_it_takes(
    body: dict[str, Any], param: str, said: list[str], service: Service
) -> None:
    error = refused(httpx.post(f"{service.url}/v1/images", json=body))
    assert error["param"] == param
    for words in said:
        assert words in error["message"]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            Ask("sd3", "vary", ((40, 40),), numbers={"steps": 4, "strength": 0.2}),
            ["strength 0.2 of 4 steps", "0.25 is one"],
        ),
        (
            Ask(
                *("sdxl", "restyle", ((40, 40),)),
                texts={"prompt": "a"},
                numbers={"steps": 3, "strength": 0.3},
            ),
            ["strength 0.3 of 3 steps", "0.34 is one"],
        ),
        (
            Ask("flux2-klein", "inpaint", ((40, 40),), size="64x64", numbers={"strength": 0.1}),
            ["strength 0.1 of 4 steps", "0.25 is one"],
        ),
        (Ask("dit", "vary", ((40, 40),)), ["dit cannot vary", "generate"]),
        (Ask("qwen-edit", "vary", ((40, 40),)), ["qwen-edit cannot vary", "edit"]),
        (Ask("sana-sprint", "inpaint", ((40, 40),)), ["sana-sprint cannot inpaint"]),
        (Ask("flux-kontext", "edit", ((64, 64),)), ["prompt: is required"]),
        (
            Ask("flux-kontext", "edit", ((64, 64),) * 2, texts={"prompt": "a"}),
            ["image: 2 were given", "takes at most 1"],
        ),
        (
            Ask("qwen-edit-plus", "edit", ((64, 64),) * 4, texts={"prompt": "a"}),
            ["image: 4 were given", "takes at most 3"],
        ),
        (
            Ask("flux2-klein", "edit", ((64, 64),) * 5, texts={"prompt": "a"}),
            ["image: 5 were given", "takes at most 4"],
        ),
        (
            Ask("flux2-klein", "edit", ((40, 64),), size="64x64", texts={"prompt": "a"}),
            ["Image too small: 40×64", "at least 64px"],  # the library's own words
        ),
        (
            Ask("flux-kontext", "edit", ((60, 3),), size="64x64", texts={"prompt": "a"}),
            ["an image of 60 x 3 pixels", "at least 4"],
        ),
        (
            Ask("flux-kontext", "edit", ((1, 1),), size="64x64", texts={"prompt": "a"}),
            ["an image of 1 x 1 pixels", "at least 4"],
        ),
        (
            Ask(
                *("qwen-edit-plus", "edit", ((70, 70), (5, 3000))),
                size="64x64",
                texts={"prompt": "a"},
            ),
            ["height and width must be > 0"],
        ),
    ],
)
async def test_operations_that_cannot_be_are_refused(
    ask: Ask, said: list[str], service: Service
) -> None:
    restarts = service.metric("worker_restarts_total")
    async with service.client() as http:
        error = refused(await send(http, ask))
    for words in said:
        assert words in error["message"]
    assert service.metric("worker_restarts_total") == restarts


def test_the_official_client_is_told_how_many_images_there_may_be(service: Service) -> None:
    images = [upload((64, 64), number) for number in range(4)]
    with official(service) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=images, prompt="a", model="qwen-edit-plus")
    assert caught.value.param == "image"
    assert "4 were given" in caught.value.message
    assert "at most 3" in caught.value.message
