"""How pipelines are loaded: the part of the settings that is theirs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Offload = Literal["none", "model", "group", "sequential"]
Quantization = Literal["none", "int8", "fp8", "nf4"]


class PipelineSettings(BaseModel):
    """The part of `app.engine.settings.EngineSettings` that concerns diffusers pipelines."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    loras: Path | None = None
    """A folder of LoRA adapters that requests may name: NAME.safetensors in it for every pipeline,
    in a folder named as a model's id for that one."""

    offload: Offload = "none"
    """On a GPU that has no room for a whole pipeline: "model" keeps one network there at a time,
    "group" some layers of it, "sequential" one layer; each is slower than the one before. Changes
    numerics."""

    quantization: Quantization = "none"
    """Weights of the transformer in 8 bits ("int8" and "fp8" by torchao) or 4 ("nf4" by
    bitsandbytes). Less memory, other pixels. Changes numerics."""

    vae_tiling: bool = False
    """Whether the VAE decodes large images tile by tile: less memory, faint seams. Changes
    numerics."""

    preview_decoder: str = "vae"
    """What makes previews of a pipeline: "vae" (its own, slow where it is large), "linear" (colours
    fitted to its latents, coarse and free) or the folder of an AutoencoderTiny."""

    prompt_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory for encoded prompts of each pipeline; 0 keeps none. Repeated prompts then cost no text
    encoder."""
