"""Making a pipeline fit its device: fewer bits for a weight, networks that wait on the CPU, and
whether there is room at all, before anything is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate.hooks import UserCpuOffloadHook
from safetensors import safe_open

from model.checkpoint import CheckpointError, Placement
from model.loading import GIB, DeviceMemory, is_shortage
from model.pipelines.components import Component
from model.pipelines.networks import in_a_line, networks_of
from model.pipelines.settings import PACKAGES, PipelineSettings
from model.runtime.numerics import DTYPES
from model.runtime.packing import pack

library: Any = diffusers  # most of it is not typed

SIZES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "fp8": 1.0, "nf4": 0.56}
"""Bytes of a weight, with its share of scales."""

_FLOATS = ("F64", "F32", "F16", "BF16")  # converted when they are loaded; others stay as they are


def quantization_of(folder: Path, placement: Placement, network: str) -> dict[str, Any]:
    """The library's configuration, for ``network`` alone. Raises `CheckpointError`."""
    kind = placement.pipelines.quantization
    if kind == "none":
        return {}
    package = PACKAGES[kind]
    if find_spec(package) is None:
        install = "pip install 'tessera-serve[quantization]'"
        raise CheckpointError(f"{folder}: quantization={kind} needs {package}: {install}")
    if kind == "nf4":
        if placement.device == "cpu":
            raise CheckpointError(f"{folder}: quantization=nf4 is for GPUs; int8 and fp8 are not")
        config: Any = library.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=DTYPES[placement.dtype],
        )
    else:
        ao: Any = importlib.import_module("torchao.quantization")
        weights = {"int8": ao.Int8WeightOnlyConfig, "fp8": ao.Float8WeightOnlyConfig}
        config = library.TorchAoConfig(weights[kind]())
    return {network: config}


def place(
    folder: Path, pipeline: Any, network: str, device: torch.device, settings: PipelineSettings
) -> None:
    """Puts the pipeline where it computes, or sees to it that its parts come there in time.

    Raises `CheckpointError` where the library cannot.
    """
    try:
        match settings.offload:
            case "none":
                pipeline.to(device)
                for one in networks_of(pipeline).values():
                    pack(one)
            case "model":
                pipeline.enable_model_cpu_offload(device=device)
                _one_at_a_time(pipeline._all_hooks)
            case "sequential":
                pipeline.enable_sequential_cpu_offload(device=device)
            case "group":
                _in_groups(pipeline, network, device)
    except Exception as error:  # the library raises whatever it meets
        if is_shortage(error):
            raise
        doing = f"offload={settings.offload}, quantization={settings.quantization}"
        raise CheckpointError(f"{folder}: {doing}: {in_a_line(error)}") from error


def check_room(
    folder: Path,
    components: Mapping[str, Component],
    network: str,
    placement: Placement,
    memory: DeviceMemory | None,
) -> None:
    """Raises `CheckpointError` for weights that cannot fit what is free, and says what would."""
    if memory is None:
        return
    weights = {name: dict(_weights(folder, one)) for name, one in components.items()}

    def needed(with_: Placement) -> float:
        return _needed(weights, network, with_)

    if (need := needed(placement)) <= memory.free:
        return
    alone = "" if placement.pipelines.offload == "none" else " for its largest network"
    helps = [name for name, with_ in _smaller(placement) if needed(with_) <= memory.free]
    raise CheckpointError(
        f"{folder}: its weights take {need / GIB:.1f} GiB{alone}, {memory.free / GIB:.1f} GiB are "
        f"free on {placement.device} ({memory})"
        + (f"; what helps: {', or '.join(helps)}" if helps else "")
    )


def _needed(weights: Mapping[str, Mapping[bool, float]], network: str, with_: Placement) -> float:
    """Bytes on the device at once; ``weights`` are numbers of weights and other bytes."""
    settings = with_.pipelines
    kinds: dict[str, str] = dict.fromkeys(weights, with_.dtype)
    if settings.quantization != "none":
        kinds[network] = settings.quantization
    each = [found[True] * SIZES[kinds[name]] + found[False] for name, found in weights.items()]
    match settings.offload:
        case "none":
            return sum(each)
        case "model":
            return max(each, default=0)
        case _:
            return 0


def _weights(folder: Path, component: Component) -> Iterator[tuple[bool, float]]:
    """How many floating-point numbers it has, and bytes of others."""
    count, others = 0, 0
    for name in component.files:
        if not name.endswith(".safetensors"):
            continue
        with safe_open(folder / name, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(key)
                size = prod(part.get_shape())
                if part.get_dtype() in _FLOATS:
                    count += size
                else:
                    others += size
    yield True, count
    yield False, others


def _smaller(placement: Placement) -> Iterator[tuple[str, Placement]]:
    """Placements that take less memory, by the settings that make them; the mildest first."""
    settings = placement.pipelines
    dtype = replace(placement, dtype="bf16")
    if placement.dtype != "bf16":
        yield "TESSERA_DTYPE=bf16", dtype
    changes: list[dict[str, Any]] = []
    if settings.quantization == "none":
        changes += [{"quantization": "int8"}, {"quantization": "nf4"}]
    if settings.offload == "none":
        changes += [{"offload": "model"}, *({"offload": "model", **one} for one in changes)]
    if settings.offload in ("none", "model"):
        changes.append({"offload": "group"})
    for change in changes:
        names = [f"TESSERA_{name.upper()}={value}" for name, value in change.items()]
        smaller = settings.model_copy(update=change)
        yield " with ".join(names), replace(placement, pipelines=smaller)


class _Others(UserCpuOffloadHook):  # type: ignore[misc] # accelerate is not typed
    """What leaves the device before a network computes: all others.

    The library sends away the one that comes before in the order of a single image. Between rows
    there is no such order, and two networks would lie on the device.
    """

    def __init__(self, hooks: Sequence[Any]) -> None:
        self._hooks = hooks

    @property
    def model(self) -> Any:
        """One that is on the device, if one is: what the library looks at."""
        return next((hook.model for hook in self._hooks if _is_away(hook)), self._hooks[0].model)

    def offload(self) -> None:
        for hook in self._hooks:
            if _is_away(hook):
                hook.offload()


def _one_at_a_time(hooks: Sequence[Any]) -> None:
    for hook in hooks:
        if others := [one for one in hooks if one is not hook]:
            hook.hook.prev_module_hook = _Others(others)


def _is_away(hook: Any) -> bool:
    return bool(next(hook.model.parameters()).device.type != "cpu")


def _in_groups(pipeline: Any, network: str, device: torch.device) -> None:
    """Layer by layer. The next layer of the transformer comes while one computes.

    Not so those of text encoders, which leave out some layers, and by that the order that the
    library goes by. The VAE stays on the device: its own ``forward`` is never called.
    """
    for name, component in networks_of(pipeline).items():
        if name == "vae":
            component.to(device)
        else:
            library.hooks.apply_group_offloading(
                component,
                onload_device=device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=name == network and device.type == "cuda",
            )
