"""How pipelines are loaded: the part of the settings that is theirs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Offload = Literal["none", "model", "group", "sequential"]
Quantization = Literal["none", "int8", "fp8", "nf4"]

PACKAGES = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}
"""What quantisation needs: the extra ``quantization``."""


class PipelineSettings(BaseModel):
    """The part of `app.engine.settings.EngineSettings` that concerns diffusers pipelines."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    loras: Path | None = None
    """A folder of LoRA adapters that requests may name: NAME.safetensors in it for every pipeline,
    in a folder named as a model's id for that one."""

    offload: Offload = "none"
    """On a GPU that has no room for a whole pipeline: "model" keeps one network there at a time,
    "group" the layers that compute and those that come next, "sequential" one layer; each is
    slower than the one before. Changes numerics."""

    quantization: Quantization = "none"
    """Weights of the transformer in 8 bits ("int8" and "fp8" by torchao) or, on a GPU, 4 ("nf4" by
    bitsandbytes); both come with the extra "quantization". Less memory, other pixels. Changes
    numerics."""

    vae_tiling: bool = False
    """Whether the VAE decodes large images tile by tile: less memory, faint seams. Changes
    numerics."""

    preview_decoder: str = "vae"
    """What makes previews of a pipeline: "vae" (its own, slow where it is large), "linear" (colours
    fitted to its latents when it is loaded, coarse and free) or the folder of an AutoencoderTiny
    that was trained for the same latents."""

    prompt_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory for encoded prompts of each pipeline; 0 keeps none. Repeated prompts then cost no text
    encoder."""

    @property
    def decoder_name(self) -> str:
        """What is said of ``preview_decoder``: a folder by its name alone."""
        return Path(self.preview_decoder).name

    def less_memory(self) -> tuple[str, ...]:
        """Settings that take less memory than these."""
        helps = []
        if self.offload in ("none", "model"):
            helps.append("TESSERA_OFFLOAD=" + ("model" if self.offload == "none" else "group"))
        if self.quantization == "none":
            helps.append("TESSERA_QUANTIZATION=int8 or nf4")
        if not self.vae_tiling:
            helps.append("TESSERA_VAE_TILING=true")
        return tuple(helps)
