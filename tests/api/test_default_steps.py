"""A model whose default depends on whether there is a prompt."""

import json

import pytest

from app.api.openai.schemas import VariationsForm
from app.api.signing import path_of
from app.generation.resolve import Limits, Wanted, resolve
from app.main import create_app
from app.settings import Settings
from model.checkpoint import CONFIG, Checkpoint
from model.registry import open_checkpoint
from tests.tiny import tiny_flow


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tiny_flow(tmp_path_factory.mktemp("models") / "tiny-flow")
    path = folder / CONFIG
    config = json.loads(path.read_text("utf-8"))
    config["sampling"] |= {"steps": 4, "steps_without_prompt": 20, "max_steps": 100}
    path.write_text(json.dumps(config), encoding="utf-8")
    return open_checkpoint(folder)


@pytest.mark.parametrize(
    ("prompt", "steps", "query"),
    [
        ("fox", 4, "?prompt=fox&model=tiny-flow"),
        ("fox", 20, "?prompt=fox&model=tiny-flow&steps=20"),
        ("", 20, "?model=tiny-flow"),
        ("", 4, "?model=tiny-flow&steps=4"),
    ],
)
def test_an_address_leaves_out_the_default_of_its_own_prompt(
    flow: Checkpoint, prompt: str, steps: int, query: str
) -> None:
    asked = Wanted(prompt=prompt, seed=7, parameters={"steps": steps})
    assert path_of(resolve(asked, flow, Limits())) == f"/v1/images/7.png{query}"


@pytest.mark.parametrize(("prompt", "steps"), [("fox", 8), ("", 40)])
def test_openais_quality_is_a_multiple_of_it(flow: Checkpoint, prompt: str, steps: int) -> None:
    wanted = VariationsForm(prompt=prompt, quality="high").wanted(flow.spec)
    assert wanted.parameters == {"steps": steps}


def test_the_document_says_both(flow: Checkpoint) -> None:
    document = create_app(Settings(models=(flow.folder,))).openapi()
    parameters = document["paths"]["/v1/images/{seed}.{format}"]["get"]["parameters"]
    (steps,) = (each for each in parameters if each["name"] == "steps")
    assert steps["description"].endswith("tiny-flow: 4, or 20 without a prompt by default.")
