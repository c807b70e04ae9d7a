"""The training loop: images and prompts in, a checkpoint folder out.

An interrupted run continues where it was, to the bit: everything random in a step comes from the
seed, the process and the step's number, so weights, optimizers and average are all there is to
keep. (accelerate's ``save_state`` would add generators and schedulers, and no check that a run is
resumed with the same configuration.) Several GPUs or machines run the same command under
``accelerate launch``.

A run's folder holds ``log.jsonl``, ``loss.png``, ``samples/``, ``checkpoint/`` (a folder for
`model.registry.open_checkpoint`) and ``resume.pt`` (what the next start needs).
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from model.checkpoint import WEIGHTS
from model.data import load
from model.loading import resolve_dtype
from model.registry import RECIPES
from model.training.optimizer import Average, OptimizerConfig
from model.training.recipe import Phase, Recipe, TrainingError, TrainingOptions
from model.training.sheet import loss_curve


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. ``steps`` and the two intervals may change when it is resumed, the rest may not."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 20_000
    batch: int = 128  # images a step, over all processes
    average: float = 0.995  # decay of the weights' moving average, which is what ships
    seed: int = 0
    sample_every: int = 1000
    save_every: int = 500

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed."""
        free = ("steps", "sample_every", "save_every")
        return {key: value for key, value in asdict(self).items() if key not in free}


class ProgressReport(Protocol):
    """Is called as a run goes on."""

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Step ``step`` is done."""

    def note(self, text: str) -> None:
        """Something worth a line on a terminal."""


class Trainer:
    """One run in one folder, on one or many processes."""

    def __init__(
        self,
        recipe: Recipe[Any],
        config: TrainConfig,
        folder: Path,
        accelerator: Accelerator,
        progress: ProgressReport,
    ) -> None:
        if config.batch % accelerator.num_processes:
            raise TrainingError(
                f"a batch of {config.batch} does not divide over "
                f"{accelerator.num_processes} processes"
            )
        self._recipe = recipe
        self._config = config
        self._folder = folder
        self._accelerator = accelerator
        self._progress = progress
        self._share = config.batch // accelerator.num_processes
        self._phases = [self._prepare(phase) for phase in recipe.phases]
        self._optimizers = [optimizer for phase in self._phases for optimizer in phase.optimizers]
        self._average = Average(recipe.averaged, config.average)
        self._step = self._resume()

    def _prepare(self, phase: Phase) -> Phase:
        """On its device, compiled and distributed. Moves the recipe's own weights."""
        self._free(phase)  # what is distributed waits for the gradients of all free weights
        loss, *optimizers = self._accelerator.prepare(phase.loss, *phase.optimizers)
        return Phase(phase.name, loss, optimizers)

    def run(self) -> Path:
        """Trains to the last step, or until a signal. Returns the checkpoint folder."""
        config, accelerator = self._config, self._accelerator
        with _interruptible() as interrupted:
            while self._step < config.steps and not interrupted():
                began = time.perf_counter()
                losses = self._advance()
                rate = config.batch / (time.perf_counter() - began)
                if accelerator.is_main_process:
                    self._average.update(self._recipe.averaged, self._step)
                    self._log(losses, rate)
                self._step += 1
                last = self._step == config.steps
                if self._step % config.save_every == 0 or last or interrupted():
                    self._save()
                if self._step % config.sample_every == 0 or last:
                    self._sample()
        if self._step < config.steps:
            self._progress.note(f"interrupted after step {self._step}; the same command goes on")
        return self._folder / "checkpoint"

    def _advance(self) -> dict[str, float]:
        """One step: each phase's loss, by its name."""
        config, rank = self._config, self._accelerator.process_index
        draw = random.Random(f"{config.seed}/{rank}/{self._step}")
        generator = torch.Generator().manual_seed(draw.getrandbits(63))
        rate = config.optimizer.rate(self._step, config.steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        return {phase.name: self._run_phase(phase, draw, generator) for phase in self._phases}

    def _run_phase(self, phase: Phase, draw: random.Random, generator: torch.Generator) -> float:
        self._free(phase)
        batch = self._recipe.batch(self._share, draw, generator)
        loss = phase.loss(*(part.to(self._accelerator.device) for part in batch))
        self._accelerator.backward(loss)
        for optimizer in phase.optimizers:
            optimizer.step()
        for optimizer in self._optimizers:  # a phase may leave gradients on another's weights
            optimizer.zero_grad()
        value = float(self._accelerator.reduce(loss.detach(), reduction="mean"))
        if not math.isfinite(value):
            raise TrainingError(
                f"the {phase.name} is {value} at step {self._step}; "
                f"a lower learning rate than {self._config.optimizer.learning_rate} may help"
            )
        return value

    def _free(self, phase: Phase) -> None:
        """No gradients for the weights that another phase moves: they cost a third of a pass."""
        if len(self._recipe.phases) > 1:
            own = {
                id(parameter)
                for optimizer in phase.optimizers
                for group in optimizer.param_groups
                for parameter in group["params"]
            }
            for parameter in self._recipe.network.parameters():
                parameter.requires_grad_(id(parameter) in own)

    def _resume(self) -> int:
        """Loads ``resume.pt`` where there is one. Returns the steps already done."""
        path = self._folder / "resume.pt"
        if not path.exists():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        asked, had = json.loads(self._fixed()), json.loads(state["config"])
        changed = [key for key in asked if asked[key] != had.get(key)]
        if changed:
            raise TrainingError(
                f"{self._folder} holds a run with another {', '.join(changed)}; "
                "give the same values to go on, or another --out to begin again"
            )
        self._recipe.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["average"].items():
            self._average.state[name].copy_(value)
        step = int(state["step"])
        if self._accelerator.is_main_process:
            log = self._folder / "log.jsonl"  # may be ahead of what was saved
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text("".join(lines[:step]), encoding="utf-8")
        self._progress.note(f"going on after step {step}")
        return step

    def _save(self) -> None:
        """Writes ``resume.pt`` and the checkpoint; the main process does, the others wait."""
        if self._accelerator.is_main_process:
            state = {
                "step": self._step,
                "config": self._fixed(),
                "network": self._recipe.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
                "average": self._average.state,
            }
            part = self._folder / "resume.part"
            torch.save(state, part)
            part.replace(self._folder / "resume.pt")
            self._recipe.save(self._folder / "checkpoint", self._average.state)
        self._accelerator.wait_for_everyone()

    def _fixed(self) -> str:
        return json.dumps({**self._recipe.fixed, **self._config.fixed()})

    def _log(self, losses: dict[str, float], rate: float) -> None:
        line = {
            "step": self._step + 1,
            **{name: round(value, 5) for name, value in losses.items()},
            "pictures_per_second": round(rate, 1),
        }
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._progress.update(self._step + 1, losses["loss"], rate)

    def _sample(self) -> None:
        """Shows what the averaged weights can do; draws the loss curve."""
        if self._accelerator.is_main_process:
            device = str(self._accelerator.device)
            sheet = self._recipe.sheet(self._folder / "checkpoint", device)
            (self._folder / "samples").mkdir(exist_ok=True)
            sheet.save(self._folder / "samples" / f"{self._step:07}.png")
            loss_curve(self._folder / "log.jsonl", self._folder / "loss.png")
        self._accelerator.wait_for_everyone()


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Holds SIGINT and SIGTERM back while a step runs. Yields whether one came."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_training(options: TrainingOptions, progress: ProgressReport) -> Path:
    """Trains, or goes on training, in ``options.out``. Returns the checkpoint folder.

    Raises ``DataError``, ``CheckpointError``, ``TrainingError``; ``ValueError`` for sizes that do
    not divide.
    """
    recipe_type = find_recipe(options.family)
    pictures = recipe_type.pictures(options)
    options.out.mkdir(parents=True, exist_ok=True)
    data = load(options.data, pictures)
    progress.note(f"{len(data)} images in {len(data.groups)} groups, {data.skipped} skipped")
    accelerator = _accelerator(options, progress)
    rate = options.shape(recipe_type.preset).learning_rate
    config = TrainConfig(
        optimizer=OptimizerConfig(rate, cooldown=options.cooldown),
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        sample_every=options.sample_every,
        save_every=options.save_every,
    )
    torch.manual_seed(options.seed)
    recipe = recipe_type.of(options, data, config.optimizer)
    if options.init is not None:
        weights = load_file(options.init / WEIGHTS)
        weights = {name: value.float() for name, value in weights.items()}
        progress.note(take_over(recipe.network, recipe.adopt(weights)))
    return Trainer(recipe, config, options.out, accelerator, progress).run()


def find_recipe(name: str) -> type[Recipe[Any]]:
    """The recipe of that name. Raises `TrainingError`."""
    if name not in RECIPES:
        raise TrainingError(f"{name!r} cannot be trained, only {', '.join(RECIPES)}")
    found: type[Recipe[Any]] = EntryPoint(name, RECIPES[name], "tessera.recipes").load()
    return found


def take_over(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Begins with another network's weights; what has another shape stays new. Says which."""
    own = network.state_dict()
    fits = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    network.load_state_dict(fits, strict=False)
    fresh = ", ".join(name for name in own if name not in fits)
    return f"took over {len(fits)} of {len(own)} tensors; new ones: {fresh or 'none'}"


def _accelerator(options: TrainingOptions, progress: ProgressReport) -> Accelerator:
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
