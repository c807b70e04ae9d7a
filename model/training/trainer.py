"""The training loop: images and prompts in, a checkpoint folder out.

An interrupted run continues where it was, to the bit: everything random in a step comes from the
seed, the process and the step's number, so weights, optimizers, average and tokenizer are all there
is to keep (`model.training.run_folder`). (accelerate's ``save_state`` would add generators and
schedulers, and no check that a run is resumed with the same configuration.) Several GPUs or
machines run the same command under ``accelerate launch``.
"""

from __future__ import annotations

import math
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from model.training.choices import Choices
from model.training.optimizer import Average
from model.training.page import Page, State, View, duration
from model.training.progress import ProgressReport
from model.training.recipe import Phase, Recipe, TrainingError
from model.training.run_folder import DATA, RunFolder, changed
from model.training.schedule import Schedule, TrainConfig


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
        choices: Choices,
        facts: Sequence[str],
        state: Mapping[str, Any] | None,
    ) -> None:
        """
        Args:
            data: identifies the images.
            choices: what the run's next start has where its options do not say.
            facts: lines on the run for its page.
            state: what an earlier process saved.
        """
        if config.batch % accelerator.num_processes:
            raise TrainingError(
                f"a batch of {config.batch} does not divide over "
                f"{accelerator.num_processes} processes"
            )
        self._recipe = recipe
        self._config = config
        self._run = run
        self._choices = choices
        self._accelerator = accelerator
        self._progress = progress
        self._fixed = {**recipe.fixed, **config.fixed(), **data}
        self._share = config.batch // accelerator.num_processes
        self._phases = [self._prepare(phase) for phase in recipe.phases]
        self._optimizers = [optimizer for phase in self._phases for optimizer in phase.optimizers]
        self._average = Average(recipe.averaged, config.average)
        self._step = 0 if state is None else self._resume(state)
        self._schedule = Schedule(
            config, self._step, {} if state is None else state.get("schedule", {})
        )
        self._page = Page(run.path, run.losses())
        self._facts = facts
        self._announced = False
        self._losses: Mapping[str, float] = {}  # of the last step
        if state is not None:
            self._note_beginning()

    def _prepare(self, phase: Phase) -> Phase:
        """On its device, compiled and distributed. Moves the recipe's own weights."""
        self._free(phase)  # what is distributed waits for the gradients of all free weights
        loss, *optimizers = self._accelerator.prepare(phase.loss, *phase.optimizers)
        return Phase(phase.name, loss, optimizers)

    def run(self) -> Path:
        """Trains to the last step, or until a signal. Returns the checkpoint folder.

        Raises `TrainingError`.
        """
        schedule, on_cpu = self._schedule, self._accelerator.device.type == "cpu"
        pending: _Losses | None = None  # read while the device computes the next step
        stopped = False
        with self._failing(), self._together(), _interruptible() as signals:
            self._publish("training")
            if self._accelerator.is_main_process:
                self._progress.page(self._page.path)
            self._logged = time.perf_counter()
            while self._step < schedule.steps and not stopped:
                losses = self._advance()
                if self._accelerator.is_main_process:
                    self._average.update(self._recipe.averaged, self._step)
                self._log(pending)
                pending = losses
                self._step += 1
                schedule.done(self._step)
                if on_cpu or schedule.save_due:  # a CPU computes nothing now
                    self._log(pending)
                    pending = None
                stopped = self._agree(signals)
                if schedule.save_due or stopped:
                    self._save()
                if schedule.sheet_due:
                    self._sample()
                    self._logged = time.perf_counter()
            self._log(pending)
        if self._step < schedule.steps:
            self._progress.note(f"interrupted after step {self._step}; the same command goes on")
            self._progress.interrupted(signals[0] if signals else signal.SIGTERM)
        self._publish("finished" if not stopped else "interrupted")
        return self._run.checkpoint

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._publish("failed", str(error) or type(error).__name__)
            raise

    def _publish(self, state: State, error: str | None = None) -> None:
        """Writes the page, and the same for programs.

        A disk that does not take them ends no run: what has to be saved says so.
        """
        if not self._accelerator.is_main_process:
            return
        view = self._view(state)
        facts = {
            "state": state,
            "step": view.step,
            "steps": view.steps,
            "seconds": round(view.seconds, 1),
            "seconds_left": None if view.left is None else round(view.left, 1),
            "losses": self._losses,
            "error": error,
            "pid": os.getpid(),
            "device": str(self._accelerator.device),
            "processes": self._accelerator.num_processes,
            "checkpoint": str(self._run.checkpoint),
            "config": self._fixed,
            "choices": asdict(self._choices),
            "learning_rate": self._config.optimizer.learning_rate,
            "cooldown": self._config.optimizer.cooldown,
            "notes": list(view.facts),
        }
        with suppress(OSError):
            self._run.describe(facts)
            self._page.write(view)

    def _agree(self, signals: list[int]) -> bool:
        """Whether a signal came to any of the processes: they stop at the same step.

        What follows from the time, the main process decides for all.
        """
        schedule, accelerator = self._schedule, self._accelerator
        if accelerator.num_processes == 1:
            return bool(signals)
        own = [float(bool(signals)), 0.0, 0.0, 0.0]
        if accelerator.is_main_process:
            own[1:] = [schedule.steps, schedule.sheet_due, schedule.save_due]
        total: Tensor = accelerator.reduce(
            torch.tensor(own, device=accelerator.device), reduction="sum"
        )
        stopped, steps, sheet_due, save_due = total.tolist()
        schedule.follow(int(steps), bool(sheet_due), bool(save_due))
        return bool(stopped)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What becomes of a process when another one of the run has died is a `TrainingError`."""
        try:
            yield
        except RuntimeError as error:
            if self._accelerator.num_processes == 1 or isinstance(error, torch.OutOfMemoryError):
                raise
            text = str(error).splitlines()[0]
            raise TrainingError(
                f"another process of the run has ended ({text}); the same command goes on from "
                f"what was saved last, in {self._run.path}"
            ) from error

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
        return step

    def _note_beginning(self) -> None:
        """Of a run that is resumed."""
        if self._step < self._schedule.steps:
            self._progress.note(f"going on after step {self._step}")
        else:
            more = "--steps" if self._config.minutes is None else "--minutes"
            self._progress.note(
                f"finished: all {self._step} steps are done; more {more} prolong it"
            )

    def _save(self) -> None:
        """Writes the checkpoint and what a resume needs; the main process does, the others wait.

        Weights that no checkpoint can hold are not kept to resume with either.
        """
        if self._accelerator.is_main_process:
            began = time.perf_counter()
            tokenizer = self._recipe.tokenizer
            state = {
                "step": self._step,
                "schedule": self._schedule.state,
                "choices": asdict(self._choices),
                "network": self._recipe.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
                "average": self._average.state,
                "tokenizer": tokenizer and tokenizer.to_json(),
            }
            with self._run.writing():
                try:
                    self._recipe.save(self._run.checkpoint, self._average.state)
                except ValueError as error:
                    raise TrainingError(
                        f"{error} after step {self._step}, which is not saved; a lower learning "
                        f"rate than {self._config.optimizer.learning_rate} may help"
                    ) from error
                self._run.save(state, self._fixed)
            self._schedule.saved(time.perf_counter() - began)
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
            self._expect(losses.step + 1)
            self._progress.update(losses.step + 1, values["loss"], rate)
            self._losses = values
            self._page.add(losses.step + 1, values)
            if self._page.due:
                self._publish("training")

    def _expect(self, step: int) -> None:
        """Says how long the run takes, as far as its steps have shown it."""
        schedule = self._schedule
        if schedule.left is None:
            return
        self._progress.expect(schedule.steps, schedule.left)
        if schedule.measured and not self._announced:
            self._announced = True
            self._progress.note(
                f"about {schedule.steps - step:,} steps more, in {duration(schedule.left)}"
            )

    def _view(self, state: State) -> View:
        schedule, samples = self._schedule, self._run.path / "samples"
        return View(
            state=state,
            step=self._step,
            steps=schedule.steps,
            seconds=schedule.seconds,
            left=schedule.left,
            facts=self._facts,
            sheets={int(path.stem): path for path in sorted(samples.glob("*.png"))},
        )

    def _sample(self) -> None:
        """Shows what the checkpoint can do; draws the loss curve. Never ends a run."""
        if self._accelerator.is_main_process:
            device = str(self._accelerator.device)
            samples = self._run.path / "samples"
            try:
                sheet = self._recipe.sheet(self._run.checkpoint, device)
                samples.mkdir(exist_ok=True)
                sheet.save(samples / f"{self._step:07}.png")
            except Exception as error:  # noqa: BLE001 - hours of training are worth more
                self._progress.note(f"no sheet of step {self._step}: {error}")
            self._schedule.shown()
        self._accelerator.wait_for_everyone()


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Holds the signals that end a process back while a step runs. Yields those that came.

    Only a process's main thread can; in another one, as of Ray Train, whoever started it ends it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

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
