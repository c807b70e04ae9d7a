"""Checkpoints small enough to run anywhere in milliseconds; their pictures are noise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from model.captions import save_captions
from model.checkpoint import save_weights
from model.config import CodecConfig, FlowConfig, GanConfig, GptConfig, TextConfig
from model.families import (
    FlowCheckpointConfig,
    GanCheckpointConfig,
    GptCheckpointConfig,
    SamplingConfig,
)
from model.flow.network import FlowTransformer
from model.gan.network import Generator
from model.gpt.network import Gpt
from model.tokenizer import PromptTokenizer

PROMPTS = ["red apple, noto style", "blue square", "绿色圆形", "a grinning face with big eyes"]


def tiny_flow(folder: Path, seed: int = 0, channels: Literal[3, 4] = 4) -> Path:
    """Writes a random 16 px checkpoint into ``folder`` (made if missing) and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PromptTokenizer.train(PROMPTS, 300)
    text = TextConfig(
        vocabulary=tokenizer.vocabulary, width=32, depth=1, heads=2, summary=2, max_tokens=48
    )
    network = FlowConfig(
        image_size=16,
        patch_size=4,
        channels=channels,
        width=32,
        depth=2,
        heads=2,
        layout_width=32,
        layout_size=4,
        layout_channels=4,
        text=text,
    )
    config = FlowCheckpointConfig(
        description="random weights for tests",
        licence="Apache-2.0",
        network=network,
        sampling=SamplingConfig(steps=4),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FlowTransformer(network)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    (folder / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
    save_weights(folder / "model.safetensors", model.state_dict())
    tokenizer.save(folder / "tokenizer.json")
    return folder


def tiny_gpt(folder: Path, seed: int = 0, channels: Literal[3, 4] = 4) -> Path:
    """The same of a gpt: 4 × 4 places of two codes, each of twelve values."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PromptTokenizer.train(PROMPTS, 300)
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
    network = GptConfig(codec, tokenizer.vocabulary, width=32, depth=2, heads=2)
    config = GptCheckpointConfig(
        description="random weights for tests", licence="Apache-2.0", network=network
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Gpt(network)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    (folder / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
    save_captions(folder, PROMPTS)
    save_weights(folder / "model.safetensors", model.state_dict())
    tokenizer.save(folder / "tokenizer.json")
    return folder


def tiny_gan(folder: Path, seed: int = 0, channels: Literal[3, 4] = 4) -> Path:
    """The same of a gan."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PromptTokenizer.train(PROMPTS, 300)
    text = TextConfig(
        vocabulary=tokenizer.vocabulary, width=32, depth=1, heads=2, summary=2, max_tokens=48
    )
    network = GanConfig(
        image_size=16,
        patch_size=4,
        channels=channels,
        width=32,
        depth=2,
        heads=2,
        layout_width=32,
        layout_size=4,
        layout_channels=4,
        latent=64,
        text=text,
    )
    config = GanCheckpointConfig(
        description="random weights for tests", licence="Apache-2.0", network=network
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Generator(network)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    (folder / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
    save_captions(folder, PROMPTS)
    save_weights(folder / "model.safetensors", model.state_dict())
    tokenizer.save(folder / "tokenizer.json")
    return folder
