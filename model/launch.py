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
from model.optimizer import OptimizerConfig
from model.tokenizer import PromptTokenizer
from model.train import Progress, Start, TrainConfig, Trainer

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
    start = _start(options, data)
    config = TrainConfig(
        network=_network(options, start.tokenizer),
        optimizer=OptimizerConfig(learning_rate=options.learning_rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
    )
    return Trainer(data, config, start, options.out, accelerator, progress).run()


def _network(options: TrainingOptions, tokenizer: PromptTokenizer) -> FlowConfig:
    grid = options.size // options.patch
    return FlowConfig(
        image_size=options.size,
        patch_size=options.patch,
        channels=options.channels,
        width=options.width,
        depth=options.depth,
        heads=max(1, options.width // 64),
        layout_size=-(-8 // grid) * grid if grid < 8 else grid,
        text=TextConfig(
            vocabulary=tokenizer.vocabulary,
            width=options.width,
            heads=max(1, options.width // 64),
        ),
    )


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


def _start(options: TrainingOptions, data: PictureSet) -> Start:
    """The tokenizer of this run, of ``init``, or a new one learned from the prompts."""
    kept = options.out / "checkpoint" / "tokenizer.json"
    weights = None
    if options.init is not None:
        other = Checkpoint.open(options.init)
        tokenizer = other.tokenizer
        weights = {
            name: value.float()
            for name, value in load_file(other.folder / "model.safetensors").items()
        }
    elif kept.is_file():
        tokenizer = PromptTokenizer.load(kept)
    else:
        draw = random.Random(options.seed)
        prompts = [prompter(draw) for prompter in data.prompters for _ in range(PROMPTS_A_PICTURE)]
        tokenizer = PromptTokenizer.train([*data.captions, *prompts], VOCABULARY)
    return Start(tokenizer, weights, options.description, options.licence)
