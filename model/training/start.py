"""From options to a run: data, tokenizer, network and machine, then `model.training.trainer`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from model.checkpoint import WEIGHTS
from model.data import load
from model.data.pictures import PictureSet
from model.loading import load_weights, resolve_dtype
from model.registry import RECIPES, find_folder
from model.tokenizer import PromptTokenizer
from model.training.automatic import completed
from model.training.choices import UNLIMITED
from model.training.optimizer import OptimizerConfig
from model.training.progress import ProgressReport, Quiet
from model.training.recipe import (
    Recipe,
    Start,
    TrainingError,
    TrainingOptions,
    frozen_of,
    make_tokenizer,
    read_shape,
    read_vectors,
    sample_rows,
    set_vectors,
)
from model.training.run_folder import RunFolder, identity
from model.training.schedule import TrainConfig
from model.training.trainer import Trainer

NAMED = 10
"""Tensors that a note lists."""


def start_training(options: TrainingOptions, progress: ProgressReport) -> Path:
    """Trains, or goes on training, in ``options.out``. Returns the checkpoint folder.

    Raises ``DataError``, ``CheckpointError``, ``TrainingError``; ``ValueError`` for sizes that do
    not divide.
    """
    recipe_type = find_recipe(options.family)
    machine = PartialState(cpu=_on_cpu(options))
    if not machine.is_main_process:
        progress = Quiet(progress)
    run = RunFolder(options.out)
    with run.locked() if machine.is_main_process else nullcontext():
        state = run.load()
        if state is None and options.init is not None:
            options = replace(options, init=find_folder(options.init))
        options, choices = completed(options, state, machine)
        data = load(options.data, recipe_type.pictures(options), run.data, progress.reading)
        # Not before there is something to train on: what it is set to holds for the process.
        accelerator = _accelerator(options, progress)
        lines = [f"{len(data)} images in {len(data.groups)} groups, {data.skipped} skipped"]
        lines += data.notes
        shown = [data.captions[row] for row in sample_rows(data, 3)]
        lines.append(f"captions such as {', '.join(map(repr, shown))}")
        for line in lines:
            progress.note(line)
        config = _config(options, options.shape(recipe_type.preset).learning_rate)
        torch.manual_seed(options.seed)
        start = _start(recipe_type, options, data, run, state)
        recipe = recipe_type.of(options, data, config.optimizer, start)
        lines.append(_plan(recipe, options, accelerator))
        progress.note(lines[-1])
        if start.tokenizer is not None:
            _note_long_captions(data, start.tokenizer, recipe.prompt_tokens, progress)
        known = identity(data)
        recipe.place(accelerator.device)
        if state is None and options.init is not None:
            progress.note(take_over(recipe.network, _initial_weights(recipe, options.init)))
        if state is None and start.vectors is not None:
            set_vectors(recipe.network, start.vectors)
        if state is not None and options.new_data:
            state["config"] |= known
        trainer = Trainer(recipe, config, run, accelerator, progress, known, choices, lines, state)
        del state
        return trainer.run()


def _config(options: TrainingOptions, learning_rate: float) -> TrainConfig:
    return TrainConfig(
        OptimizerConfig(learning_rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        average=options.average,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
        minutes=options.minutes,
    )


def _start(
    recipe: type[Recipe[Any]],
    options: TrainingOptions,
    data: PictureSet,
    run: RunFolder,
    state: Mapping[str, Any] | None,
) -> Start:
    """What the network is made with: what was saved with the run, where it goes on."""
    tokenizer = vectors = shape = None
    if state is not None:
        shape = state["config"].get("network")
    elif options.init is not None and (before := read_shape(options.init)) is not None:
        shape = asdict(before)
    if recipe.reads_prompts:
        vectors = read_vectors(options) if state is None else frozen_of(state["network"])
        tokenizer = make_tokenizer(options, data) if state is None else run.tokenizer(state)
    return Start(tokenizer, options.description, options.license, vectors, shape)


def _plan(recipe: Recipe[Any], options: TrainingOptions, accelerator: Accelerator) -> str:
    """What is trained, for how long and on what."""
    weights = sum(parameter.numel() for parameter in recipe.network.parameters()) / 1e6
    shape = options.shape(recipe.preset)
    several = accelerator.num_processes
    if accelerator.device.type == "cuda":
        machine = torch.cuda.get_device_name(accelerator.device)
    else:
        machine = f"{torch.get_num_threads()} CPU threads"
    ends = [] if options.minutes is None else [f"{options.minutes:g} minutes"]
    if options.steps < UNLIMITED:
        ends.append(f"{options.steps:,} steps")
    return (
        f"a {options.family} of {weights:.1f} million weights (--width {shape.width} "
        f"--depth {shape.depth}) for {options.size} pixels (--size {options.size} "
        f"--patch {shape.patch}), with --batch {options.batch}, for {' or '.join(ends)}, on "
        f"{f'{several} × ' if several > 1 else ''}{machine} "
        f"in {'bf16' if accelerator.mixed_precision == 'bf16' else 'fp32'}"
        f"{', compiled' if options.compiled else ''}"
    )


def _note_long_captions(
    data: PictureSet, tokenizer: PromptTokenizer, limit: int, progress: ProgressReport
) -> None:
    tokens = zip(data.captions, tokenizer.tokens_of_all(data.captions), strict=True)
    long = [text for text, its in tokens if len(its) > limit]
    if long:
        progress.note(
            f"{len(long)} captions have more than {limit} tokens and are cut; the first becomes "
            f"{tokenizer.shortened(long[0], limit)!r}"
        )


def _initial_weights(recipe: Recipe[Any], folder: Path) -> Mapping[str, Tensor]:
    return recipe.adopt(load_weights(folder / WEIGHTS), folder)


def find_recipe(name: str) -> type[Recipe[Any]]:
    """The recipe of that name. Raises `TrainingError`."""
    if name not in RECIPES:
        raise TrainingError(f"{name!r} cannot be trained, only {', '.join(RECIPES)}")
    found: type[Recipe[Any]] = EntryPoint(name, RECIPES[name], "tessera.recipes").load()
    return found


def take_over(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Begins with another network's weights; what has another shape stays new. Says which.

    Raises `TrainingError` where nothing fits.
    """
    own = network.state_dict()
    fits = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    if not fits:
        raise TrainingError("--init has no weights of this network's shapes; leave it out")
    network.load_state_dict(fits, strict=False)
    fresh = [name for name in own if name not in fits]
    more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
    listed = ", ".join(fresh[:NAMED]) or "none"
    few = 2 * len(fits) < len(own)
    warning = " (less than half: is it of the same width and depth?)" if few else ""
    return f"took over {len(fits)} of {len(own)} tensors{warning}; new ones: {listed}{more}"


def _on_cpu(options: TrainingOptions) -> bool:
    return options.cpu or not torch.cuda.is_available()


def _accelerator(options: TrainingOptions, progress: ProgressReport) -> Accelerator:
    """bf16 where it is fast; compiled where a C++ compiler is at hand."""
    on_cpu = _on_cpu(options)
    bf16 = resolve_dtype("auto", "cpu" if on_cpu else "cuda") == "bf16"
    compiled = options.compiled and shutil.which("g++") is not None
    if options.compiled and not compiled:
        progress.note("no C++ compiler (g++) found: training uncompiled, at about half the speed")
    return Accelerator(
        cpu=on_cpu,
        mixed_precision="bf16" if bf16 else "no",
        dynamo_backend="inductor" if compiled else "no",
    )
