"""From what ``tessera train`` was told to a `Trainer`: picks device, precision and compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import resolve_dtype
from model.data.pictures import PictureFormat
from model.data.sources import load
from model.gan.inheritance import inherited
from model.gan.recipe import GanRecipe
from model.gpt.codec import Codec
from model.gpt.codec_folder import load_codec
from model.optimizer import OptimizerConfig
from model.recipe import TrainingError, take_over
from model.recipes import recipe_of
from model.train import Progress, TrainConfig, Trainer
from model.training_options import Trained, TrainingOptions


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
    config = TrainConfig(
        optimizer=OptimizerConfig(options.preset.learning_rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
    )
    torch.manual_seed(options.seed)
    recipe = recipe_of(options, data, config.optimizer, codec)
    if options.init is not None:
        weights = _weights(options.init, options.family)
        if isinstance(recipe, GanRecipe):
            weights = inherited(weights, recipe.averaged.config.depth)
        progress.note(take_over(recipe.network, weights))
    return Trainer(recipe, config, options.out, accelerator, progress).run()


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
