"""``python -m tools.flow_on_gpu SETS… --init FLOW -o OUT``: trains a flow on one GPU, fast.

`tessera train` starts the thousand kernels of a step one by one, and makes its prompts in between:
with small batches, a fast GPU waits for it. Here a step is one CUDA graph (noise, forward and
backward pass, both optimizers, the average), and images are asked for by the numbers of their
concepts (`model.flow.concepts`), so there are no prompts to make.

A run begins with a flow that knows concepts (`tools.concept_start`) and keeps its shape, its
tokenizer, and what reads prompts, which `tools.concept_reader` trains. It cannot be resumed. Its
checkpoint is written every few minutes and at the end.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import evaluating
from model.data import load
from model.data.emoji import read_records, select
from model.data.pictures import PictureFormat, PictureSet
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.flow.training import FlowTraining
from model.layers import Attention, rotate
from model.training.optimizer import Average, OptimizerConfig, split
from tools.concept_flow import load_network, open_knowing, save_knowing

BLOCK = 64  # steps whose images are chosen together

NO_PROMPT = FlowTraining().prompt_dropout
STYLE_ALONE = 0.02
NO_STYLE = 0.12
"""Shares of images that are asked for by nothing, by their style alone, and without their style."""

SETTLED = 10**9
"""A step at which the average has its whole decay: the run begins with trained weights."""


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


def fused_attention(
    self: Attention, x: Tensor, table: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`Attention.forward` in one kernel; equal but for the order of its sums."""
    batch, length, width = x.shape
    qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    query = rotate(self.query_norm(query), table)
    key = rotate(self.key_norm(key), table)
    if bias is not None:
        bias = bias[:, None].to(query.dtype).expand(-1, self.heads, length, -1)
    mixed = F.scaled_dot_product_attention(
        query, key, value.to(query.dtype), bias, scale=self.scale
    )
    out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
    return out


class ConceptLoss(nn.Module):
    """`model.flow.training.FlowLoss` of images whose concepts are known by number."""

    def __init__(self, network: FlowTransformer, objective: FlowObjective) -> None:
        super().__init__()
        assert network.reader.concepts is not None
        self.network, self.concepts = network, network.reader.concepts
        self.objective = objective

    def forward(self, image: Tensor, noise: Tensor, time: Tensor, numbers: Tensor) -> Tensor:
        """image and noise [B, C, H, W], time [B], numbers [B, kinds] → a scalar."""
        noisy = self.objective.noisy(image, noise, time)
        prompt = self.network.reader.prepared(self.concepts.of_numbers(numbers))
        return self.objective.loss(self.network.denoise(noisy, time, prompt), image, noisy, time)


class GraphedTraining:
    """A network and all that a step changes. On CUDA a step is a graph, captured once."""

    def __init__(
        self,
        network: FlowTransformer,
        images: Tensor,
        *,
        batch: int,
        average: float,
        compiled: bool,
    ) -> None:
        """``images`` are [N, C, H, W] of bytes, on the device of the network, which knows concepts.

        The prompt encoder and the keys that it is compared with are not trained.
        """
        assert network.reader.concepts is not None
        device = images.device
        self._on_gpu = device.type == "cuda"
        self._network, self._images = network, images
        self._objective = FlowObjective.for_size(network.config.image_size)
        self._rows = torch.zeros(batch, dtype=torch.int32, device=device)
        kinds = len(network.reader.concepts.counts)
        self._numbers = torch.zeros(batch, kinds, dtype=torch.int32, device=device)
        self._rate = torch.zeros((), device=device)
        network.reader.encoder.requires_grad_(False)
        network.reader.concepts.keys.requires_grad_(False)
        matrices, others = ([one for one in some if one.requires_grad] for some in split(network))
        self._parameters = [*matrices, *others]
        self._muons = Muon.of(matrices, self._rate)
        self._adamw = torch.optim.AdamW(
            others, self._rate, (0.9, 0.99), weight_decay=0.0, fused=True, capturable=self._on_gpu
        )
        self.average = Average(network, average)
        self._loss_sum = torch.zeros((), device=device)
        loss = ConceptLoss(network, self._objective)
        self._loss = torch.compile(loss, dynamic=False) if compiled else loss
        # The device's own: a graph draws other numbers from it at every replay.
        self._generator = (
            torch.cuda.default_generators[torch.cuda.current_device()]
            if self._on_gpu
            else torch.default_generator
        )
        self._run: Callable[[], None] = self._step
        if self._on_gpu:
            self._run = captured(self._step, self._parameters)
            self.take_loss()

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self._images.device

    def step(self, rows: Tensor, numbers: Tensor, rate: float) -> None:
        """One step, on images by their rows [batch] and concepts [batch, kinds]."""
        self._rows.copy_(rows)
        self._numbers.copy_(numbers)
        self._rate.fill_(rate)
        self._run()

    def take_loss(self) -> float:
        """The sum of the losses since it was last taken. Waits for the device."""
        total = float(self._loss_sum)
        self._loss_sum.zero_()
        return total

    def _step(self) -> None:
        image = self._images[self._rows].float() / 127.5 - 1
        times = self._objective.times(len(image), self._generator)
        with torch.autocast(image.device.type, torch.bfloat16):
            loss = self._loss(image, torch.randn_like(image), times, self._numbers)
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        for muon in self._muons:
            muon.step()
        self._adamw.step()
        with torch.no_grad():
            self._loss_sum += loss.detach()
        self.average.update(self._network, SETTLED)


@dataclass(frozen=True, slots=True)
class Block:
    """What ``BLOCK`` steps are made of."""

    rows: Tensor  # int32 [BLOCK, batch], of the images
    numbers: Tensor  # int32 [BLOCK, batch, kinds], what they are asked for by

    def to(self, device: torch.device) -> Block:
        """The same on a device."""
        return Block(self.rows.to(device), self.numbers.to(device))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draws images as `PictureSet.sample` does, and what they are asked for by."""

    data: PictureSet
    numbers: NDArray[np.int32]  # [images, kinds], each a `model.data.concepts.Numbers`
    batch: int
    draw: np.random.Generator

    def block(self) -> Block:
        """The next one."""
        count = BLOCK * self.batch
        rows = np.array(self.data.rows(count, random.Random(int(self.draw.integers(2**62)))))
        numbers = self.numbers[rows]
        kind = self.draw.random(count)
        numbers[kind < NO_PROMPT] = 0
        numbers[kind < NO_PROMPT + STYLE_ALONE, :-1] = 0
        numbers[kind > 1 - NO_STYLE, -1] = 0
        shape = (BLOCK, self.batch)
        return Block(
            torch.from_numpy(rows.astype(np.int32)).view(shape),
            torch.from_numpy(numbers).view(*shape, -1),
        )


def main(
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets.")],
    init: Annotated[Path, typer.Option(help="A flow that knows their concepts.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new checkpoint.")],
    minutes: Annotated[float, typer.Option(min=0, help="After which it ends.")] = 9.0,
    steps: Annotated[int, typer.Option(min=1, help="The most that are done.")] = 10**9,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    cooldown: Annotated[float, typer.Option(min=0, max=1, help="Share of the run.")] = 0.5,
    average: Annotated[float, typer.Option(min=0, max=1, help="Decay of the average.")] = 0.9995,
    save_every: Annotated[float, typer.Option(min=0.01, help="Minutes.")] = 3.0,
    device: Annotated[str, typer.Option(help="cuda; cpu to try it.")] = "cuda",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
) -> None:
    """Train a flow on one GPU, with a step as one CUDA graph."""
    began = time.monotonic()
    with one_line_errors(), evaluating():
        checkpoint, concepts = open_knowing(init)
        shape = checkpoint.config.network
        with tempfile.TemporaryDirectory() as cache:
            form = PictureFormat(shape.image_size, 4 if shape.channels == 4 else 3)
            data = load(sets, form, Path(cache))
            images = torch.from_numpy(np.array(data.pictures)).to(device)
        records = select(read_records(sets), "train")  # whose images ``data`` has, in this order
        numbers = np.array([concepts.numbers(record) for record in records], np.int32)
        sampling = Sampling(data, numbers, batch, np.random.default_rng(0))
        torch.backends.cudnn.benchmark = True
        Attention.forward = fused_attention  # type: ignore[method-assign]
        network = load_network(checkpoint).to(device)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # 14.5 ms a step; 17.0 as [C, H, W]
                module.weight.data = module.weight.to(memory_format=torch.channels_last)
        training = GraphedTraining(network, images, batch=batch, average=average, compiled=compiled)

        def save() -> None:
            state = training.average.state
            save_knowing(out, checkpoint.config, state, checkpoint.tokenizer, concepts)

        config = OptimizerConfig(learning_rate, cooldown=cooldown)
        seconds = max(1.0, 60 * minutes - (time.monotonic() - began))
        _run(training, sampling, seconds, steps, config, save, 60 * save_every)
        save()
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


def _run(
    training: GraphedTraining,
    sampling: Sampling,
    seconds: float,
    steps: int,
    config: OptimizerConfig,
    save: Callable[[], None],
    save_every: float,
) -> None:
    began, step, saved = time.monotonic(), 0, 0.0
    with progress_bar("step {task.fields[step]} loss {task.fields[loss]:.4f}") as bar:
        task = bar.add_task("training", total=1.0, step=0, loss=float("nan"))
        block = sampling.block().to(training.device)
        while True:
            first = step
            for place in range(BLOCK):
                done = max(step / steps, (time.monotonic() - began) / seconds)
                if done >= 1:
                    break
                rate = config.rate_at(step, done)
                training.step(block.rows[place], block.numbers[place], rate)
                step += 1
            block = sampling.block().to(training.device)  # while the GPU computes
            loss = training.take_loss() / max(1, step - first)
            if not math.isfinite(loss):
                raise UserError(f"the loss is {loss} at step {step}; a lower --learning-rate helps")
            bar.update(task, completed=min(done, 1.0), step=step, loss=loss)
            if done >= 1:
                return
            if time.monotonic() - began > saved + save_every:
                saved = time.monotonic() - began
                save()
                line = f"saved after {saved:.0f} s, step {step}, loss {loss:.4f}"
                bar.console.print(line, highlight=False, markup=False)


if __name__ == "__main__":
    typer.run(main)
