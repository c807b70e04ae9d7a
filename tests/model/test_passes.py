"""If these fail, a GPU draws from inputs of another pass, or a picture changes after it was read.

Here a recording takes the place of a CUDA graph: it keeps the two properties that matter, that
the function is not called again and that results come in the same memory each time. On a GPU the
same promises are tested with real graphs, in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model import passes
from model.checkpoint import Checkpoint, load_model
from model.families import GptCheckpointConfig
from model.flow.sampler import FlowSampler
from model.gpt.network import Gpt
from model.gpt.passes import GptPasses
from model.passes import FixedPass, Mode, Recording, T, mode_on
from model.protocol import RowRequest
from model.sampling import generate
from tests.tiny import tiny_flow, tiny_gpt

CPU = torch.device("cpu")


def record(work: Callable[[], T]) -> Recording[T]:
    """A graph's manners without a GPU."""
    outputs = work()

    def replay() -> None:
        for one, new in zip(outputs, work(), strict=True):
            one.copy_(new)

    return Recording(outputs, replay)


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "cuda_graph", record)


def double(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return 2 * x, x + y


@pytest.fixture(params=["eager", "cuda graph"])
def mode(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


def test_each_pass_reads_the_inputs_as_they_are_then(mode: Mode) -> None:
    fixed = FixedPass(double, [torch.zeros(2), torch.zeros(2)], CPU, mode)
    for number in range(3):
        x, y = fixed.inputs()
        x[:] = number
        y[1] = 10
        twice, total = fixed.fetch()
        assert twice.tolist() == [2 * number] * 2
        assert total.tolist() == [number, number + 10]


def test_a_recordings_results_come_in_the_same_memory() -> None:
    fixed = FixedPass(double, [torch.ones(2), torch.ones(2)], CPU, "cuda graph")
    before = fixed.launch()
    fixed.inputs()[0][:] = 5
    assert fixed.launch()[0].data_ptr() == before[0].data_ptr()
    assert before[0].tolist() == [10, 10]


def test_inputs_may_be_filled_while_the_last_ones_are_in_use() -> None:
    fixed = FixedPass(double, [torch.ones(2), torch.ones(2)], CPU, "cuda graph")
    twice, _ = fixed.launch()
    fixed.inputs()[0][:] = 5
    assert twice.tolist() == [2, 2]
    assert fixed._device[0].tolist() == [1, 1]


def test_what_the_function_reads_beside_its_inputs_is_changed_in_place() -> None:
    cache = torch.zeros(2)

    def add(x: Tensor) -> tuple[Tensor]:
        return (cache.add_(x).clone(),)

    fixed = FixedPass(add, [torch.zeros(2)], CPU, "cuda graph")
    cache.zero_()  # a recording may have run it any number of times
    fixed.inputs()[0][:] = 1
    assert [fixed.fetch()[0].tolist() for _ in range(2)] == [[1, 1], [2, 2]]


def test_only_gpus_have_graphs() -> None:
    assert mode_on("cpu") == "eager"
    assert mode_on("cuda:1") == "cuda graph"


def test_a_recorded_model_draws_the_same_bytes_in_any_company(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(tiny_flow(tmp_path))
    requests = [
        RowRequest("red apple", 1, 4, 2.0),
        RowRequest("", 2, 7, 2.0),
        RowRequest("blue square", 3, 5, 1.0, "heun"),
    ]
    eager = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    recorded = load_model(checkpoint, device="cpu", dtype="fp32", tile=8, mode="cuda graph")
    expected = list(generate(eager, requests))
    assert list(generate(recorded, requests)) == expected
    assert list(generate(recorded, reversed(requests))) == expected[::-1]


def flow_passes(checkpoint: Checkpoint) -> list[FixedPass[Any]]:
    model = load_model(checkpoint, device="meta", dtype="bf16", tile=8)
    assert isinstance(model, FlowSampler)
    return [model._reading, model._denoising]


def gpt_passes(checkpoint: Checkpoint) -> list[FixedPass[Any]]:
    assert isinstance(checkpoint.config, GptCheckpointConfig)
    network = Gpt(checkpoint.config.network).to(device="meta", dtype=torch.bfloat16)
    passes = GptPasses(network.eval().requires_grad_(False), 8, "eager")
    return [passes.encoding, passes.decoding, passes.feeding, passes.drawing, passes.reading]


@pytest.mark.parametrize(("write", "passes_of"), [(tiny_flow, flow_passes), (tiny_gpt, gpt_passes)])
def test_no_pass_asks_anything_of_the_host(
    tmp_path: Path,
    write: Callable[[Path], Path],
    passes_of: Callable[[Checkpoint], list[FixedPass[Any]]],
) -> None:
    # Tensors on the "meta" device have no values: whoever reads one on the host, or brings a
    # tensor of the host into a pass, fails there. On a GPU that would be a wait in every step.
    for each in passes_of(Checkpoint.open(write(tmp_path / "tiny"))):
        for output in each.launch():
            assert output.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):  # the inverse: this is how one would fail
        output.flatten()[0].item()
    with pytest.raises(RuntimeError, match="meta"):
        output.flatten()[:2] + torch.ones(2)
