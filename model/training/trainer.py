"""The training loop: images and prompts in, a checkpoint folder out.

An interrupted run continues where it was, to the bit: everything random in a step comes from the
seed, the process and the step's number, so weights, optimizers, average and tokenizer are all there
is to keep (`model.training.run_folder`). (accelerate's ``save_state`` would add generators and
schedulers, and no check that a run is resumed with the same configuration.) Several GPUs or
machines run the same command under ``accelerate launch``.
"""

from __future__ import annotations

import math
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from model.checkpoint import WEIGHTS
from model.data import load
from model.data.pictures import PictureSet
from model.layers import FrozenEmbedding
from model.loading import load_weights, resolve_dtype
from model.registry import RECIPES, find_folder
from model.tokenizer import PromptTokenizer
from model.training.optimizer import Average, OptimizerConfig
from model.training.recipe import (
    Phase,
    Recipe,
    Start,
    TrainingError,
    TrainingOptions,
    frozen_of,
    make_tokenizer,
    read_vectors,
    sample_rows,
)
from model.training.run_folder import DATA, RunFolder, changed, identity
from model.training.sheet import loss_curve

NAMED = 10
"""Tensors that a note lists."""


FREE = ("steps", "sample_every", "save_every", "learning_rate", "cooldown", "minutes")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. When it is resumed, `FREE` may change, the rest may not."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 20_000
    batch: int = 128  # images a step, over all processes
    average: float = 0.995  # decay of the weights' moving average, which is what ships
    seed: int = 0
    sample_every: int = 1000
    save_every: int = 500
    minutes: float | None = None  # after which a run ends that `steps` do not end earlier

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed."""
        values = asdict(self)
        optimizer = values.pop("optimizer")
        return {
            "optimizer": {key: value for key, value in optimizer.items() if key not in FREE},
            **{key: value for key, value in values.items() if key not in FREE},
        }


class ProgressReport(Protocol):
    """Is called as a run goes on."""

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Step ``step`` is done."""

    def note(self, text: str) -> None:
        """Something worth a line on a terminal."""

    def interrupted(self, signal: int) -> None:
        """The run ends before its last step."""


class Schedule:
    """How many steps a run has.

    With a budget of ``minutes`` that follows from the time that steps take: it is estimated anew
    after each, up to where the learning rate begins to fall, and is settled then.
    """

    WARM = 3
    """Steps that are no measure of others: the first ones compile."""

    def __init__(self, config: TrainConfig, step: int, settled: int | None) -> None:
        """``step`` steps are done; an earlier process had ``settled`` on how many there are."""
        self.steps = config.steps if settled is None or config.minutes is None else settled
        self._config = config
        self._settled = config.minutes is None or settled is not None
        self._first = step + self.WARM
        self._began = time.perf_counter()
        self._warm = self._began

    @property
    def settled(self) -> int | None:
        """The steps of a run whose learning rate falls, where a budget decided on them."""
        return self.steps if self._settled and self._config.minutes is not None else None

    def done(self, step: int) -> None:
        """``step`` steps are done."""
        now = time.perf_counter()
        if step <= self._first:
            self._warm = now
        elif not self._settled:
            assert self._config.minutes is not None
            each = (now - self._warm) / (step - self._first)
            left = self._config.minutes * 60 - (now - self._began)
            self.steps = min(self._config.steps, max(step, step + int(left / each)))
            falls = self.steps - round(self.steps * self._config.optimizer.cooldown)
            self._settled = step >= falls


@dataclass(frozen=True, slots=True)
class _Losses:
    """Of one step; the device may still compute them."""

    step: int  # from 0
    values: dict[str, Tensor]

    def read(self, learning_rate: float) -> dict[str, float]:
        """Waits for the device. Raises `TrainingError` for one that is not finite."""
        values = {name: float(value) for name, value in self.values.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {name} is {value} at step {self.step}; "
                    f"a lower learning rate than {learning_rate} may help"
                )
        return values


class Trainer:
    """One run in one folder, on one or many processes."""

    def __init__(
        self,
        recipe: Recipe[Any],
        config: TrainConfig,
        run: RunFolder,
        accelerator: Accelerator,
        progress: ProgressReport,
        data: Mapping[str, Any],
        state: Mapping[str, Any] | None,
    ) -> None:
        """``data`` identifies the images; ``state`` is what an earlier process saved."""
        if config.batch % accelerator.num_processes:
            raise TrainingError(
                f"a batch of {config.batch} does not divide over "
                f"{accelerator.num_processes} processes"
            )
        self._recipe = recipe
        self._config = config
        self._run = run
        self._accelerator = accelerator
        self._progress = progress
        self._fixed = {**recipe.fixed, **config.fixed(), **data}
        self._share = config.batch // accelerator.num_processes
        self._phases = [self._prepare(phase) for phase in recipe.phases]
        self._optimizers = [optimizer for phase in self._phases for optimizer in phase.optimizers]
        self._average = Average(recipe.averaged, config.average)
        self._step = 0 if state is None else self._resume(state)
        settled = None if state is None else state.get("steps")
        self._schedule = Schedule(config, self._step, settled)

    def _prepare(self, phase: Phase) -> Phase:
        """On its device, compiled and distributed. Moves the recipe's own weights."""
        self._free(phase)  # what is distributed waits for the gradients of all free weights
        loss, *optimizers = self._accelerator.prepare(phase.loss, *phase.optimizers)
        return Phase(phase.name, loss, optimizers)

    def run(self) -> Path:
        """Trains to the last step, or until a signal. Returns the checkpoint folder."""
        config, schedule = self._config, self._schedule
        pending: _Losses | None = None  # read while the device computes the next step
        with _interruptible() as signals:
            self._logged = time.perf_counter()
            while self._step < schedule.steps and not self._stopped(signals):
                losses = self._advance()
                if self._accelerator.is_main_process:
                    self._average.update(self._recipe.averaged, self._step)
                self._log(pending)
                pending = losses
                self._step += 1
                schedule.done(self._step)
                last = self._step >= schedule.steps
                shown = self._step % config.sample_every == 0 or last
                saved = self._step % config.save_every == 0 or shown
                if saved or self._accelerator.device.type == "cpu":  # which computes nothing now
                    self._log(pending)
                    pending = None
                if saved:
                    self._save()
                if shown:
                    self._sample()
                    self._logged = time.perf_counter()
            self._log(pending)
            if self._step < schedule.steps:
                self._save()
                note = f"interrupted after step {self._step}; the same command goes on"
                self._progress.note(note)
                self._progress.interrupted(signals[0] if signals else signal.SIGTERM)
        return self._run.checkpoint

    def _stopped(self, signals: list[int]) -> bool:
        """Whether a signal came to any of the processes: they stop at the same step."""
        if self._accelerator.num_processes == 1:
            return bool(signals)
        came = torch.tensor(float(bool(signals)), device=self._accelerator.device)
        total: Tensor = self._accelerator.reduce(came, reduction="sum")
        return bool(total > 0)

    def _advance(self) -> _Losses:
        """One step: each phase's loss, by its name."""
        config, rank = self._config, self._accelerator.process_index
        draw = random.Random(f"{config.seed}/{rank}/{self._step}")
        generator = torch.Generator(self._recipe.device).manual_seed(draw.getrandbits(63))
        rate = config.optimizer.rate(self._step, self._schedule.steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        values = {phase.name: self._run_phase(phase, draw, generator) for phase in self._phases}
        return _Losses(self._step, values)

    def _run_phase(self, phase: Phase, draw: random.Random, generator: torch.Generator) -> Tensor:
        self._free(phase)
        batch = self._recipe.batch(self._share, draw, generator)
        loss = phase.loss(*(part.to(self._accelerator.device) for part in batch))
        self._accelerator.backward(loss)
        for optimizer in phase.optimizers:
            optimizer.step()
        for optimizer in self._optimizers:  # a phase may leave gradients on another's weights
            optimizer.zero_grad()
        mean: Tensor = self._accelerator.reduce(loss.detach(), reduction="mean")
        return mean

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

    def _resume(self, state: Mapping[str, Any]) -> int:
        """Takes in what was saved. Returns the steps already done."""
        if different := changed(self._fixed, {DATA: self._fixed[DATA], **state["config"]}):
            new_data = [text for text in different if text.startswith(f"{DATA}.")]
            also = ", --new-data to go on with these data" if new_data else ""
            raise TrainingError(
                f"{self._run.path} holds a run with another {', '.join(different)}; give the same "
                f"values to go on{also}, or another --out to begin again"
            )
        self._recipe.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["average"].items():
            self._average.state[name].copy_(value)
        step = int(state["step"])
        if self._accelerator.is_main_process:
            self._run.cut_log(step)
        if step < self._config.steps:
            self._progress.note(f"going on after step {step}")
        else:
            self._progress.note(f"finished: all {step} steps are done; more --steps prolong it")
        return step

    def _save(self) -> None:
        """Writes the checkpoint and what a resume needs; the main process does, the others wait.

        Weights that no checkpoint can hold are not kept to resume with either.
        """
        if self._accelerator.is_main_process:
            tokenizer = self._recipe.tokenizer
            state = {
                "step": self._step,
                "steps": self._schedule.settled,
                "network": self._recipe.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
                "average": self._average.state,
                "tokenizer": tokenizer and tokenizer.to_json(),
            }
            with self._run.writing():
                self._recipe.save(self._run.checkpoint, self._average.state)
                self._run.save(state, self._fixed)
        self._accelerator.wait_for_everyone()

    def _log(self, losses: _Losses | None) -> None:
        """Waits for the losses of a step; the main process writes them down."""
        if losses is None:
            return
        values = losses.read(self._config.optimizer.learning_rate)
        now = time.perf_counter()
        rate = self._config.batch / (now - self._logged)
        self._logged = now
        if self._accelerator.is_main_process:
            line = {
                "step": losses.step + 1,
                **{name: round(value, 5) for name, value in values.items()},
                "pictures_per_second": round(rate, 1),
            }
            with self._run.writing():
                self._run.append(line)
            self._progress.update(losses.step + 1, values["loss"], rate)

    def _sample(self) -> None:
        """Shows what the checkpoint can do; draws the loss curve. Never ends a run."""
        if self._accelerator.is_main_process:
            device = str(self._accelerator.device)
            samples = self._run.path / "samples"
            try:
                sheet = self._recipe.sheet(self._run.checkpoint, device)
                samples.mkdir(exist_ok=True)
                sheet.save(samples / f"{self._step:07}.png")
                loss_curve(self._run.log, self._run.path / "loss.png")
            except Exception as error:  # noqa: BLE001 - hours of training are worth more
                self._progress.note(f"no sheet of step {self._step}: {error}")
        self._accelerator.wait_for_everyone()


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Holds the signals that end a process back while a step runs. Yields those that came."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        caught.append(signal.SIGHUP)  # ignored under nohup
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_training(options: TrainingOptions, progress: ProgressReport) -> Path:
    """Trains, or goes on training, in ``options.out``. Returns the checkpoint folder.

    Raises ``DataError``, ``CheckpointError``, ``TrainingError``; ``ValueError`` for sizes that do
    not divide.
    """
    recipe_type = find_recipe(options.family)
    form = recipe_type.pictures(options)
    first = PartialState(cpu=_on_cpu(options)).is_main_process
    run = RunFolder(options.out)
    with run.locked() if first else nullcontext():
        state = run.load()
        if state is None and options.init is not None:
            options = replace(options, init=find_folder(options.init))
        data = load(options.data, form)
        # Not before there is something to train on: what it is set to holds for the process.
        accelerator = _accelerator(options, progress)
        progress.note(f"{len(data)} images in {len(data.groups)} groups, {data.skipped} skipped")
        for note in data.notes:
            progress.note(note)
        shown = [data.captions[row] for row in sample_rows(data, 3)]
        progress.note(f"captions such as {', '.join(map(repr, shown))}")
        config = TrainConfig(
            OptimizerConfig(
                options.shape(recipe_type.preset).learning_rate, cooldown=options.cooldown
            ),
            steps=options.steps,
            batch=options.batch,
            average=options.average,
            seed=options.seed,
            sample_every=options.sample_every,
            save_every=options.save_every,
            minutes=options.minutes,
        )
        torch.manual_seed(options.seed)
        tokenizer = vectors = None
        if recipe_type.reads_prompts:
            vectors = read_vectors(options) if state is None else frozen_of(state["network"])
            tokenizer = make_tokenizer(options, data) if state is None else run.tokenizer(state)
        start = Start(tokenizer, options.description, options.license, vectors)
        recipe = recipe_type.of(options, data, config.optimizer, start)
        if tokenizer is not None:
            _note_long_captions(data, tokenizer, recipe.prompt_tokens, progress)
        known = identity(data)
        recipe.place(accelerator.device)
        if state is None and options.init is not None:
            progress.note(take_over(recipe.network, _initial_weights(recipe, options.init)))
        if state is None and start.vectors is not None:
            set_vectors(recipe.network, start.vectors)
        if state is not None and options.new_data:
            state["config"] |= known
        trainer = Trainer(recipe, config, run, accelerator, progress, known, state)
        del state
        return trainer.run()


def _note_long_captions(
    data: PictureSet, tokenizer: PromptTokenizer, limit: int, progress: ProgressReport
) -> None:
    long = [text for text in data.captions if len(tokenizer.tokens(text)) > limit]
    if long:
        progress.note(
            f"{len(long)} captions have more than {limit} tokens and are cut; the first becomes "
            f"{tokenizer.shortened(long[0], limit)!r}"
        )


def _initial_weights(recipe: Recipe[Any], folder: Path) -> Mapping[str, Tensor]:
    return recipe.adopt(load_weights(folder / WEIGHTS), folder)


def set_vectors(network: nn.Module, vectors: Mapping[str, Tensor]) -> None:
    """Gives them to every frozen embedding of the network."""
    for module in network.modules():
        if isinstance(module, FrozenEmbedding):
            module.load_state_dict(vectors, strict=False)


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
