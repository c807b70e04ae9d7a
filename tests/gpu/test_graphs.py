"""What only a GPU can show of its passes: real graphs, no waiting, memory that stays as it is.

If these fail, a GPU is slow or runs out of memory in time, or numerics claim equal bits of two
ways to run that differ. The logic is tested on the CPU in tests/model/test_passes.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.selftest import examine
from model.loading import Dtype, load_model
from model.protocol import ImageModel
from model.registry import open_checkpoint, shipped
from model.request import ImageRequest
from model.runtime.fixed_pass import FixedPass, Mode
from model.runtime.generate import generate
from model.spec import ModelSpec
from tests.devices import GPU, configured
from tests.tiny import tiny_flow, tiny_gpt

pytestmark = pytest.mark.gpu


def requests(spec: ModelSpec) -> list[ImageRequest]:
    """Rows that have little in common."""
    allowed = spec.parameter("steps")
    assert allowed is not None
    steps = [max(allowed.minimum, min(count, allowed.maximum)) for count in (8, 5, 7, 3)]
    second = {"solver_order": 2.0} if spec.parameter("solver_order") else {}
    wishes: list[tuple[str, dict[str, float]]] = [
        ("red apple, fluent 3d style", {"steps": steps[0], "guidance": 2.0}),
        ("", {"steps": steps[1], "guidance": 2.0}),
        ("fox, noto style", {"steps": steps[2], "guidance": 1.0, **second}),
        ("rocket, noto style", {"steps": steps[3], "guidance": 7.5, **second}),
    ]
    return [
        replace(spec.request(prompt, seed), parameters=spec.fill(given))
        for seed, (prompt, given) in enumerate(wishes, 1)
    ]


@pytest.fixture(autouse=True)
def device() -> Iterator[str]:
    with configured(GPU) as device:
        yield device


def load(folder: Path, dtype: Dtype, mode: Mode = "cuda graph", tile: int = 32) -> ImageModel[Any]:
    checkpoint = open_checkpoint(folder)
    return load_model(checkpoint, device=GPU, dtype=dtype, tile=tile, mode=mode)


@pytest.fixture(params=[tiny_flow, tiny_gpt])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small checkpoint of each family."""
    folder: Path = request.param(tmp_path / "tiny")
    return folder


@pytest.fixture(params=["shipped", tiny_gpt])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The model that ships, and small ones of families that have none yet."""
    folder: Path = shipped()[0] if request.param == "shipped" else request.param(tmp_path / "tiny")
    return folder


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raises where torch makes the host wait for the device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode calls itself a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("tile", [2, 8, 32, 64])
@pytest.mark.parametrize("mode", ["eager", "cuda graph"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_it_is_seed_exact_at_every_tile(folder: Path, dtype: Dtype, mode: Mode, tile: int) -> None:
    assert examine(load(folder, dtype, mode, tile)).seed_exact


def test_nothing_in_a_step_makes_the_host_wait(tmp_path: Path) -> None:
    model = load(tiny_flow(tmp_path), "bf16")
    examine(model)  # each size of a pass is compared once, which waits
    rows = [model.start(request) for request in requests(model.spec)]
    model.step(rows)
    model.step(rows)  # whatever is made once is made now
    newcomer = model.start(requests(model.spec)[0])
    with no_waiting():
        model.step([*rows, newcomer])
        with pytest.raises(RuntimeError, match="synchroniz"):  # the inverse: it would be seen
            torch.ones(1, device=GPU).item()


@dataclass(frozen=True)
class Numbers:
    x: torch.Tensor


def test_inputs_wait_for_the_pass_that_reads_them() -> None:
    # Long enough on the device that a host which did not wait would overwrite them too early.
    def slow(inputs: Numbers) -> tuple[torch.Tensor]:
        torch.cuda._sleep(100_000_000)
        return (inputs.x.clone(),)

    fixed = FixedPass(slow, Numbers(torch.zeros(1 << 20)), torch.device(GPU), "eager")
    seen = []
    for number in range(3):
        fixed.inputs().x.fill_(number)
        seen.append(fixed.launch(1 << 20)[0])
    assert [one.unique().tolist() for one in seen] == [[0], [1], [2]]


def test_memory_stays_as_it_is(tiny: Path) -> None:
    model = load(tiny, "bf16")

    def draw_many() -> tuple[int, int]:
        for _ in range(20):
            list(generate(model, requests(model.spec)))
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    before = draw_many()
    assert draw_many() == before
