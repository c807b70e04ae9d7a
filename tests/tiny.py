"""Checkpoints small enough to run anywhere in milliseconds; their images are noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from model.checkpoint import CONFIG, CheckpointConfig, save_captions
from model.data.concepts import Concepts
from model.flow.config import FlowCheckpointConfig, FlowConfig, SamplingConfig, TextConfig
from model.flow.network import FlowTransformer
from model.gan.config import GanCheckpointConfig, GanConfig
from model.gan.network import Generator
from model.gpt.config import CodecConfig, GptCheckpointConfig, GptConfig
from model.gpt.network import Gpt
from model.loading import save_checkpoint
from model.spec import Style
from model.tokenizer import PromptTokenizer

PROMPTS = ["red apple, noto style", "blue square", "绿色圆形", "a grinning face with big eyes"]
TOKENIZER = PromptTokenizer.train(PROMPTS, 300)
STYLES: tuple[Style, ...] = tuple(
    Style(name, label, f", {name} style", f"，{name} 风格")
    for name, label in (("fluent 3d", "Fluent 3D"), ("noto", "Noto"))
)
ABOUT: dict[str, Any] = {"description": "random weights for tests", "license": "Apache-2.0"}

Channels = Literal[3, 4]


def tiny_flow(folder: Path, seed: int = 0, channels: Channels = 4) -> Path:
    """Writes a random 16 px checkpoint into ``folder`` (made if missing) and returns it."""
    config = _flow(channels)
    return _save(folder, config, lambda: FlowTransformer(config.network), seed)


def tiny_knowing_flow(folder: Path, concepts: Concepts) -> Path:
    """The same of a flow that knows these concepts by number.

    Its prompt encoder is as deep as `tessera train` makes one, which can begin with it.
    """
    text = TextConfig(TOKENIZER.vocabulary, width=32, heads=1)
    shape = _shape(4) | {"concepts": concepts.counts, "text": text}
    config = FlowCheckpointConfig(
        network=FlowConfig(**shape), sampling=SamplingConfig(steps=4), **ABOUT
    )
    concepts.save(folder)
    return _save(folder, config, lambda: FlowTransformer(config.network), seed=0)


def with_sampling(folder: Path, **given: object) -> Path:
    """The checkpoint in the folder, now with these values under ``sampling``."""
    path = folder / CONFIG
    config = json.loads(path.read_text("utf-8"))
    config["sampling"] |= given
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def tiny_gpt(folder: Path, seed: int = 0, channels: Channels = 4) -> Path:
    """The same of a gpt: 4 × 4 places of two codes, each of twelve values."""
    config = _gpt(channels)
    return _save(folder, config, lambda: Gpt(config.network), seed, captions=True)


def tiny_gan(folder: Path, seed: int = 0, channels: Channels = 4) -> Path:
    """The same of a gan, which has styles and examples."""
    config = _gan(channels)
    return _save(folder, config, lambda: Generator(config.network), seed, captions=True)


def _shape(channels: Channels) -> dict[str, Any]:
    return {
        "image_size": 16,
        "patch_size": 4,
        "channels": channels,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "layout_width": 32,
        "layout_size": 4,
        "layout_channels": 4,
        "text": TextConfig(
            TOKENIZER.vocabulary, width=32, depth=1, heads=2, summary=2, max_tokens=48
        ),
    }


def _flow(channels: Channels) -> FlowCheckpointConfig:
    network = FlowConfig(**_shape(channels))
    return FlowCheckpointConfig(network=network, sampling=SamplingConfig(steps=4), **ABOUT)


def _gpt(channels: Channels) -> GptCheckpointConfig:
    codec = CodecConfig(
        image_size=16,
        patch_size=4,
        channels=channels,
        width=32,
        encoder_depth=1,
        decoder_depth=1,
        heads=2,
        levels=(4, 3),
    )
    network = GptConfig(codec, TOKENIZER.vocabulary, width=32, depth=2, heads=2)
    return GptCheckpointConfig(network=network, **ABOUT)


def _gan(channels: Channels) -> GanCheckpointConfig:
    network = GanConfig(**_shape(channels), latent=64)
    return GanCheckpointConfig(network=network, styles=STYLES, examples=tuple(PROMPTS), **ABOUT)


FLOW_SPEC, GPT_SPEC, GAN_SPEC = (config(4).spec("tiny", "") for config in (_flow, _gpt, _gan))
"""What is known of them, for requests made before there is a folder."""


def _save(
    folder: Path,
    config: CheckpointConfig,
    build: Callable[[], nn.Module],
    seed: int,
    *,
    captions: bool = False,
) -> Path:
    """With random weights by that seed; the process's own generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    save_checkpoint(folder, config, network.state_dict(), TOKENIZER)
    if captions:
        save_captions(folder, PROMPTS)
    return folder
