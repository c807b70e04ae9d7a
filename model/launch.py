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

from model.checkpoint import Checkpoint, resolve_dtype
from model.config import FlowConfig, TextConfig
from model.data.pictures import PictureFormat, PictureSet
from model.data.sources import load
from model.flow.recipe import FlowRecipe, FlowTraining
from model.optimizer import OptimizerConfig
from model.recipe import Recipe, Start, take_over
from model.tokenizer import PromptTokenizer
from model.train import Progress, TrainConfig, Trainer

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
    patch: int
    width: int
    depth: int
    channels: Literal[3, 4]
    learning_rate: float
    cooldown: float
    seed: int
    init: Path | None
    cpu: bool
    compiled: bool
    sample_every: int
    save_every: int
    description: str
    licence: str


def start_training(options: TrainingOptions, progress: Progress) -> Path:
    """Trains, or goes on training, in ``options.out``. Returns the checkpoint folder.

    Raises ``DataError``, ``CheckpointError``, ``TrainingError``; ``ValueError`` for sizes that do
    not divide.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    data = load(options.data, PictureFormat(options.size, options.channels))
    progress.note(f"{len(data)} pictures in {len(data.groups)} groups, {data.skipped} skipped")
    accelerator = _accelerator(options, progress)
    config = TrainConfig(
        optimizer=OptimizerConfig(learning_rate=options.learning_rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
    )
    tokenizer = _tokenizer(options, data)
    start = Start(tokenizer, options.description, options.licence)
    torch.manual_seed(options.seed)
    recipe = _flow(options, data, config.optimizer, start)
    if options.init is not None:
        weights = load_file(options.init / "model.safetensors")
        progress.note(take_over(recipe.network, {k: v.float() for k, v in weights.items()}))
    return Trainer(recipe, config, options.out, accelerator, progress).run()


def _flow(
    options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
) -> Recipe:
    grid = options.size // options.patch
    heads = max(1, options.width // 64)
    network = FlowConfig(
        image_size=options.size,
        patch_size=options.patch,
        channels=options.channels,
        width=options.width,
        depth=options.depth,
        heads=heads,
        layout_size=-(-8 // grid) * grid if grid < 8 else grid,
        text=TextConfig(vocabulary=start.tokenizer.vocabulary, width=options.width, heads=heads),
    )
    return FlowRecipe(data, FlowTraining(network), optimizer, start)


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
