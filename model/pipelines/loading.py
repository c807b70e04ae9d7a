"""A folder of diffusers onto a device: loaded by the library, placed and reduced as set."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from model.checkpoint import CheckpointError, Placement
from model.loading import is_shortage
from model.pipelines.adapters import Adapters
from model.pipelines.checkpoint import ATTENTION, PipelineCheckpoint
from model.pipelines.inspection import pipeline_class
from model.pipelines.linear_decoder import LinearDecoder
from model.pipelines.processors import without_torchvision
from model.pipelines.prompts import EncodedPrompts
from model.pipelines.sampler import PipelineModel
from model.pipelines.settings import PipelineSettings

library: Any = diffusers  # most of it is not typed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build(checkpoint: PipelineCheckpoint, placement: Placement) -> PipelineModel:
    """The model of a folder. Raises `CheckpointError`."""
    settings, entry = placement.pipelines, checkpoint.entry
    device = torch.device(placement.device)
    if settings.offload != "none" and device.type == "cpu":
        raise CheckpointError(f"{checkpoint.folder}: offload={settings.offload} is for GPUs")
    pipeline = _load(checkpoint, placement)
    network = getattr(pipeline, entry.network)
    if hasattr(network, "set_attention_backend"):
        network.set_attention_backend(ATTENTION)
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()
    adapters = Adapters(pipeline, checkpoint.loras)
    decoder = _preview_decoder(settings.preview_decoder, pipeline, device, DTYPES[placement.dtype])
    _place(pipeline, device, settings)
    pipeline.set_progress_bar_config(disable=True)
    others = {
        operation: _with_components_of(pipeline, name)
        for operation, name in entry.operations.items()
    }
    return PipelineModel(
        checkpoint,
        {"generate": pipeline, **others},
        placement.tile,
        adapters=adapters,
        prompts=EncodedPrompts(settings.prompt_cache_bytes, device),
        preview_decoder=decoder,
    )


def _load(checkpoint: PipelineCheckpoint, placement: Placement) -> Any:
    """The pipeline, on the CPU. Raises `CheckpointError`."""
    folder, index = checkpoint.folder, checkpoint.configs[""]
    name, dtype = index["_class_name"], DTYPES[placement.dtype]
    without_torchvision()
    for log in (library.utils.logging, transformers.utils.logging):  # bars and hints for notebooks
        log.disable_progress_bar()
        log.set_verbosity_error()
    cls = pipeline_class(name)
    components = read_components(folder, index)
    quantized = quantization_of(placement, checkpoint.entry.network)
    options: dict[str, Any] = load_networks(folder, components, dtype, quantized)
    options |= {part: None for part, source in index.items() if source == [None, None]}
    if "add_watermarker" in inspect.signature(cls.__init__).parameters:
        options["add_watermarker"] = False  # else whether a package is installed changes pixels
    try:
        pipeline = cls.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            variant=checkpoint.variant,
            **options,
        )
    except Exception as error:  # the library raises whatever it meets
        if is_shortage(error):
            raise
        raise CheckpointError(f"{folder}: {name} cannot be loaded: {in_a_line(error)}") from error
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    return pipeline


def _place(pipeline: Any, device: torch.device, settings: PipelineSettings) -> None:
    match settings.offload:
        case "none":
            pipeline.to(device)
        case "model":
            pipeline.enable_model_cpu_offload(device=device)
        case "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        case "group":
            pipeline.enable_group_offload(
                onload_device=device, offload_type="leaf_level", use_stream=True
            )


def _with_components_of(pipeline: Any, name: str) -> Any:
    """Another pipeline class with the same components."""
    cls = getattr(diffusers, name)
    if cls is type(pipeline):
        return pipeline
    takes = inspect.signature(cls.__init__).parameters
    settings = {key: value for key, value in pipeline.config.items() if not key.startswith("_")}
    parts = {**settings, **pipeline.components}
    other = cls(**{key: value for key, value in parts.items() if key in takes})
    other.set_progress_bar_config(disable=True)
    return other


def _preview_decoder(named: str, pipeline: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """What takes the VAE's place in previews; None for the VAE itself."""
    if named == "vae":
        return None
    if named == "linear":
        return LinearDecoder.fitted(pipeline.vae)
    folder = Path(named)
    try:
        tiny = library.AutoencoderTiny.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except Exception as error:
        raise CheckpointError(f"{folder}: no AutoencoderTiny for previews: {error}") from error
    return tiny.to(device).eval().requires_grad_(False)
