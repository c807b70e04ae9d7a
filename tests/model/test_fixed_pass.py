"""If these fail, a GPU draws from inputs of another pass, or an image changes after it was read.

Here a recording takes the place of a CUDA graph: it keeps the two properties that matter, that
the function is not called again and that results come in the same memory each time. On a GPU the
same promises are tested with real graphs, in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.flow.sampler import FlowSampler
from model.gpt.config import GptCheckpoint
from model.gpt.network import Gpt
from model.gpt.passes import GptPasses
from model.loading import load_model
from model.registry import open_checkpoint
from model.runtime import fixed_pass
from model.runtime.fixed_pass import FixedPass, Mode, Recording, T, mode_on
from model.runtime.generate import generate
from tests.tiny import FLOW_SPEC, tiny_flow, tiny_gpt

CPU = torch.device("cpu")


def record(work: Callable[[], T]) -> Recording[T]:
    """Behaves like a graph, without a GPU."""
    outputs = work()

    def replay() -> None:
        for one, new in zip(outputs, work(), strict=True):
            one.copy_(new)

    return Recording(outputs, replay)


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_pass, "cuda_graph", record)


@dataclass(frozen=True)
class Pair:
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Single:
    x: Tensor


def double(inputs: Pair) -> tuple[Tensor, Tensor]:
    return 2 * inputs.x, inputs.x + inputs.y


@pytest.fixture(params=["eager", "cuda graph"])
def mode(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


def test_each_pass_reads_the_inputs_as_they_are_then(mode: Mode) -> None:
    fixed = FixedPass(double, Pair(torch.zeros(2), torch.zeros(2)), CPU, mode)
    for number in range(3):
        inputs = fixed.inputs()
        inputs.x[:] = number
        inputs.y[1] = 10
        twice, total = fixed.fetch()
        assert twice.tolist() == [2 * number] * 2
        assert total.tolist() == [number, number + 10]


def test_a_recordings_results_come_in_the_same_memory() -> None:
    fixed = FixedPass(double, Pair(torch.ones(2), torch.ones(2)), CPU, "cuda graph")
    before = fixed.launch()
    fixed.inputs().x[:] = 5
    assert fixed.launch()[0].data_ptr() == before[0].data_ptr()
    assert before[0].tolist() == [10, 10]


def test_inputs_may_be_filled_while_the_last_ones_are_in_use() -> None:
    fixed = FixedPass(double, Pair(torch.ones(2), torch.ones(2)), CPU, "cuda graph")
    twice, _ = fixed.launch()
    fixed.inputs().x[:] = 5
    assert twice.tolist() == [2, 2]
    assert fixed._device.x.tolist() == [1, 1]


def test_what_the_function_reads_beside_its_inputs_is_changed_in_place() -> None:
    cache = torch.zeros(2)

    def add(inputs: Single) -> tuple[Tensor]:
        return (cache.add_(inputs.x).clone(),)

    fixed = FixedPass(add, Single(torch.zeros(2)), CPU, "cuda graph")
    cache.zero_()  # a recording may have run it any number of times
    fixed.inputs().x[:] = 1
    assert [fixed.fetch()[0].tolist() for _ in range(2)] == [[1, 1], [2, 2]]


def test_only_gpus_have_graphs() -> None:
    assert mode_on("cpu") == "eager"
    assert mode_on("cuda:1") == "cuda graph"


def test_a_recorded_model_draws_the_same_bytes_beside_any_other_rows(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_flow(tmp_path))
    requests = [
        FLOW_SPEC.request("red apple", 1, steps=4, guidance=2.0),
        FLOW_SPEC.request("", 2, steps=7, guidance=2.0),
        FLOW_SPEC.request("blue square", 3, steps=5, guidance=1.0, solver_order=2),
    ]
    eager = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    recorded = load_model(checkpoint, device="cpu", dtype="fp32", tile=8, mode="cuda graph")
    expected = list(generate(eager, requests))
    assert list(generate(recorded, requests)) == expected
    assert list(generate(recorded, reversed(requests))) == expected[::-1]


def flow_passes(checkpoint: Checkpoint) -> list[FixedPass[Any, Any]]:
    model = load_model(checkpoint, device="meta", dtype="bf16", tile=8)
    assert isinstance(model, FlowSampler)
    return [model._encoding, model._denoising]


def gpt_passes(checkpoint: Checkpoint) -> list[FixedPass[Any, Any]]:
    assert isinstance(checkpoint, GptCheckpoint)
    network = Gpt(checkpoint.config.network).to(device="meta", dtype=torch.bfloat16)
    passes = GptPasses(network.eval().requires_grad_(False), 8, "eager")
    return [passes.encode, passes.decode, passes.prefill, passes.token, passes.score]


@pytest.mark.parametrize(("write", "passes_of"), [(tiny_flow, flow_passes), (tiny_gpt, gpt_passes)])
def test_no_pass_asks_anything_of_the_host(
    tmp_path: Path,
    write: Callable[[Path], Path],
    passes_of: Callable[[Checkpoint], list[FixedPass[Any, Any]]],
) -> None:
    # Tensors on the "meta" device have no values: whoever reads one on the host, or brings a
    # tensor of the host into a pass, fails there. On a GPU that would be a wait in every step.
    for fixed in passes_of(open_checkpoint(write(tmp_path / "tiny"))):
        for output in fixed.launch():
            assert output.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):  # the inverse: this is how one would fail
        output.flatten()[0].item()
    with pytest.raises(RuntimeError, match="meta"):
        output.flatten()[:2] + torch.ones(2)
