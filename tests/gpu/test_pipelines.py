"""Pipelines of diffusers on a real GPU: equal bytes in any company, also where their networks wait
on the CPU, and one network at a time where there is room for no more.

If these fail, offloading draws other pictures in a crowd, or a GPU that has room for the largest
network runs out of memory when a row joins. What hooks and gates do to each other is tested on the
CPU in tests/pipelines/test_loading.py.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra diffusers is not installed")

from app.engine.batcher import choose
from app.engine.selftest import examine
from model.checkpoint import CheckpointError
from model.loading import Dtype, load_model
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.sampler import PipelineModel
from model.pipelines.settings import PipelineSettings
from model.request import ImageRequest, Picture
from tests.devices import GPU, configured
from tests.pipelines.conftest import MAKERS
from tests.pipelines.lora import make_adapter
from tests.pipelines.test_rows import ask, finish

pytestmark = pytest.mark.gpu

NAMES = ("flux-dev", "sd3", "sdxl", "qwen-image", "z-image", "sana")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("pipelines")
    for name in NAMES:
        MAKERS[name](home / name)
    return {name: home / name for name in NAMES}


@pytest.fixture(autouse=True)
def device() -> Iterator[str]:
    with configured(GPU) as device:
        yield device


def load(
    folder: Path, dtype: Dtype = "bf16", loras: Path | None = None, **settings: Any
) -> PipelineModel:
    model = load_model(
        PipelineCheckpoint.open(folder).with_loras(loras),
        device=GPU,
        dtype=dtype,
        tile=4,
        pipelines=PipelineSettings(**settings),
    )
    assert isinstance(model, PipelineModel)
    return model


def crowd(model: PipelineModel) -> list[ImageRequest]:
    prompts = ("a red apple", "an old tree", "a cat", "the sea")
    lora = {"lora": "ink"} if model.spec.loras else {}
    return [
        ask(model, seed, prompt, steps=2 + seed, **lora if seed % 2 else {})
        for seed, prompt in enumerate(prompts)
    ]


def drawn(model: PipelineModel, requests: list[ImageRequest]) -> list[Picture]:
    results = finish(model, [model.start(request) for request in requests])
    assert all(isinstance(one, Picture) for one in results), results
    return [one for one in results if isinstance(one, Picture)]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_seed_exact(name: str, dtype: Dtype, folders: dict[str, Path]) -> None:
    assert examine(load(folders[name], dtype)).seed_exact


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
@pytest.mark.parametrize("name", NAMES)
def test_company_changes_no_byte(
    name: str, offload: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Twice: the library's hooks are others after the first call of each network."""
    make_adapter(tmp_path / "ink.safetensors", folders[name], 1, gain=2)
    model = load(folders[name], offload=offload, loras=tmp_path)
    requests = crowd(model)
    alone = [drawn(model, [request])[0] for request in requests]
    assert len({one.pixels for one in alone}) == len(requests)
    assert drawn(model, requests) == alone
    assert drawn(model, requests[::-1]) == alone[::-1]


def on_the_device(model: PipelineModel) -> list[str]:
    """The components with a weight there."""
    return [
        name
        for name, part in model._pipelines["generate"].components.items()
        if isinstance(part, torch.nn.Module)
        if any(weight.device.type == "cuda" for weight in part.parameters())
    ]


@pytest.mark.parametrize("decoder", ["vae", "linear"])
def test_one_network_is_there_at_a_time(decoder: str, folders: dict[str, Path]) -> None:
    """While rows join, show previews and end."""
    model = load(folders["sd3"], offload="model", preview_decoder=decoder)
    assert on_the_device(model) == []
    waiting = crowd(model)
    rows = [model.start(waiting.pop())]
    seen = set()
    while not all(row.done for row in rows) or waiting:
        under_way = [row for row in rows if not row.done]
        before = [row.step for row in under_way]
        for row in choose(under_way, model.capacity):
            model.step([row])
            assert len(on_the_device(model)) <= 1
            seen.update(on_the_device(model))
        for row, step in zip(under_way, before, strict=True):
            if row.step > step and not row.done:
                model.preview(row)
        if waiting:
            rows.append(model.start(waiting.pop()))
    for row in rows:
        assert isinstance(model.result(row), Picture)
        model.release(row)
    assert {"transformer", "vae", "text_encoder_3"} <= seen


@pytest.mark.parametrize("offload", ["none", "model", "group"])
@pytest.mark.parametrize(
    ("kind", "package"), [("int8", "torchao"), ("fp8", "torchao"), ("nf4", "bitsandbytes")]
)
def test_fewer_bits(kind: str, package: str, offload: str, folders: dict[str, Path]) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    try:
        model = load(folders["sd3"], quantization=kind, offload=offload)
    except CheckpointError as error:  # in words, where the libraries do not go together
        pytest.skip(str(error))
    requests = crowd(model)
    alone = [drawn(model, [request])[0] for request in requests]
    assert drawn(model, requests) == alone


def test_memory_is_given_back(folders: dict[str, Path]) -> None:
    model = load(folders["sd3"])
    requests = crowd(model)

    def held() -> int:
        drawn(model, requests)
        gc.collect()  # rows hold themselves in circles
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    for _ in range(3):  # whatever is made once
        drawn(model, requests)
    assert held() == held()


def test_what_cannot_fit_is_said_before_it_is_loaded(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1000, 10_000))
    with pytest.raises(CheckpointError, match=r"its weights take .* what helps: TESSERA_OFFLOAD="):
        load(folders["sd3"])
