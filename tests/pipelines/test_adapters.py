"""LoRA adapters: what the library draws with them, whoever else is drawn; and who has none is not
touched.

If these fail, a row is drawn with another's adapter, or at another's strength, or all images change
when a file is put into the folder of adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.engine.batcher import choose
from model.checkpoint import CheckpointError
from model.pipelines.calls import Call
from model.pipelines.loras import takes_loras
from model.pipelines.sampler import PipelineModel
from model.request import ImageRequest
from tests.pipelines.conftest import MAKERS
from tests.pipelines.lora import adapted, make_adapter
from tests.pipelines.questions import Question, drawn_by_the_library, pipeline, questions
from tests.pipelines.questions import pixels as of_png
from tests.pipelines.test_rows import finish, load, pixels
from tests.service.running import running

pytestmark = pytest.mark.timeout(600)

TAKE_NONE = {"pixart-alpha", "pixart-sigma", "dit", "hunyuan-image", "hunyuan-image-distilled"}
"""Of the library's pipelines; all others take adapters."""


@pytest.fixture(scope="module")
def sd3_loras(folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters: of attention, and of the layers after it."""
    home = tmp_path_factory.mktemp("loras")
    make_adapter(home / "ink.safetensors", folders["sd3"], 1, gain=2)
    later = ("ff.net.0.proj", "ff.net.2")
    make_adapter(home / "chalk.safetensors", folders["sd3"], 2, targets=later, gain=2)
    return home


@pytest.fixture(scope="module")
def sd3(folders: Mapping[str, Path], sd3_loras: Path) -> PipelineModel:
    return load(folders["sd3"], loras=sd3_loras)


def asked(model: PipelineModel, question: Question, **given: Any) -> ImageRequest:
    given |= question.parameters
    return model.spec.request(
        question.prompt,
        question.seed,
        size=question.size,
        negative_prompt=question.negative_prompt,
        **given,
    )


def test_who_takes_none(folders: Mapping[str, Path]) -> None:
    found = {
        name for name, path in folders.items() if not takes_loras(type(pipeline(path)).__name__)
    }
    assert found == TAKE_NONE


@pytest.mark.parametrize(
    ("name", "dora"), [*((name, False) for name in MAKERS if name not in TAKE_NONE), ("sd3", True)]
)
def test_draws_what_the_library_draws(
    name: str, dora: bool, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """And without an adapter the bytes of a service that has none. DoRA scales each row of the sum
    of both weights, which no output of a layer tells."""
    folder, scale = folders[name], 0.7
    file = make_adapter(tmp_path / "ink.safetensors", folder, 1, gain=2, dora=dora)
    plain, model = load(folder), load(folder, loras=tmp_path)
    assert model.spec.loras == ("ink",)
    [question] = questions(folder, 1)
    requests = [asked(model, question, lora="ink", lora_scale=scale), asked(model, question)]
    inked, untouched = finish(model, [model.start(request) for request in requests])
    assert [untouched] == finish(plain, [plain.start(requests[1])])
    with adapted(folder, file, scale):
        expected = drawn_by_the_library(folder, question)
    assert np.abs(pixels(inked) - expected).max() <= 2
    assert np.abs(pixels(inked) - pixels(untouched)).mean() > 4, "an adapter that shows"


def company(model: PipelineModel) -> list[ImageRequest]:
    """Two of one adapter and strength, and neighbours in all other ways."""
    given: list[dict[str, Any]] = [
        {},
        {"lora": "ink", "steps": 3},
        {"lora": "ink", "steps": 5},
        {"lora": "ink", "lora_scale": 0.5},
        {"lora": "ink", "lora_scale": 0.5000001},
        {"lora": "chalk"},
        {"lora": "chalk", "lora_scale": 0.0},
        {},
    ]
    return [
        model.spec.request("a red apple", 7, size=(32, 24), **{"steps": 4, "guidance": 1.0} | one)
        for one in given
    ]


def test_company_changes_no_byte(sd3: PipelineModel) -> None:
    requests = company(sd3)
    alone = [finish(sd3, [sd3.start(request)])[0] for request in requests]
    together = finish(sd3, [sd3.start(request) for request in requests])
    assert together == alone
    assert finish(sd3, [sd3.start(request) for request in reversed(requests)]) == alone[::-1]
    plain, inked, _, weak, _, chalked, at_0, again = alone
    assert plain == again
    apart = [np.abs(pixels(one) - pixels(plain)).mean() for one in (weak, inked, chalked, at_0)]
    assert apart[1] > apart[0] > 1
    assert apart[2] > 1
    assert apart[3] == 0, "a strength of 0 is none"


def test_only_rows_with_equal_adapters_share_passes(
    sd3: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run = sd3._passes.run

    def counting(gate: Any, calls: Sequence[Call]) -> list[Any]:
        passes.append(len(calls))
        return run(gate, calls)

    monkeypatch.setattr(sd3._passes, "run", counting)
    rows = [sd3.start(request) for request in company(sd3)]
    for row in rows:
        sd3.step([row])  # texts
    kinds = [row.kind for row in rows]
    assert kinds[0] == kinds[7]
    assert kinds[1] == kinds[2]
    assert len(set(kinds)) == 6
    sd3.step(choose(rows, sd3.capacity))
    assert sorted(passes) == [1, 1, 1, 1, 2, 2]
    finish(sd3, rows)


def test_layers_of_text_encoders_count_too(folders: Mapping[str, Path], tmp_path: Path) -> None:
    """Of those alone: were prompts remembered without their adapter, nothing would change."""
    parts = ("text_encoder", "text_encoder_2")
    file = make_adapter(tmp_path / "words.safetensors", folders["sdxl"], 3, parts=parts, gain=2)
    both = ("network", "text_encoder")
    make_adapter(tmp_path / "both.safetensors", folders["sdxl"], 4, parts=both, gain=2)
    model, plain = load(folders["sdxl"], loras=tmp_path), load(folders["sdxl"])
    [question] = questions(folders["sdxl"], 1)
    names = ("", "words", "", "both", "words")
    requests = [asked(model, question, lora=name) for name in names]
    drawn = [finish(model, [model.start(request)])[0] for request in requests]
    assert finish(plain, [plain.start(requests[0])]) == drawn[:1]
    assert drawn[0] == drawn[2]
    assert drawn[1] == drawn[4]
    assert finish(model, [model.start(request) for request in requests]) == drawn
    with adapted(folders["sdxl"], file, 1.0):
        expected = drawn_by_the_library(folders["sdxl"], question)
    assert np.abs(pixels(drawn[1]) - expected).max() <= 2
    assert len({drawn[0].pixels, drawn[1].pixels, drawn[3].pixels}) == 3  # type: ignore[union-attr]


def of_another_pipeline(file: Path, folders: Mapping[str, Path]) -> None:
    make_adapter(file, folders["flux-dev"], 1)


def of_other_sizes(file: Path, folders: Mapping[str, Path]) -> None:
    weights = load_file(make_adapter(file, folders["sd3"], 1))
    save_file({key: torch.cat((value, value), -1) for key, value in weights.items()}, file)


def of_a_deeper_network(file: Path, folders: Mapping[str, Path]) -> None:
    weights = load_file(make_adapter(file, folders["sd3"], 1))
    more = {key.replace(".0.", ".7."): value.clone() for key, value in weights.items()}
    save_file(weights | more, file)


def of_no_adapter(file: Path, folders: Mapping[str, Path]) -> None:
    save_file({"conv.weight": torch.zeros(3, 3)}, file)


def of_no_layer(file: Path, folders: Mapping[str, Path]) -> None:
    weights = load_file(make_adapter(file, folders["sd3"], 1))
    save_file({f"prior.{key}": value for key, value in weights.items()}, file)


MISFITS: list[tuple[Callable[[Path, Mapping[str, Path]], None], str]] = [
    (of_another_pipeline, "the transformer has no layer single_transformer_blocks.0.attn.to_k"),
    (of_other_sizes, "size mismatch"),
    (of_a_deeper_network, "the transformer has no layer transformer_blocks.7.attn.to_k"),
    (of_no_adapter, "Invalid LoRA checkpoint"),
    (of_no_layer, "none of its layers is one of the pipeline's"),
]


@pytest.mark.parametrize(("make", "why"), MISFITS)
def test_a_file_that_does_not_fit_is_named(
    make: Callable[[Path, Mapping[str, Path]], None],
    why: str,
    folders: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    file = tmp_path / "loras" / "ink.safetensors"
    file.parent.mkdir()
    make(file, folders)
    with pytest.raises(CheckpointError) as refused:
        load(folders["sd3"], loras=file.parent)
    said = str(refused.value)
    assert said.startswith(f"{file}: no adapter for StableDiffusion3Pipeline: ")
    assert why in said
    assert "\n" not in said


def test_one_that_changes_the_network_itself_is_refused(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """FLUX's loader writes norms that such a file has into the network, for all images."""
    file = make_adapter(tmp_path / "ink.safetensors", folders["flux-dev"], 1)
    norm = {"transformer.transformer_blocks.0.attn.norm_q.weight": torch.ones(16)}
    save_file(load_file(file) | norm, file)
    with pytest.raises(CheckpointError, match="changes weights of the networks themselves"):
        load(folders["flux-dev"], loras=tmp_path)


def test_pickles_are_never_opened(folders: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "ink.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=r"ink\.bin: pickled weights are never opened"):
        load(folders["sd3"], loras=tmp_path)


async def test_over_http(folders: Mapping[str, Path], tmp_path: Path) -> None:
    """By POST and by image address; files for all models, and of one alone."""
    loras = tmp_path / "loras"
    shared = make_adapter(loras / "ink.safetensors", folders["sd3"], 1, gain=2)
    make_adapter(loras / "sd3" / "chalk" / "pytorch_lora_weights.safetensors", folders["sd3"], 2)
    settings = {
        "MODELS": f"{folders['sd3']},{folders['sd3.5-turbo']},{folders['dit']}",
        "LORAS": str(loras),
        "TILE": "4",
    }
    [question] = questions(folders["sd3"], 1)
    body = question.body | {"lora": "ink", "lora_scale": 0.7}
    with adapted(folders["sd3"], shared, 0.7):
        expected = drawn_by_the_library(folders["sd3"], question)
    with running(folders["sd3"], tmp_path / "log", **settings) as service:
        service.await_ready(patience=300)
        async with service.client() as http:
            listed = {one["id"]: one for one in (await http.get("/v1/models")).json()["data"]}
            assert {name: one["loras"] for name, one in listed.items()} == {
                "sd3": ["chalk", "ink"],
                "sd3.5-turbo": ["ink"],
                "dit": [],
            }
            assert all(one["seed_exact"] for one in listed.values())
            posted = await http.post("/v1/images", json=body)
            assert posted.status_code == 200, posted.text
            assert np.abs(of_png(posted.content) - expected).max() <= 2
            by_address = await http.get(f"{question.address}&lora=ink&lora_scale=0.7")
            assert by_address.content == posted.content
            weaker = await http.get(f"{question.address}&lora=ink&lora_scale=0.3")
            plain = await http.get(question.address)
            assert len({posted.content, weaker.content, plain.content}) == 3
            for answer in (
                await http.post("/v1/images", json=body | {"lora": "oil"}),
                await http.get(f"{question.address}&lora=oil"),
            ):
                assert answer.status_code == 404
                assert answer.json()["error"]["code"] == "lora_not_found"
                assert "it has chalk, ink" in answer.json()["error"]["message"]
            other = await http.post("/v1/images", json={"model": "dit", "lora": "ink"})
            assert other.status_code == 404
            assert "it has none" in other.json()["error"]["message"]
            of_none = await http.post("/v1/images", json=question.body | {"lora_scale": 0.5})
            assert of_none.content == plain.content
