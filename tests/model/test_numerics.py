"""If these fail, two replicas with one name for their bits draw different ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.runtime import numerics as module
from model.runtime.numerics import configure_determinism, numerics

GIVEN: dict[str, Any] = {
    "digest": "abc",
    "device": "cpu",
    "dtype": "fp32",
    "tile": 8,
    "mode": "eager",
}


def test_equal_circumstances_have_equal_numerics() -> None:
    assert numerics(**GIVEN) == numerics(**GIVEN)
    assert len(numerics(**GIVEN)) == 12


@pytest.mark.parametrize(
    ("what", "other"),
    [("digest", "abd"), ("dtype", "bf16"), ("tile", 16), ("mode", "cuda graph")],
)
def test_whatever_may_change_bits_changes_them(what: str, other: object) -> None:
    assert numerics(**GIVEN | {what: other}) != numerics(**GIVEN)


def test_so_do_threads_the_sampler_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numerics(**GIVEN)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 1000)
        assert numerics(**GIVEN) != before
    with monkeypatch.context() as patch:
        patch.setattr(module, "SAMPLER_VERSION", 0)
        assert numerics(**GIVEN) != before
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0")
        assert numerics(**GIVEN) != before


def test_what_torch_leaves_open_is_configured() -> None:
    threads = torch.get_num_threads()
    try:
        torch.backends.cudnn.benchmark = True
        configure_determinism("cpu", threads=1)
        assert torch.get_num_threads() == 1
        assert not torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        assert not torch.are_deterministic_algorithms_enabled()  # a CPU's are, by themselves
    finally:
        torch.set_num_threads(threads)
