"""Training on one GPU, with a step as one CUDA graph.

With small networks a fast GPU waits for the thousand kernels of a step to be started one by one.
Captured as a graph they are started at once. On a CPU a step is done as it is written.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from app.cli.console import UserError, progress_bar
from model.training.optimizer import OptimizerConfig

T = TypeVar("T")

BLOCK = 64  # steps whose images are chosen together


@dataclass(frozen=True, slots=True)
class Muon:
    """`torch.optim.Muon` with "match_rms_adamw", for all matrices of one shape together.

    The filters of a convolution [out, in, H, W] are a matrix [out, in · H · W]. The rate is a
    tensor, which a graph reads anew in each step.
    """

    matrices: Sequence[nn.Parameter]
    momentum: Tensor  # [N, A, B]
    rate: Tensor
    weight_decay: float = 0.01

    @classmethod
    def of(
        cls, matrices: Sequence[nn.Parameter], rate: Tensor, weight_decay: float = 0.01
    ) -> list[Muon]:
        """One for each shape."""
        shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            shapes[matrix.shape].append(matrix)
        return [
            cls(
                found,
                torch.zeros(len(found), len(found[0]), found[0][0].numel(), device=rate.device),
                rate,
                weight_decay,
            )
            for found in shapes.values()
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Moves the matrices along their gradients."""
        gradient = torch.stack([_gradient(matrix).flatten(1) for matrix in self.matrices])
        self.momentum.lerp_(gradient, 0.05)
        update = _orthogonal(gradient.lerp(self.momentum, 0.95)).float()
        scale = 0.2 * math.sqrt(max(gradient.shape[1:]))
        update = (update * (self.rate * scale)).view(-1, *self.matrices[0].shape)
        torch._foreach_mul_(list(self.matrices), 1 - self.rate * self.weight_decay)
        torch._foreach_sub_(list(self.matrices), list(update.unbind()))


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _orthogonal(matrices: Tensor) -> Tensor:
    """The Newton–Schulz iteration of `torch.optim.Muon`, on [N, A, B]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


def captured(step: Callable[[], None], parameters: Sequence[nn.Parameter]) -> Callable[[], None]:
    """A step of training as one CUDA graph, to be called as the step is.

    It is done four times first, in which libraries choose their kernels: with a rate of zero.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    for parameter in parameters:
        parameter.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class GraphedSteps(ABC):
    """All that a step of training changes. On CUDA a step is a graph, captured once.

    Subclasses keep what a step is made of in tensors of their own, and call `capture` once all of
    them are there.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        device: torch.device,
        *,
        weight_decay: float = 0.01,
        others_decay: float = 0.0,
    ) -> None:
        """``matrices`` are Muon's, ``others`` are AdamW's."""
        on_gpu = device.type == "cuda"
        self.device = device
        self._parameters = [*matrices, *others]
        self._rate = torch.zeros((), device=device)
        self._muons = Muon.of(matrices, self._rate, weight_decay)
        self._adamw = torch.optim.AdamW(
            others,
            self._rate,
            (0.9, 0.99),
            weight_decay=others_decay,
            fused=True,
            capturable=on_gpu,
        )
        self._loss_sum = torch.zeros((), device=device)
        # The device's own: a graph draws other numbers from it at every replay.
        self.generator = (
            torch.cuda.default_generators[torch.cuda.current_device()]
            if on_gpu
            else torch.default_generator
        )
        self._run: Callable[[], None] = self._step

    @abstractmethod
    def loss(self) -> Tensor:
        """That of the next step: a scalar."""

    def capture(self) -> None:
        """Makes a graph of a step where there is a GPU."""
        if self.device.type == "cuda":
            self._run = captured(self._step, self._parameters)
            self.take_loss()

    def run(self, rate: float) -> None:
        """One step."""
        self._rate.fill_(rate)
        self._run()

    def take_loss(self) -> float:
        """The sum of the losses since it was last taken. Waits for the device."""
        total = float(self._loss_sum)
        self._loss_sum.zero_()
        return total

    def _step(self) -> None:
        """What the graph has. Subclasses may add to it."""
        loss = self.loss()
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        for muon in self._muons:
            muon.step()
        self._adamw.step()
        with torch.no_grad():
            self._loss_sum += loss.detach()


def train(
    training: GraphedSteps,
    blocks: Iterator[Iterable[T]],
    take: Callable[[T, float], None],
    *,
    doing: str,
    seconds: float,
    steps: int,
    config: OptimizerConfig,
    after_block: Callable[[int, float], str | None] = lambda step, loss: None,
) -> None:
    """Steps until time or ``steps`` are over. Raises `UserError` where the loss is not finite.

    ``blocks`` never end; each has what `BLOCK` steps are made of, and ``take`` does one of them at
    a learning rate. ``after_block`` is told the steps so far and the mean loss of the last ones;
    what it returns is printed.
    """
    began, step = time.monotonic(), 0
    with progress_bar("step {task.fields[step]} loss {task.fields[loss]:.4f}") as bar:
        task = bar.add_task(doing, total=1.0, step=0, loss=float("nan"))
        block = next(blocks)
        while True:
            first = step
            for one in block:
                done = max(step / steps, (time.monotonic() - began) / seconds)
                if done >= 1:
                    break
                take(one, config.rate_at(step, done))
                step += 1
            block = next(blocks)  # while the GPU computes
            loss = training.take_loss() / max(1, step - first)
            if not math.isfinite(loss):
                raise UserError(f"the loss is {loss} at step {step}; a lower --learning-rate helps")
            bar.update(task, completed=min(done, 1.0), step=step, loss=loss)
            if done >= 1:
                return
            if line := after_block(step, loss):
                bar.console.print(line, highlight=False, markup=False)
