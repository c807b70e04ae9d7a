"""From a command's options to a `Trainer`: picks device, precision, compiler and tokenizer."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import Checkpoint, resolve_dtype
from model.config import (
    CodecConfig,
    CriticConfig,
    FlowConfig,
    GanConfig,
    GptConfig,
    TextConfig,
)
from model.data.pictures import PictureFormat, PictureSet
from model.data.sources import load
from model.flow.recipe import FlowRecipe, FlowTraining
from model.gan.inheritance import inherited
from model.gan.recipe import GanRecipe, GanTraining
from model.gpt.codec import Codec
from model.gpt.codec_folder import load_codec
from model.gpt.codec_recipe import CodecRecipe, CodecTraining
from model.gpt.recipe import GptRecipe, GptTraining
from model.optimizer import OptimizerConfig
from model.recipe import Recipe, Start, TrainingError, take_over
from model.tokenizer import PromptTokenizer
from model.train import Progress, TrainConfig, Trainer

Trained = Literal["flow", "codec", "gpt", "gan"]
"""What can be trained: the families, and the codec that a gpt is trained over."""

VOCABULARY = 2048
PROMPTS_A_PICTURE = 8  # drawn to learn the tokenizer from


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What ``tessera train`` was told; see its help for the meaning of each."""

    data: tuple[Path, ...]
    out: Path
    steps: int
    batch: int
    size: int
    patch: int | None  # here, and for width, depth and rate, None is what `PRESETS` has
    width: int | None
    depth: int | None
    channels: Literal[3, 4]
    learning_rate: float | None
    cooldown: float
    seed: int
    init: Path | None
    cpu: bool
    compiled: bool
    sample_every: int
    save_every: int
    description: str
    licence: str
    family: Trained = "flow"
    codec: Path | None = None  # gpt: a trained codec's folder


@dataclass(frozen=True, slots=True)
class Preset:
    """What holds where nothing is said."""

    patch: int
    width: int
    depth: int
    learning_rate: float = 1e-3


PRESETS: dict[Trained, Preset] = {
    "flow": Preset(patch=8, width=256, depth=8),
    "codec": Preset(patch=8, width=192, depth=5),
    "gpt": Preset(patch=8, width=256, depth=8),
    "gan": Preset(patch=8, width=256, depth=6, learning_rate=2e-4),
}


def start_training(options: TrainingOptions, progress: Progress) -> Path:
    """Trains, or goes on training, in ``options.out``. Returns the checkpoint folder.

    Raises ``DataError``, ``CheckpointError``, ``TrainingError``; ``ValueError`` for sizes that do
    not divide.
    """
    codec = None
    if options.family == "gpt":
        codec = _codec_of(options)
        pictures = PictureFormat(codec.config.image_size, 4 if codec.config.channels == 4 else 3)
    else:
        pictures = PictureFormat(options.size, options.channels)
    options.out.mkdir(parents=True, exist_ok=True)
    data = load(options.data, pictures)
    progress.note(f"{len(data)} pictures in {len(data.groups)} groups, {data.skipped} skipped")
    accelerator = _accelerator(options, progress)
    rate = options.learning_rate
    if rate is None:
        rate = PRESETS[options.family].learning_rate
    config = TrainConfig(
        optimizer=OptimizerConfig(learning_rate=rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
    )
    torch.manual_seed(options.seed)
    recipe = _recipe(options, data, config.optimizer, codec)
    if options.init is not None:
        weights = _weights(options.init, options.family)
        if isinstance(recipe, GanRecipe):
            weights = inherited(weights, recipe.averaged.config.depth)
        progress.note(take_over(recipe.network, weights))
    return Trainer(recipe, config, options.out, accelerator, progress).run()


def _recipe(
    options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, codec: Codec | None
) -> Recipe:
    preset = PRESETS[options.family]
    patch = options.patch or preset.patch
    width, depth = options.width or preset.width, options.depth or preset.depth
    heads = max(1, width // 64)
    if options.family == "codec":
        shape = CodecConfig(
            image_size=options.size,
            patch_size=patch,
            channels=options.channels,
            width=width,
            encoder_depth=max(1, depth * 3 // 5),  # the decoder has more to do
            decoder_depth=depth,
            heads=heads,
        )
        told = options.description, options.licence
        return CodecRecipe(data, CodecTraining(shape), optimizer, *told)
    tokenizer = _tokenizer(options, data)
    start = Start(tokenizer, options.description, options.licence)
    if codec is not None:
        network = GptConfig(
            codec.config, tokenizer.vocabulary, width=width, depth=depth, heads=heads
        )
        return GptRecipe(data, codec, GptTraining(network), optimizer, start)
    grid = options.size // patch
    layout = -(-8 // grid) * grid if grid < 8 else grid
    text = TextConfig(vocabulary=tokenizer.vocabulary, width=width, heads=heads)
    if options.family == "gan":
        generator = GanConfig(
            image_size=options.size,
            patch_size=patch,
            channels=options.channels,
            width=width,
            depth=depth,
            heads=heads,
            layout_size=layout,
            text=text,
            latent=max(1, 256 // grid**2) * grid**2,
        )
        critic = CriticConfig(options.size, options.channels, layout_size=layout, text=text)
        return GanRecipe(data, GanTraining(generator, critic), optimizer, start)
    flow = FlowConfig(
        image_size=options.size,
        patch_size=patch,
        channels=options.channels,
        width=width,
        depth=depth,
        heads=heads,
        layout_size=layout,
        text=text,
    )
    return FlowRecipe(data, FlowTraining(flow), optimizer, start)


def _codec_of(options: TrainingOptions) -> Codec:
    if options.codec is None:
        raise TrainingError(
            "a gpt learns the codes of pictures: train a codec first (--family codec), "
            "then give its checkpoint (--codec)"
        )
    return load_codec(options.codec)


def _weights(folder: Path, family: Trained) -> dict[str, Tensor]:
    """Another checkpoint's weights, as the network that is trained names them."""
    prefix = "transformer." if family == "gpt" else ""
    weights = load_file(folder / "model.safetensors")
    return {
        name.removeprefix(prefix): value.float()
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _accelerator(options: TrainingOptions, progress: Progress) -> Accelerator:
    """bf16 where it is fast; compiled where a C++ compiler is at hand."""
    on_cpu = options.cpu or not torch.cuda.is_available()
    bf16 = resolve_dtype("auto", "cpu" if on_cpu else "cuda") == "bf16"
    compiled = options.compiled and shutil.which("g++") is not None
    if options.compiled and not compiled:
        progress.note("no C++ compiler (g++) found: training uncompiled, at about half the speed")
    return Accelerator(
        cpu=on_cpu,
        mixed_precision="bf16" if bf16 else "no",
        dynamo_backend="inductor" if compiled else "no",
    )


def _tokenizer(options: TrainingOptions, data: PictureSet) -> PromptTokenizer:
    """The tokenizer of this run, of ``init``, or a new one learned from the prompts."""
    kept = options.out / "checkpoint" / "tokenizer.json"
    if options.init is not None:
        return Checkpoint.open(options.init).tokenizer
    if kept.is_file():
        return PromptTokenizer.load(kept)
    draw = random.Random(options.seed)
    prompts = [prompter(draw) for prompter in data.prompters for _ in range(PROMPTS_A_PICTURE)]
    return PromptTokenizer.train([*data.captions, *prompts], VOCABULARY)
