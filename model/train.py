"""The training loop: pictures and prompts in, a checkpoint folder out.

Promises that an interrupted run continues where it was: everything random in a step comes from
the seed, the process and the step's number, so weights, optimizers and average are all there is
to keep. Several GPUs or machines run the same command under ``accelerate launch``. Knows nothing
about command lines.

A run's folder holds ``run.json`` (what was asked), ``log.jsonl``, ``loss.png``, ``samples/``,
``checkpoint/`` (what `model.checkpoint` loads) and ``resume.pt`` (what the next start needs).
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model.checkpoint import Checkpoint, CheckpointConfig, load_model, save_weights
from model.config import FlowConfig
from model.data.pictures import PictureSet
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.optimizer import Average, OptimizerConfig, optimizers
from model.protocol import RowRequest
from model.report import contact_sheet, loss_curve
from model.sampling import generate
from model.tokenizer import PADDING, PromptTokenizer


class TrainingError(Exception):
    """A run cannot start or go on. ``str()`` says why and what would help."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. ``steps`` and the two intervals may change when it is resumed, the rest may not."""

    network: FlowConfig = field(default_factory=FlowConfig)
    objective: FlowObjective = field(default_factory=FlowObjective)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 20_000
    batch: int = 128  # pictures a step, over all processes
    prompt_dropout: float = 0.1  # share of pictures trained without a prompt, for guidance
    prompt_tokens: int = 24  # longer training prompts are cut; short passes are fast
    average: float = 0.995  # decay of the weights' moving average, which is what ships
    seed: int = 0
    sample_every: int = 1000
    save_every: int = 500

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed."""
        free = ("steps", "sample_every", "save_every")
        return {key: value for key, value in asdict(self).items() if key not in free}


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with beside its configuration."""

    tokenizer: PromptTokenizer
    weights: dict[str, Tensor] | None = None  # of another checkpoint; what fits is taken over
    description: str = "a flow transformer"
    licence: str = "not stated"


class Progress(Protocol):
    """Hears how a run goes."""

    def update(self, step: int, loss: float, pictures_per_second: float) -> None:
        """Step ``step`` is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class FlowLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together."""

    def __init__(self, network: FlowTransformer, objective: FlowObjective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, picture: Tensor, noise: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        noisy = self.objective.noisy(picture, noise, time)
        return self.objective.loss(self.network(noisy, time, tokens), picture, time)


class Trainer:
    """One run in one folder, on one or many processes."""

    def __init__(
        self,
        data: PictureSet,
        config: TrainConfig,
        start: Start,
        folder: Path,
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        if config.batch % accelerator.num_processes:
            raise TrainingError(
                f"a batch of {config.batch} does not divide over "
                f"{accelerator.num_processes} processes"
            )
        self._data = data
        self._config = config
        self._start = start
        self._folder = folder
        self._accelerator = accelerator
        self._progress = progress
        self._share = config.batch // accelerator.num_processes
        torch.manual_seed(config.seed)
        self._network = FlowTransformer(config.network)
        if start.weights is not None:
            self._take_over(start.weights)
        self._optimizers = optimizers(self._network, config.optimizer)
        loss = FlowLoss(self._network, config.objective)
        self._loss, *self._optimizers = accelerator.prepare(loss, *self._optimizers)
        self._average = Average(self._network, config.average)
        self._step = self._resume()

    def run(self) -> Path:
        """Trains to the last step, or until a signal. Returns the checkpoint folder."""
        config, accelerator = self._config, self._accelerator
        with _interruptible() as interrupted:
            while self._step < config.steps and not interrupted():
                began = time.perf_counter()
                loss = self._advance()
                rate = config.batch / (time.perf_counter() - began)
                if accelerator.is_main_process:
                    self._average.update(self._network, self._step)
                    self._log(loss, rate)
                self._step += 1
                last = self._step == config.steps
                if self._step % config.save_every == 0 or last or interrupted():
                    self._save()
                if self._step % config.sample_every == 0 or last:
                    self._sample()
        if self._step < config.steps:
            self._progress.note(f"interrupted after step {self._step}; the same command goes on")
        return self._folder / "checkpoint"

    def _advance(self) -> float:
        config, rank = self._config, self._accelerator.process_index
        draw = random.Random(f"{config.seed}/{rank}/{self._step}")
        generator = torch.Generator().manual_seed(draw.getrandbits(63))
        picture, prompts = self._data.sample(self._share, draw)
        prompts = ["" if draw.random() < config.prompt_dropout else text for text in prompts]
        batch = (
            picture,
            torch.randn(picture.shape, generator=generator),
            config.objective.times(self._share, generator),
            self._tokens(prompts),
        )
        rate = config.optimizer.rate(self._step, config.steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = self._loss(*(part.to(self._accelerator.device) for part in batch))
        self._accelerator.backward(loss)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        value = float(self._accelerator.reduce(loss.detach(), reduction="mean"))
        if value != value:
            raise TrainingError(
                f"the loss is not a number at step {self._step}; "
                f"a lower learning rate than {config.optimizer.learning_rate} may help"
            )
        return value

    def _tokens(self, prompts: Sequence[str]) -> Tensor:
        """[B, prompt_tokens]; a prompt that is longer is cut."""
        length, tokenizer = self._config.prompt_tokens, self._start.tokenizer
        rows = [tokenizer.tokens(prompt)[:length] for prompt in prompts]
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])

    def _take_over(self, weights: dict[str, Tensor]) -> None:
        """Starts from another network's weights; what has another shape starts anew."""
        own = self._network.state_dict()
        fits = {key: value for key, value in weights.items() if _fits(own, key, value)}
        self._network.load_state_dict(fits, strict=False)
        fresh = [key for key in own if key not in fits]
        self._progress.note(
            f"took over {len(fits)} of {len(own)} tensors; "
            f"starting anew: {', '.join(fresh) or 'none'}"
        )

    def _resume(self) -> int:
        """Loads ``resume.pt`` where there is one. Returns the steps already done."""
        path = self._folder / "resume.pt"
        if not path.exists():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        asked, had = self._config.fixed(), json.loads(state["config"])
        changed = [key for key in asked if json.loads(json.dumps(asked[key])) != had.get(key)]
        if changed:
            raise TrainingError(
                f"{self._folder} holds a run with another {', '.join(changed)}; "
                "give the same values to go on, or another --out to begin anew"
            )
        self._network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["average"].items():
            self._average.state[name].copy_(value)
        step = int(state["step"])
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
                "config": json.dumps(self._config.fixed()),
                "network": self._network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
                "average": self._average.state,
            }
            part = self._folder / "resume.part"
            torch.save(state, part)
            part.replace(self._folder / "resume.pt")
            folder = self._folder / "checkpoint"
            folder.mkdir(exist_ok=True)
            config = CheckpointConfig(
                family="flow",
                description=self._start.description,
                licence=self._start.licence,
                network=self._config.network,
            )
            (folder / "config.json").write_text(
                config.model_dump_json(indent=2) + "\n", encoding="utf-8"
            )
            save_weights(folder / "model.safetensors", self._average.state)
            self._start.tokenizer.save(folder / "tokenizer.json")
        self._accelerator.wait_for_everyone()

    def _log(self, loss: float, rate: float) -> None:
        line = {
            "step": self._step + 1,
            "loss": round(loss, 5),
            "pictures_per_second": round(rate, 1),
        }
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._progress.update(self._step + 1, loss, rate)

    def _sample(self) -> None:
        """Draws the same prompts with the averaged weights; renews the loss curve."""
        if self._accelerator.is_main_process:
            rows = sample_rows(self._data, 16)
            captions = [self._data.captions[row] for row in rows]
            checkpoint = Checkpoint.open(self._folder / "checkpoint")
            device = str(self._accelerator.device)
            model = load_model(checkpoint, device=device, dtype="auto", tile=32)
            requests = [RowRequest(text, seed, 20, 2.0) for seed, text in enumerate(captions)]
            (self._folder / "samples").mkdir(exist_ok=True)
            contact_sheet(list(generate(model, requests)), captions).save(
                self._folder / "samples" / f"{self._step:07}.png"
            )
            loss_curve(self._folder / "log.jsonl", self._folder / "loss.png")
        self._accelerator.wait_for_everyone()


def sample_rows(data: PictureSet, count: int) -> list[int]:
    """Rows to look at: the same for every run on this data, spread over its groups."""
    groups = random.Random(0).sample(data.groups, min(count, len(data.groups)))
    return [group[0] for group in groups]


def _fits(own: dict[str, Tensor], name: str, value: Tensor) -> bool:
    return name in own and own[name].shape == value.shape


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Holds SIGINT and SIGTERM back while a step runs; the answer tells whether one came."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
