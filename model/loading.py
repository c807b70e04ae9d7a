"""Weights: from a checkpoint's folder onto a device and into one, and whether there is room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.checkpoint import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    CheckpointConfig,
    CheckpointError,
    Placement,
)
from model.files import write_aside
from model.pipelines.settings import PipelineSettings
from model.protocol import ImageModel
from model.runtime.fixed_pass import Mode, mode_on
from model.runtime.numerics import DTYPES
from model.runtime.packing import pack
from model.tokenizer import PromptTokenizer

Dtype = Literal["auto", "fp32", "bf16"]

N = TypeVar("N", bound=nn.Module)


def load_model(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: Dtype,
    tile: int | None = None,
    mode: Mode | None = None,
    pipelines: PipelineSettings | None = None,
) -> ImageModel[Any]:
    """The checkpoint on a device ("cpu", "cuda:0"). Raises `CheckpointError`.

    ``mode`` is how its passes run. Where it or ``tile`` is None, the device and the family decide.
    """
    placement = Placement(
        device=device,
        dtype=resolve_dtype(dtype, device),
        tile=tile or checkpoint.tiles[torch.device(device).type],
        mode=mode or mode_on(device),
        pipelines=pipelines or PipelineSettings(),
    )
    return checkpoint.build(placement)


def resolve_dtype(dtype: Dtype, device: str) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 where the device multiplies it natively, else fp32."""
    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def place(network: N, folder: Path, placement: Placement) -> N:
    """The network with the folder's weights, on its device and in its dtype, for inference alone.

    Raises `CheckpointError`.
    """
    network.load_state_dict(read_weights(folder / WEIGHTS, network.state_dict()))
    network.to(device=placement.device, dtype=DTYPES[placement.dtype])
    pack(network)
    return network


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors, floating point as fp32.

    Raises `CheckpointError` where names, shapes or types are not ``expected``, or a value is not
    finite.
    """
    raw = load_file(path)
    weights = {name: _floating(value, torch.float32) for name, value in raw.items()}
    problems = [
        *(f"{name} is missing" for name in expected if name not in weights),
        *(f"{name} is not part of this network" for name in weights if name not in expected),
        *(
            f"{name} is {list(weights[name].shape)}, config.json makes it {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ),
        *(
            f"{name} is of {_type(raw[name])}, {_type(tensor)} is needed"
            for name, tensor in expected.items()
            if name in raw and not _convertible(raw[name], tensor)
        ),
        *(
            f"{name} has values that are not finite"
            for name, value in weights.items()
            if not torch.isfinite(value).all()
        ),
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointError(f"{path}: {problems[0]}{more}")
    return weights


def load_weights(path: Path) -> dict[str, Tensor]:
    """Safetensors, floating point as fp32."""
    return {name: _floating(value, torch.float32) for name, value in load_file(path).items()}


def _convertible(given: Tensor, wanted: Tensor) -> bool:
    """Floating point of 16 bits or more as any such; everything else as it is."""
    if wanted.is_floating_point():
        return given.is_floating_point() and given.itemsize >= 2
    return given.dtype == wanted.dtype


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _floating(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In ``dtype``, but integers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def save_checkpoint(
    folder: Path,
    config: CheckpointConfig,
    weights: Mapping[str, Tensor],
    tokenizer: PromptTokenizer | None = None,
) -> None:
    """Writes config, weights and tokenizer into ``folder``, made if missing.

    Each file is whole at every moment, and the config, which makes a folder a checkpoint, is last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, weights)
    if tokenizer is not None:
        write_aside(folder / TOKENIZER, tokenizer.save)
    text = config.model_dump_json(indent=2) + "\n"
    write_aside(folder / CONFIG, lambda part: part.write_text(text, encoding="utf-8"))


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes safetensors, floating point in fp16.

    Raises ``ValueError`` for a value that fp16 cannot hold.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor.half()).all():
            raise ValueError(f"{name} has values beyond fp16")
    halves = {name: _floating(tensor, torch.float16).contiguous() for name, tensor in state.items()}
    write_aside(path, lambda part: save_file(halves, part))


MESSAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""Of drivers, cuBLAS, cuDNN and the CPU's allocator, in lower case."""

GIB = 2**30


def is_shortage(error: BaseException) -> bool:
    """Whether there was too little memory, whichever library noticed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error).lower() for message in MESSAGES
    )


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes."""

    total: int
    free: int
    ours: int  # held by this process

    @classmethod
    def on(cls, device: str) -> DeviceMemory | None:
        """What there is; None where the device does not report it, or no longer can."""
        if not device.startswith("cuda"):
            return None
        try:
            free, total = torch.cuda.mem_get_info(device)
            return cls(total, free, torch.cuda.memory_reserved(device))
        except RuntimeError:
            return None

    @property
    def others(self) -> int:
        """Held by other processes, and by the driver itself."""
        return max(0, self.total - self.free - self.ours)

    def __str__(self) -> str:
        total, ours, others = self.total / GIB, self.ours / GIB, self.others / GIB
        return (
            f"of {total:.1f} GiB, this worker holds {ours:.1f} "
            f"and other processes and the driver {others:.1f}"
        )
