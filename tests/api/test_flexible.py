"""A model of many sizes, with a negative prompt, adapters, and edits of several images. If these
fail, what such a model can do is not asked of it by one of the routes, or not said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from app.engine import Engine
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import error, png
from tests.api.flexible import checkpoint_in, engine_of
from tests.engine.fakes import started
from tests.generation.corpus import box_mask, noise

TRANSFORM, EDITS = "/v1/images/transform", "/v1/images/edits"
PNG = {"Accept": "image/png"}
RED: dict[str, Any] = {"prompt": "red hills", "seed": 7}

Jobs = list[tuple[ImageRequest, ...]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_in(tmp_path_factory.mktemp("flexible"))


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(checkpoint: Path, metrics: Metrics) -> AsyncIterator[Engine]:
    async with started(engine_of(checkpoint, metrics)) as engine:
        await engine.wait_ready()
        yield engine


def size_of(answer: httpx.Response) -> tuple[int, int]:
    assert answer.status_code == 200, answer.text
    with Image.open(BytesIO(answer.content)) as image:
        return image.size


def drawn(jobs: Jobs) -> tuple[int, int]:
    """What the model drew last."""
    return jobs[-1][0].width, jobs[-1][0].height


def file(name: str, image: Image.Image) -> tuple[str, tuple[str, bytes]]:
    return name, ("image", png(image))


async def edit(
    client: httpx.AsyncClient, *images: Image.Image, url: str = TRANSFORM, **fields: object
) -> httpx.Response:
    texts = {name: str(value) for name, value in fields.items()}
    files = [file("image", image) for image in images]
    return await client.post(url, data=texts, files=files, headers=PNG)


async def test_what_it_takes_is_said(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    (model,) = listed["data"]
    assert model["sizes"] == {
        "width": 128,
        "height": 128,
        "others": [],
        "multiple": 16,
        "low": 64,
        "high": 256,
        "pixels": 160 * 160,
        "upscaled": 0,
    }
    assert (model["negative_prompt"], model["images"]) == (True, 3)
    assert model["loras"] == ["engraving", "pastel"]
    assert "green hills" in model["examples"]
    assert model["operations"] == [
        *("generate", "vary", "restyle", "inpaint", "outpaint", "edit"),
    ]
    parameters = {each["name"]: each for each in model["parameters"]}
    layers = parameters["layers"]  # always the same, and said all the same
    assert layers["minimum"] == layers["maximum"] == layers["default"] == 4
    assert parameters["steps"]["operations"] == ["generate", "vary", "inpaint", "edit"]
    assert parameters["strength"]["operations"] == ["vary", "inpaint"]
    assert "lora_scale" in parameters
    assert listed["edits"]["edit"] == {
        "does": "edit",
        "takes": [],
        "defaults": {},
        "fixed": [],
        "needs_prompt": True,
        "keeps": False,
        "several": True,
    }


async def test_so_it_is_in_the_document(checkpoint: Path, metrics: Metrics) -> None:
    app = assemble(Settings(max_size=100), engine_of(checkpoint, metrics), metrics)
    app.state.services.images.close()
    app.state.services.uploads.close()
    document = app.openapi()
    components = document["components"]["schemas"]
    query = {
        each["name"]: each["schema"]
        for each in document["paths"]["/v1/images/{seed}.{format}"]["get"]["parameters"]
    }
    form = document["paths"][TRANSFORM]["post"]["requestBody"]["content"]["multipart/form-data"]
    for fields in (
        components["ImagesBody"]["properties"],
        components["GenerationsBody"]["properties"],
        form["schema"]["properties"],
        query,
    ):
        assert fields["lora"]["enum"] == ["", "engraving", "pastel"]
        assert fields["negative_prompt"]["type"] == "string"
        assert "lora_scale" in fields
    number, *_ = components["ImagesBody"]["properties"]["size"]["anyOf"]
    assert number["maximum"] == 256  # that is drawn, though only 100 is resampled to
    assert "edit" in form["schema"]["properties"]["operation"]["enum"]


class TestSizes:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_size=100)

    @pytest.mark.parametrize(
        ("asked", "size"),
        [(None, (128, 128)), (144, (144, 144)), ("256x96", (256, 96)), ("64x256", (64, 256))],
    )
    async def test_they_are_drawn_as_they_are_asked_for(
        self,
        client: httpx.AsyncClient,
        submitted: Jobs,
        asked: int | str | None,
        size: tuple[int, int],
    ) -> None:
        answer = await client.post("/v1/images", json=RED | {"size": asked}, headers=PNG)
        assert size_of(answer) == drawn(submitted) == size
        assert "x-tessera-resampled-from" not in answer.headers
        address = answer.headers["content-location"]
        assert ("size=" in address) == (asked is not None)
        assert (await client.get(address)).content == answer.content
        # OpenAI's own name for the same.
        body = RED | {"size": f"{size[0]}x{size[1]}" if asked else "auto"}
        generated = (await client.post("/v1/images/generations", json=body)).json()
        assert generated["size"] == f"{size[0]}x{size[1]}"
        assert len(set(submitted)) == 1

    @pytest.mark.parametrize("asked", [100, 256, "130x128", "48x128", "272x64", "9000x64"])
    async def test_or_refused_with_what_is_drawn(
        self, client: httpx.AsyncClient, submitted: Jobs, asked: int | str
    ) -> None:
        text = asked if isinstance(asked, str) else f"{asked}x{asked}"
        for answer in (
            await client.post("/v1/images", json={"size": asked}),
            await client.get("/v1/images/7.png", params={"size": asked}),
            await client.post("/v1/images/generations", json={"prompt": "a", "size": text}),
        ):
            assert (answer.status_code, error(answer)["param"]) == (400, "size")
            assert error(answer)["message"] == (
                f"size: {text} was given, hills draws 128x128, or multiples of 16 from 64 to 256 "
                "with at most 25600 pixels"
            )
        assert submitted == []


class TestAdapters:
    async def test_one_changes_the_image_by_every_route(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        inked = RED | {"lora": "engraving", "lora_scale": 1.5}
        answer = await client.post("/v1/images", json=inked, headers=PNG)
        address = answer.headers["content-location"]
        assert address == (
            "/v1/images/7.png?prompt=red%20hills&model=hills&lora=engraving&lora_scale=1.5"
        )
        assert (await client.get(address)).content == answer.content
        await client.post("/v1/images/generations", json=inked)
        assert len(set(submitted)) == 1
        assert submitted[0][0].lora == "engraving"
        plain = await client.post("/v1/images", json=RED, headers=PNG)
        assert plain.content != answer.content
        for operation in ("vary", "edit"):
            await edit(client, noise(20, 20), operation=operation, **inked)
            assert (submitted[-1][0].lora, submitted[-1][0].value("lora_scale")) == (
                "engraving",
                1.5,
            )
        await edit(client, noise(20, 20), url=EDITS, **inked)
        assert submitted[-1][0].lora == "engraving"

    async def test_without_one_its_scale_is_no_part_of_the_address(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        answer = await client.post("/v1/images", json=RED | {"lora_scale": 1.5}, headers=PNG)
        assert answer.headers["content-location"] == (
            "/v1/images/7.png?prompt=red%20hills&model=hills"
        )
        addresses = [f"/v1/images/7.png?{query}" for query in ("", "lora_scale=0.5")]
        etags = [(await client.get(address)).headers["etag"] for address in addresses]
        assert etags[0] == etags[1]

    async def test_an_unknown_one_is_404_with_those_that_there_are(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        unknown: dict[str, Any] = {"prompt": "hills", "lora": "crayon"}
        for answer in (
            await client.post("/v1/images", json=unknown),
            await client.get("/v1/images/7.png", params=unknown),
            await client.post("/v1/images/generations", json=unknown),
            await edit(client, noise(9, 9), operation="edit", **unknown),
            await edit(client, noise(9, 9), url=EDITS, **unknown),
        ):
            assert (answer.status_code, error(answer)["code"]) == (404, "lora_not_found")
            assert (error(answer)["param"], error(answer)["type"]) == ("lora", "not_found_error")
            assert error(answer)["message"] == (
                "lora: hills has no adapter 'crayon'; it has engraving, pastel"
            )
        assert submitted == []


async def test_a_negative_prompt_reaches_the_model_by_every_route(
    client: httpx.AsyncClient, submitted: Jobs
) -> None:
    body = RED | {"negative_prompt": "sun"}
    answer = await client.post("/v1/images", json=body, headers=PNG)
    address = answer.headers["content-location"]
    assert "negative_prompt=sun" in address
    assert (await client.get(address)).content == answer.content
    await client.post("/v1/images/generations", json=body)
    assert len(set(submitted)) == 1
    await edit(client, noise(20, 20), operation="vary", **body)
    await edit(client, noise(20, 20), url=EDITS, **body)
    assert {requests[0].negative_prompt for requests in submitted} == {"sun"}


async def test_a_text_that_the_model_does_not_take_is_refused_in_its_words(
    client: httpx.AsyncClient,
) -> None:
    for field in ("prompt", "negative_prompt"):
        answer = await client.post("/v1/images", json={field: "a labyrinth"})
        assert (answer.status_code, error(answer)["message"]) == (
            400,
            f"{field}: there is no labyrinth in these hills",
        )
        answer = await client.post("/v1/images", json={field: "hill " * 21})
        assert error(answer)["code"] == "prompt_too_long"
        assert error(answer)["message"] == f"{field}: has 21 tokens, hills takes at most 20"


class TestEdits:
    async def test_several_images_are_references(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        images = [noise(300, 150), noise(20, 30, 1), noise(500, 500, 2)]
        answer = await edit(client, *images, operation="edit", prompt="a", seed=7)
        assert size_of(answer) == drawn(submitted) == (192, 96)
        (request,) = submitted[-1]
        assert request.operation == "edit"
        assert request.source is not None
        pictures = (request.source.picture, *request.source.others)
        # As they were sent, but for the one that is larger than anything that is drawn.
        assert [(one.width, one.height) for one in pictures] == [(226, 113), (20, 30), (160, 160)]
        assert {one.channels for one in pictures} == {3}
        assert answer.headers["x-tessera-fitted"] == "300x150 -> 226x113"
        assert "content-location" not in answer.headers
        again = await edit(client, *images, operation="edit", prompt="a", seed=7)
        assert again.content == answer.content
        turned = await edit(client, *images[::-1], operation="edit", prompt="a", seed=7)
        assert turned.content != answer.content

    @pytest.mark.parametrize(
        ("asked", "size", "answered"),
        [("64x256", (64, 256), (64, 256)), (64, (176, 96), (64, 35))],
    )
    async def test_a_size_is_drawn_and_a_longer_side_resampled_to(
        self,
        client: httpx.AsyncClient,
        submitted: Jobs,
        asked: object,
        size: tuple[int, int],
        answered: tuple[int, int],
    ) -> None:
        answer = await edit(client, noise(60, 33), operation="edit", prompt="a", size=asked)
        assert size_of(answer) == answered
        assert drawn(submitted) == size

    @pytest.mark.parametrize(
        ("operation", "images", "param", "says"),
        [
            ("edit", [noise(9, 9)] * 4, "image", "image: 4 were given, hills takes at most 3"),
            ("vary", [noise(9, 9)] * 2, "image", "image: 2 files were sent, one is accepted"),
            ("edit", [noise(9, 90)], "image", "image: has 9 x 90 pixels; at most 4 times as long"),
            ("colorize", [noise(9, 9)], "operation", "operation: hills cannot colorize; it can "),
        ],
    )
    async def test_what_is_refused(
        self,
        client: httpx.AsyncClient,
        operation: str,
        images: list[Image.Image],
        param: str,
        says: str,
    ) -> None:
        answer = await edit(client, *images, operation=operation, prompt="a")
        assert (answer.status_code, error(answer)["param"]) == (400, param)
        assert error(answer)["message"].startswith(says)

    async def test_a_prompt_and_an_image_are_needed(self, client: httpx.AsyncClient) -> None:
        answer = await edit(client, noise(9, 9), operation="edit")
        assert error(answer)["message"] == "prompt: is required: edit needs to know what to make"
        answer = await client.post(TRANSFORM, files={"operation": (None, "edit")})
        assert error(answer)["message"] == "image: is required: a picture, as a file"
        files = [file("image", noise(9, 9)), ("image", ("b", b"text"))]
        answer = await client.post(
            TRANSFORM, data={"operation": "edit", "prompt": "a"}, files=files
        )
        assert error(answer)["message"].startswith("image: 2 of 2 is text, not a picture")

    @pytest.mark.parametrize(
        ("operation", "answered"), [("vary", (176, 96)), ("inpaint", (300, 160))]
    )
    async def test_other_operations_draw_in_the_aspect_of_the_upload(
        self,
        client: httpx.AsyncClient,
        submitted: Jobs,
        operation: str,
        answered: tuple[int, int],
    ) -> None:
        files = [file("image", noise(300, 160))]
        if operation == "inpaint":
            files.append(file("mask", box_mask(300, 160, (9, 9, 99, 99))))
        texts = {"operation": operation}
        answer = await client.post(TRANSFORM, data=texts, files=files, headers=PNG)
        assert size_of(answer) == answered
        assert drawn(submitted) == (176, 96)


class TestOpenAi:
    async def test_without_a_mask_images_are_references(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        files = [file("image[]", noise(20, 20, seed)) for seed in (1, 2)]
        for texts, size in (
            ({"prompt": "a"}, "128x128"),
            ({"prompt": "a", "size": "auto", "input_fidelity": "high"}, "128x128"),
            ({"prompt": "a", "size": "256x96"}, "256x96"),
        ):
            answer = await client.post(EDITS, data=texts, files=files)
            assert answer.status_code == 200, answer.text
            assert answer.json()["size"] == size
            (request,) = submitted[-1]
            assert request.operation == "edit"
            assert request.source is not None
            assert len(request.source.others) == 1
            assert "strength" not in dict(request.parameters)
        refused = await client.post(EDITS, data={"prompt": "a"}, files=files * 2)
        assert error(refused)["message"] == "image: 4 were given, hills takes at most 3"
        refused = await client.post(EDITS, data={"prompt": "a", "size": "1000x96"}, files=files)
        assert error(refused)["message"].startswith("size: 1000x96 was given, hills draws 128x128")

    async def test_with_a_mask_the_first_is_painted_in(
        self, client: httpx.AsyncClient, submitted: Jobs
    ) -> None:
        files = [file("image", noise(40, 20)), file("mask", Image.new("RGBA", (40, 20)))]
        answer = await client.post(EDITS, data={"prompt": "a"}, files=files)
        assert answer.status_code == 200, answer.text
        assert submitted[-1][0].operation == "inpaint"
        assert answer.json()["size"] == "40x20"


class TestMemory:
    """What is decoded waits with its request: it is accounted for as the answer is."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            max_upload_bytes=20_000, max_upload_pixels=26_000, upload_memory_bytes=125_000
        )

    async def test_images_that_do_not_fit_are_refused(self, client: httpx.AsyncClient) -> None:
        # An answer of 65,536 bytes at most, and 24,300 or 76,800 of each image.
        blue = Image.new("RGB", (160, 160), "blue")
        small = Image.new("RGB", (90, 90), "blue")
        for images, status in (([small], 200), ([small, small], 200), ([blue], 503)):
            answer = await edit(client, *images, operation="edit", prompt="a")
            assert answer.status_code == status, answer.text
        assert error(answer)["code"] == "uploads_full"
        assert (await edit(client, small, operation="edit", prompt="a")).status_code == 200
