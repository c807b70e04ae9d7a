"""If these fail, a GPU draws from inputs of another pass, or an image changes after it was read.

Here a recording takes the place of a CUDA graph: it keeps the two properties that matter, that
the function is not called again and that results come in the same memory each time. On a GPU the
same promises are tested with real graphs, in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from model.runtime.fixed_pass import FixedPass, Mode, Recording, T, mode_on, rungs_in
from model.runtime.generate import generate
from model.runtime.rungs import Rungs
from tests.tiny import FLOW_SPEC, tiny_flow, tiny_gpt

CPU = torch.device("cpu")


def record(works: Sequence[Callable[[], T]]) -> list[Recording[T]]:
    """Behaves like graphs, without a GPU."""
    return [_record(work) for work in works]


def _record(work: Callable[[], T]) -> Recording[T]:
    outputs = work()

    def replay() -> None:
        for one, new in zip(outputs, work(), strict=True):
            one.copy_(new)

    return Recording(outputs, replay)


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_pass, "cuda_graphs", record)


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
        twice, total = fixed.fetch(2)
        assert twice.tolist() == [2 * number] * 2
        assert total.tolist() == [number, number + 10]


def test_a_recordings_results_come_in_the_same_memory() -> None:
    fixed = FixedPass(double, Pair(torch.ones(2), torch.ones(2)), CPU, "cuda graph")
    before = fixed.launch(2)
    fixed.inputs().x[:] = 5
    assert fixed.launch(2)[0].data_ptr() == before[0].data_ptr()
    assert before[0].tolist() == [10, 10]


def test_inputs_may_be_filled_while_the_last_ones_are_in_use() -> None:
    fixed = FixedPass(double, Pair(torch.ones(2), torch.ones(2)), CPU, "cuda graph")
    twice, _ = fixed.launch(2)
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
    assert [fixed.fetch(2)[0].tolist() for _ in range(2)] == [[1, 1], [2, 2]]


def counting(sizes: list[int], *, wrong: int = 0) -> Callable[[Single], tuple[Tensor]]:
    """Twice the input; notes the sizes asked for, one of which has another last bit."""

    def work(inputs: Single) -> tuple[Tensor]:
        size = len(inputs.x)
        sizes.append(size)
        return (2 * inputs.x.nextafter(inputs.x + (size == wrong)),)

    return work


def launched(fixed: FixedPass[Single, tuple[Tensor]], count: int) -> list[float]:
    fixed.inputs().x[:count] = torch.arange(1.0, count + 1)
    return fixed.fetch(count)[0][:count].tolist()


def test_graphs_have_fewer_sizes() -> None:
    assert rungs_in("eager", 16).sizes == (1, 2, 3, 4, 6, 8, 12, 16)
    assert rungs_in("cuda graph", 16).sizes == (1, 2, 4, 8, 16)
    assert rungs_in("eager", 5).sizes == (1, 2, 3, 4, 5)
    assert rungs_in("eager", 1).sizes == (1,)


def test_a_pass_is_as_small_as_its_rows_allow(mode: Mode) -> None:
    rungs = Rungs(8)
    sizes: list[int] = []
    fixed = FixedPass(counting(sizes), Single(torch.ones(8)), CPU, mode, rungs)
    sizes.clear()
    seen = []
    for count in (1, 2, 3, 4, 5, 8, 1):
        for time in range(2):
            assert launched(fixed, count) == [2.0 * k for k in range(1, count + 1)]
            if time:
                seen.append(fixed.size)
    assert seen == [1, 2, 3, 4, 6, 8, 1]
    assert rungs.sizes == (1, 2, 3, 4, 6, 8)
    if mode == "eager":  # the first time that a size is used, the tile is computed beside it
        assert sizes[:3] == [1, 8, 1]
        assert sizes.count(8) == 5 + 2


@pytest.mark.parametrize("wrong", [1, 2, 3, 4, 6])
def test_a_size_with_another_last_bit_is_lost(mode: Mode, wrong: int) -> None:
    # The inverse. And the results are the tile's, also those of the pass in which it was found.
    rungs = Rungs(8)
    fixed = FixedPass(counting([], wrong=wrong), Single(torch.ones(8)), CPU, mode, rungs)
    for _ in range(3):
        for count in range(1, 9):
            assert launched(fixed, count) == [2.0 * k for k in range(1, count + 1)]
            assert fixed.size != wrong
    assert rungs.sizes == tuple(size for size in (1, 2, 3, 4, 6, 8) if size != wrong)


def test_other_kinds_of_passes_keep_what_one_lost() -> None:
    rungs = Rungs(8)
    one, other = (
        FixedPass(counting([], wrong=wrong), Single(torch.ones(8)), CPU, "eager", rungs)
        for wrong in (2, 0)
    )
    for fixed in (one, other) * 3:
        launched(fixed, 2)
    assert (one.size, other.size) == (3, 2)
    assert 2 in rungs.sizes
    rungs.use([4])  # what the self-test does where results differ
    for _ in range(2):
        launched(other, 2)
    assert other.size == 4


def test_a_smaller_pass_leaves_the_other_places_alone() -> None:
    fixed = FixedPass(double, Pair(torch.zeros(4), torch.zeros(4)), CPU, "cuda graph", Rungs(4))
    fixed.inputs().x[:] = torch.arange(4.0)
    whole = fixed.launch(4)[0].clone()
    for _ in range(2):
        fixed.inputs().x[0] = 7
        assert fixed.launch(1)[0][0] == 14
    assert fixed.size == 1
    fixed.inputs().x[0] = 0
    assert torch.equal(fixed.launch(4)[0], whole)


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


def test_a_model_in_small_passes_draws_what_it_draws_in_the_tile(tmp_path: Path) -> None:
    requests = [FLOW_SPEC.request("red apple", seed, steps=3) for seed in range(4)]
    model = load_model(open_checkpoint(tiny_flow(tmp_path)), device="cpu", dtype="bf16", tile=8)
    small = [next(generate(model, [request])) for request in requests]
    assert model.rungs.smaller == (1, 2, 3, 4, 6)
    model.rungs.use(())
    assert [next(generate(model, [request])) for request in requests] == small
    assert list(generate(model, requests)) == small


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
        for size in fixed._parts:
            for output in fixed._run(size):
                assert output.device.type == "meta"
                assert len(output) == size
    with pytest.raises(RuntimeError, match="meta"):  # the inverse: this is how one would fail
        output.flatten()[0].item()
    with pytest.raises(RuntimeError, match="meta"):
        output.flatten()[:2] + torch.ones(2)
