"""Packed weights: linear layers of a served network on a CPU, laid out for oneDNN once.

`torch.nn.functional.linear` takes weights as they were stored. In bf16 oneDNN lays them out anew in
each call. In fp32 MKL multiplies them, which on AMD's CPUs does without AVX-512 and sums one row in
another order than many. With weights packed beforehand, as `torch.compile` does where they are
frozen, products take less time: in fp32 on such a CPU less than half.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

_library: Any = torch.ops.mkldnn  # what `torch.compile` calls for frozen weights; not typed


class PackedWeight(Tensor):
    """A weight [out_features, in_features] in oneDNN's own order.

    Whatever is computed with it, but for a product by `PackedLinear`, is computed with a plain copy
    that is made for it. Raises ``RuntimeError`` where it is to be changed.
    """

    packed: Tensor  # opaque
    _is_param: bool

    @staticmethod
    def __new__(cls, packed: Tensor) -> PackedWeight:
        made: PackedWeight = Tensor._make_wrapper_subclass(cls, packed.shape, dtype=packed.dtype)
        made.packed = packed
        # Makes it a parameter, as `nn.Parameter` does for tensors of other classes; which would
        # detach it first, and then torch loads what it needs to ask for distributed tensors.
        made._is_param = True
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch's own stub forgets the class
        cls, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].packed)
        if function._schema.is_mutable:
            raise RuntimeError(f"{function}: the weights of this layer are laid out for inference")
        plain_args, plain_kwargs = tree_map_only(cls, cls.plain, (args, kwargs or {}))
        return function(*plain_args, **plain_kwargs)

    def plain(self) -> Tensor:
        """A copy in the usual order."""
        return self.packed.to_dense()


class PackedLinear(nn.Linear):
    """A layer with a `PackedWeight`."""

    weight: Any

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        return _multiply(x, self.weight.packed, self.bias)


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


def pack(network: nn.Module) -> None:
    """Packs linear layers of a network in place, one after the other, for inference alone.

    Left as they are: layers on other devices, quantized ones, those whose weights are another
    layer's too; and all where the library or the CPU cannot.
    """
    layers = [*network.modules()]
    users = Counter(id(weight) for one in layers for weight in one.parameters(recurse=False))
    for layer in layers:
        if type(layer) is nn.Linear and users[id(layer.weight)] == 1 and _packable(layer.weight):
            layer.weight = PackedWeight(_lay_out(layer.weight))
            layer.__class__ = PackedLinear


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
