"""A folder of diffusers onto a device: loaded by the library, placed and reduced as set."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from model.checkpoint import CheckpointError, Placement
from model.loading import DeviceMemory, is_shortage
from model.pipelines.adapters import Adapters
from model.pipelines.checkpoint import ATTENTION, PipelineCheckpoint
from model.pipelines.fitting import check_room, place, quantization_of
from model.pipelines.inspection import pipeline_class
from model.pipelines.linear_decoder import LinearDecoder
from model.pipelines.networks import in_a_line, load_networks, networks_of
from model.pipelines.processors import without_torchvision
from model.pipelines.prompts import EncodedPrompts
from model.pipelines.sampler import PipelineModel
from model.runtime.numerics import DTYPES

library: Any = diffusers  # most of it is not typed


def build(checkpoint: PipelineCheckpoint, placement: Placement) -> PipelineModel:
    """The model of a folder. Raises `CheckpointError`."""
    folder, entry, settings = checkpoint.folder, checkpoint.entry, placement.pipelines
    device = torch.device(placement.device)
    if settings.offload != "none" and device.type == "cpu":
        raise CheckpointError(f"{folder}: offload={settings.offload} is for GPUs")
    memory = DeviceMemory.on(placement.device)
    check_room(folder, checkpoint.components, entry.network, placement, memory)
    pipeline = _load(checkpoint, placement)
    network = getattr(pipeline, entry.network)
    if hasattr(network, "set_attention_backend"):
        network.set_attention_backend(ATTENTION)
    adapters = Adapters(pipeline, entry.network, checkpoint.loras)
    decoder = _preview_decoder(checkpoint, pipeline, placement)
    if settings.vae_tiling:
        _tile(folder, pipeline.vae)
    place(folder, pipeline, entry.network, device, settings)
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
    quantized = quantization_of(folder, placement, checkpoint.entry.network)
    without_torchvision()
    for log in (library.utils.logging, transformers.utils.logging):  # bars and hints for notebooks
        log.disable_progress_bar()
        log.set_verbosity_error()
    cls = pipeline_class(name)
    options: dict[str, Any] = load_networks(folder, checkpoint.components, dtype, quantized)
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
    for network in networks_of(pipeline).values():
        network.eval().requires_grad_(False)
    return pipeline


def _tile(folder: Path, vae: Any) -> None:
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        message = f"vae_tiling: a {type(vae).__name__} cannot decode in tiles"
        raise CheckpointError(f"{folder}: {message}") from error


def _with_components_of(pipeline: Any, name: str) -> Any:
    """Another pipeline class with the same components."""
    cls = getattr(diffusers, name)
    if cls is type(pipeline):
        return pipeline
    takes = inspect.signature(cls.__init__).parameters
    settings = {key: value for key, value in pipeline.config.items() if not key.startswith("_")}
    parts = {**settings, **pipeline.components, "add_watermarker": False}
    other = cls(**{key: value for key, value in parts.items() if key in takes})
    other.set_progress_bar_config(disable=True)
    return other


def _preview_decoder(checkpoint: PipelineCheckpoint, pipeline: Any, placement: Placement) -> Any:
    """What takes the VAE's place in previews; None for the VAE itself."""
    named, vae = placement.pipelines.preview_decoder, pipeline.vae
    if named == "vae":
        return None
    try:
        if named == "linear":
            vae.to(placement.device)
            return LinearDecoder.fitted(vae)
        return _tiny(Path(named), vae, checkpoint.scale, placement)
    except Exception as error:  # the library raises whatever it meets
        if is_shortage(error):
            raise
        message = f"no previews of {checkpoint.spec.id} by it: {in_a_line(error)}"
        raise CheckpointError(f"{named}: {message}") from error


def _tiny(folder: Path, vae: Any, scale: int, placement: Placement) -> Any:
    """An autoencoder that is used in place of an ``AutoencoderKL``. Raises ``ValueError``."""
    tiny = library.AutoencoderTiny.from_pretrained(
        folder, dtype=DTYPES[placement.dtype], use_safetensors=True, local_files_only=True
    )
    if not isinstance(vae, library.AutoencoderKL):
        raise ValueError(f"it decodes what an AutoencoderKL does, this is a {type(vae).__name__}")
    channels, wanted = tiny.config.latent_channels, vae.config.latent_channels
    tiny.to(placement.device).eval().requires_grad_(False)
    probe = torch.zeros(1, channels, 8, 8, device=tiny.device, dtype=tiny.dtype)
    with torch.inference_mode():
        found = tiny.decode(probe).sample.shape[-1] // 8
    if (channels, found) != (wanted, scale):
        raise ValueError(
            f"it is for latents of {channels} channels and {found} pixels a side, these have "
            f"{wanted} and {scale}"
        )

    def encode(*args: Any, **kwargs: Any) -> Any:
        return vae.encode(*args, **kwargs)  # which is a gate by then

    tiny.encode = encode
    return tiny
