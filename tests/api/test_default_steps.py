"""A model whose default depends on whether there is a prompt: the one that ships."""

import pytest

from app.api.openai.schemas import VariationsForm
from app.api.signing import path_of
from app.generation.resolve import Limits, Wanted, resolve
from app.main import create_app
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.registry import SHIPPED, open_checkpoint


@pytest.fixture(scope="module")
def flow() -> Checkpoint:
    return open_checkpoint(SHIPPED / "emoji-flow")


@pytest.mark.parametrize(
    ("prompt", "steps", "query"),
    [
        ("fox", 4, "?prompt=fox&model=emoji-flow"),
        ("fox", 20, "?prompt=fox&model=emoji-flow&steps=20"),
        ("", 20, "?model=emoji-flow"),
        ("", 4, "?model=emoji-flow&steps=4"),
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
    assert steps["description"].endswith("emoji-flow: 4, or 20 without a prompt by default.")
