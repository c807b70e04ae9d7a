"""A model whose default depends on the operation. If these fail, an address, an answer or what is
said of the model means other steps than those that are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from app.api.openai.schemas import EditsForm, GenerationsBody
from app.api.signing import path_of
from app.engine import Engine, EngineSettings
from app.generation.editing.operations import EditName, EditRequest
from app.generation.resolve import Limits, Wanted, resolve
from app.main import create_app
from app.metrics import Metrics
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.registry import open_checkpoint
from model.request import ImageRequest
from tests.api.application import asking, png
from tests.engine.fakes import started
from tests.tiny import tiny_flow, with_sampling

STEPS_FOR = {"walk": 3, "inpaint": 5, "upscale": 6, "colorize": 6}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tiny_flow(tmp_path_factory.mktemp("models") / "tiny-flow")
    return open_checkpoint(with_sampling(folder, steps=4, steps_for=STEPS_FOR))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(flow: Checkpoint) -> AsyncIterator[Engine]:
    settings = EngineSettings(
        models=(flow.folder,), devices=("cpu",), dtype="fp32", threads=1, cache_bytes=0
    )
    async with started(Engine(settings, Metrics())) as engine:
        await engine.wait_ready()
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def client(engine: Engine, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(engine, settings, Metrics()) as client:
        yield client


def upload() -> bytes:
    """8 x 8 pixels: a red square on nothing."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:6, 2:6] = (200, 40, 40, 255)
    return png(Image.fromarray(pixels))


@pytest.mark.parametrize(
    ("walk", "steps", "query"),
    [
        (None, 4, "?prompt=fox&model=tiny-flow"),
        (None, 3, "?prompt=fox&model=tiny-flow&steps=3"),
        (2, 3, "?prompt=fox&model=tiny-flow&walk=2"),
        (2, 4, "?prompt=fox&model=tiny-flow&walk=2&steps=4"),
    ],
)
def test_an_address_leaves_out_the_default_of_its_own_operation(
    flow: Checkpoint, walk: int | None, steps: int, query: str
) -> None:
    asked = Wanted(prompt="fox", seed=7, walk=walk, parameters={"steps": steps})
    assert path_of(resolve(asked, flow, Limits())) == f"/v1/images/7.png{query}"


@pytest.mark.parametrize("walk", [None, 2])
async def test_an_address_gives_the_bytes_of_the_same_body(
    client: httpx.AsyncClient, walk: int | None
) -> None:
    own = {None: 4, 2: 3}[walk]
    fields = {"prompt": "red apple", "seed": 7} | ({} if walk is None else {"walk": walk})
    left, same, other = [
        await client.post("/v1/images", json=fields | steps)
        for steps in ({}, {"steps": own}, {"steps": own + 1})
    ]
    address = left.headers["Content-Location"]
    assert "steps" not in address
    assert same.headers["Content-Location"] == address
    assert other.headers["Content-Location"] == f"{address}&steps={own + 1}"
    assert left.content == same.content == (await client.get(address)).content != other.content
    assert other.content == (await client.get(other.headers["Content-Location"])).content


@pytest.mark.parametrize(
    ("operation", "steps"),
    [
        *(("vary", 4), ("restyle", 4), ("inpaint", 5), ("outpaint", 5)),
        *(("upscale", 6), ("colorize", 6), ("denoise", 1)),
    ],
)
async def test_an_upload_takes_the_steps_of_what_is_done_with_it(
    client: httpx.AsyncClient, submitted: list[tuple[ImageRequest, ...]], operation: str, steps: int
) -> None:
    answers = []
    for more in ({}, {"steps": str(steps)}, {"steps": "2"}):
        fields = {"operation": operation, "prompt": "red apple", "seed": "7", **more}
        answer = await client.post(
            "/v1/images/transform", data=fields, files={"image": ("image", upload())}
        )
        assert answer.status_code == 200, answer.text
        answers.append(answer.content)
    assert [request.value("steps") for (request,) in submitted] == [steps, steps, 2]
    left, same, other = answers
    assert left == same
    assert left != other or operation == "denoise"  # which is one prediction


async def test_the_table_says_each(client: httpx.AsyncClient) -> None:
    parameters = (await client.get("/v1/models/tiny-flow")).json()["parameters"]
    defaults = {each["name"]: (each["default"], each["defaults"]) for each in parameters}
    assert defaults.pop("steps") == (4, STEPS_FOR)
    assert [own for _, own in defaults.values()] == [{}] * 4


@pytest.mark.parametrize(("operation", "steps"), [("restyle", 8), ("inpaint", 10), (None, 8)])
def test_openais_quality_is_a_multiple_of_it(
    flow: Checkpoint, operation: EditName | None, steps: int
) -> None:
    if operation is None:
        wanted = GenerationsBody(prompt="fox", quality="high").wanted(flow.spec)
    else:
        edit = EditRequest(operation=operation, images=(upload(),))
        wanted = EditsForm(prompt="fox", quality="high").wanted(flow.spec, edit)
    assert wanted.parameters == {"steps": steps}


def test_the_document_says_those_of_each_route(flow: Checkpoint) -> None:
    document = create_app(Settings(models=(flow.folder,))).openapi()

    def said(path: str, kind: str) -> str:
        content = document["paths"][path]["post"]["requestBody"]["content"][kind]
        schema = content["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        text: str = schema["properties"]["steps"]["description"]
        return text.partition(" tiny-flow: ")[2]

    parameters = document["paths"]["/v1/images/{seed}.{format}"]["get"]["parameters"]
    (steps,) = (each for each in parameters if each["name"] == "steps")
    assert steps["description"].endswith(" tiny-flow: 4, or 3 to walk by default.")
    form, body = "multipart/form-data", "application/json"
    others = "5 to inpaint, or 6 to upscale or colorize"
    assert said("/v1/images", body) == "4, or 3 to walk by default."
    assert said("/v1/images/transform", form) == f"4, or {others} by default."
    assert said("/v1/images/edits", form) == "4, or 5 to inpaint by default."
    assert said("/v1/images/generations", body) == said("/v1/images/variations", form) == ""
