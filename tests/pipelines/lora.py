"""Small random LoRA adapters, saved as the library saves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from model.pipelines.checkpoint import PipelineCheckpoint
from tests.pipelines.parts import library
from tests.pipelines.questions import pipeline

ATTENTION = ("to_q", "to_k", "to_v")
CLIP = ("q_proj", "v_proj", "fc1")


def make_adapter(
    file: Path,
    folder: Path,
    seed: int,
    *,
    parts: tuple[str, ...] = ("network",),
    targets: tuple[str, ...] = ATTENTION,
    rank: int = 2,
    gain: float = 1.0,
    dora: bool = False,
) -> Path:
    """For the pipeline of a folder; ``parts`` are its network and text encoders."""
    own = library.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    network = PipelineCheckpoint.open(folder).entry.network
    layers = {}
    for part in parts:
        name = network if part == "network" else part
        config = LoraConfig(
            r=rank,
            lora_alpha=rank,
            target_modules=[*(targets if part == "network" else CLIP)],
            use_dora=dora,
        )
        getattr(own, name).add_adapter(config)
        state = get_peft_model_state_dict(getattr(own, name))
        generator = torch.Generator().manual_seed(seed)
        filled = {
            key: gain * torch.randn(value.shape, generator=generator) / value.shape[-1] ** 0.5
            for key, value in state.items()
        }
        older = name != "transformer"
        convert = library.utils.convert_state_dict_to_diffusers
        layers[f"{name}_lora_layers"] = convert(filled) if older else filled
    file.parent.mkdir(parents=True, exist_ok=True)
    own.save_lora_weights(file.parent, weight_name=file.name, **layers)
    return file


@contextmanager
def adapted(folder: Path, file: Path, scale: float) -> Iterator[Any]:
    """The library's own pipeline with an adapter, for a while."""
    own = pipeline(folder)
    own.load_lora_weights(file.parent, weight_name=file.name, adapter_name="it")
    own.set_adapters(["it"], [scale])
    try:
        yield own
    finally:
        own.unload_lora_weights()
