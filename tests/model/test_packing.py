"""Linear layers with packed weights.

If these fail, a layer computes something else than its weights say, a network that reads weights
itself draws noise, or weights take their memory twice.
"""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from model.runtime import packing
from model.runtime.numerics import DTYPES
from model.runtime.packing import PackedLinear, pack, packs

PACKED = [dtype for dtype in DTYPES.values() if packs(dtype)]

pytestmark = pytest.mark.skipif(not PACKED, reason="this CPU packs nothing")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", PACKED)
@pytest.mark.parametrize("shape", [(40,), (1, 40), (0, 40), (3, 5, 40), (2, 3, 5, 40)])
@torch.no_grad()
def test_products(shape: tuple[int, ...], dtype: torch.dtype, bias: bool) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    layer = nn.Linear(40, 24, bias=bias, dtype=dtype)
    x = torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)
    inputs = x[..., :40].contiguous(), x[..., ::2]
    expected = [layer(one) for one in inputs]
    pack(layer)
    assert type(layer) is PackedLinear
    for one, wanted in zip(inputs, expected, strict=True):
        torch.testing.assert_close(layer(one), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", PACKED)
@torch.no_grad()
def test_who_computes_with_weights_gets_them(dtype: torch.dtype) -> None:
    layer = nn.Linear(40, 24, dtype=dtype)
    weight = layer.weight.clone()
    pack(layer)
    assert isinstance(layer.weight, nn.Parameter)
    assert (layer.weight.shape, layer.weight.dtype) == (weight.shape, dtype)
    assert torch.equal(layer.weight.norm(dim=1), weight.norm(dim=1))
    assert torch.equal(2 * layer.weight, 2 * weight)
    assert torch.equal(layer.weight.to(torch.float64), weight.to(torch.float64))
    assert torch.equal(layer.state_dict()["weight"].clone(), weight)


def test_layers_that_compute_with_the_weights_of_others() -> None:
    """Torch's own encoder multiplies those of its linear layers without calling them."""
    network, x = (
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(),
        torch.randn(2, 5, 16),
    )
    with torch.inference_mode():
        expected = network(x)
        pack(network)
        torch.testing.assert_close(network(x), expected)


def test_weights_are_not_changed() -> None:
    """Or the layer would multiply others than it shows."""
    layer = nn.Linear(40, 24)
    pack(layer)
    with torch.no_grad(), pytest.raises(RuntimeError, match="laid out for inference"):
        layer.weight.zero_()
    with pytest.raises(RuntimeError, match="laid out for inference"):
        layer.load_state_dict(nn.Linear(40, 24).state_dict())


def test_what_is_left_as_it_is() -> None:
    embedding, tied = nn.Embedding(24, 40), nn.Linear(40, 24, bias=False)
    tied.weight = embedding.weight
    other_class = nn.MultiheadAttention(8, 2)
    quantized = nn.Linear(40, 24)

    class Codes(nn.Parameter):
        """Stands for weights that the library of a quantization multiplies in its own way."""

    quantized.weight = Codes(quantized.weight.detach())
    network = nn.ModuleList(
        [embedding, tied, other_class, quantized, nn.Linear(8, 8, dtype=torch.float64)]
    )
    before = {name: type(module) for name, module in network.named_modules()}
    pack(network)
    assert {name: type(module) for name, module in network.named_modules()} == before
    assert all(weight.isfinite().all() for weight in network.parameters())


def test_it_loads_nothing() -> None:
    """torch's own `nn.Parameter` would load distributed tensors and sympy: 0.3 s of each start."""
    code = (
        "import sys, torch; from model.runtime.packing import PackedLinear, pack\n"
        "layer, before = torch.nn.Linear(40, 24), set(sys.modules)\n"
        "pack(layer)\n"
        "assert type(layer) is PackedLinear and len([*layer.parameters()]) == 2\n"
        "layer.requires_grad_(False)(torch.ones(3, 40))\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sympy" not in done.stdout
    assert "torch.distributed.tensor" not in done.stdout


@torch.no_grad()
def test_where_the_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_library", SimpleNamespace())
    packs.cache_clear()
    layer, x = nn.Linear(40, 24), torch.randn(3, 40)
    expected = layer(x)
    try:
        pack(layer)
    finally:
        packs.cache_clear()
    assert type(layer) is nn.Linear
    assert torch.equal(layer(x), expected)
