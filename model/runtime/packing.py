"""Linear layers of a served network on a CPU, whose weights oneDNN lays out once.

`torch.nn.functional.linear` takes weights as they were stored. In bf16 oneDNN lays them out anew in
each call. In fp32 MKL multiplies them, which on AMD's CPUs does without AVX-512 and sums one row in
another order than many. With weights laid out beforehand, as `torch.compile` does where they are
frozen, products take less time: in fp32 on such a CPU less than half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_library: Any = torch.ops.mkldnn  # what `torch.compile` calls for frozen weights; not typed


class PackedLinear(nn.Linear):
    """A layer that was packed. Unless its ``weight`` was kept, all values of it are NaN."""

    packed: Tensor  # opaque: in oneDNN's own order

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        return _multiply(x, self.packed, self.bias)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this CPU do so, and the products are right."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((48, 32), (48,), (2, 3, 32))
    )
    try:
        product = _multiply(x, _lay_out(weight), bias)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(product, F.linear(x, weight, bias), rtol=0.02, atol=0.02)


def pack(network: nn.Module, keep: Container[nn.Module] = ()) -> None:
    """Packs linear layers of a network in place, one after the other, for inference alone.

    Layers to ``keep`` have their weights still, which takes their memory twice. Left as they are:
    layers on other devices, quantized ones, those whose weights are another layer's too; and all
    where the library or the CPU cannot.
    """
    layers = [*network.modules()]
    users = Counter(id(weight) for one in layers for weight in one.parameters(recurse=False))
    for layer in layers:
        if type(layer) is nn.Linear and users[id(layer.weight)] == 1 and _packable(layer.weight):
            weight, packed = layer.weight, _lay_out(layer.weight)
            if layer not in keep:
                blank = torch.full((1, 1), torch.nan, dtype=weight.dtype).expand(weight.shape)
                layer.weight = nn.Parameter(blank, requires_grad=False)
            layer.__class__ = PackedLinear
            layer.packed = packed


def _packable(weight: Tensor) -> bool:
    plain = type(weight) is nn.Parameter  # those of quantized layers are of other classes
    return plain and weight.device.type == "cpu" and packs(weight.dtype)


@torch.no_grad()
def _lay_out(weight: Tensor) -> Tensor:
    packed: Tensor = _library._reorder_linear_weight(weight.detach().contiguous())
    return packed


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _library._linear_pointwise(x, packed, bias, "none", [], "")
    return product
