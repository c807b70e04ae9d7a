"""``python -m tools.flow_on_gpu SETS… --init FLOW -o OUT``: trains a flow on one GPU, fast.

`tessera train` starts the thousand kernels of a step one by one, and makes its prompts in between:
with small batches, a fast GPU waits for it. Here a step is one CUDA graph (noise, forward and
backward pass, both optimizers, the average), and images are asked for by the numbers of their
concepts (`model.flow.concepts`), so there are no prompts to make.

A run begins with a flow that knows concepts (`tools.concept_start`) and keeps its shape, its
tokenizer, its captions and what reads prompts, which `tools.concept_reader` trains. It cannot be
resumed. Its checkpoint is written every few minutes and at the end. On a CPU, which takes hundreds
of times as long, it can go on with a flow that draws well already.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from app.cli.console import UserError, one_line_errors, output
from app.cli.evaluation import evaluating
from model.checkpoint import save_captions
from model.data import load
from model.data.emoji import Emoji, read_records, select
from model.data.pictures import PictureFormat, PictureSet
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.flow.training import FlowTraining
from model.layers import Attention, rotate
from model.training.optimizer import Average, OptimizerConfig, split
from tools.concept_flow import load_network, open_knowing, save_knowing
from tools.graphed import BLOCK, GraphedSteps, train

NO_PROMPT = FlowTraining().prompt_dropout
STYLE_ALONE = 0.02
NO_STYLE = 0.12
"""Shares of images that are asked for by nothing, by their style alone, and without their style."""

SETTLED = 10**9
"""A step at which the average has its whole decay: the run begins with trained weights."""


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


class FlowSteps(GraphedSteps):
    """Those of a network and of the average of its weights.

    The prompt encoder and the keys that it is compared with are not trained.
    """

    def __init__(
        self,
        network: FlowTransformer,
        images: Tensor,
        *,
        batch: int,
        average: float,
        compiled: bool,
    ) -> None:
        """``images`` are bytes [N, C, H, W], on the device of the network, which knows concepts."""
        assert network.reader.concepts is not None
        network.reader.encoder.requires_grad_(False)
        network.reader.concepts.keys.requires_grad_(False)
        matrices, others = ([one for one in some if one.requires_grad] for some in split(network))
        super().__init__(matrices, others, images.device)
        self._network, self._images = network, images
        self._objective = FlowObjective.for_size(network.config.image_size)
        self._rows = torch.zeros(batch, dtype=torch.int32, device=images.device)
        kinds = len(network.reader.concepts.counts)
        self._numbers = torch.zeros(batch, kinds, dtype=torch.int32, device=images.device)
        self.average = Average(network, average)
        loss = ConceptLoss(network, self._objective)
        self._loss_of = torch.compile(loss, dynamic=False) if compiled else loss
        self.capture()

    def step(self, rows: Tensor, numbers: Tensor, rate: float) -> None:
        """One step, on images by their rows [batch] and concepts [batch, kinds]."""
        self._rows.copy_(rows)
        self._numbers.copy_(numbers)
        self.run(rate)

    def loss(self) -> Tensor:
        """See `GraphedSteps.loss`."""
        image = self._images[self._rows].float() / 127.5 - 1
        times = self._objective.times(len(image), self.generator)
        with torch.autocast(image.device.type, torch.bfloat16):
            loss: Tensor = self._loss_of(image, torch.randn_like(image), times, self._numbers)
        return loss

    def _step(self) -> None:
        super()._step()
        self.average.update(self._network, SETTLED)


@dataclass(frozen=True, slots=True)
class Block:
    """What ``BLOCK`` steps are made of."""

    rows: Tensor  # int32 [BLOCK, batch], of the images
    numbers: Tensor  # int32 [BLOCK, batch, kinds], what they are asked for by

    def to(self, device: torch.device) -> Block:
        """The same on a device."""
        return Block(self.rows.to(device), self.numbers.to(device))

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and numbers of each step."""
        return zip(self.rows, self.numbers, strict=True)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draws images as `PictureSet.sample` does, and what they are asked for by."""

    parts: Sequence[tuple[PictureSet, float]]  # of one set of images, with their shares
    numbers: NDArray[np.int32]  # [images, kinds], each a `model.data.concepts.Numbers`
    batch: int
    draw: np.random.Generator

    def block(self) -> Block:
        """The next one."""
        count = BLOCK * self.batch
        draw = random.Random(int(self.draw.integers(2**62)))
        counts = self.draw.multinomial(count, [share for _, share in self.parts])
        rows = np.concatenate(
            [part.rows(n, draw) for (part, _), n in zip(self.parts, counts, strict=True)], dtype=int
        )
        self.draw.shuffle(rows)
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


def in_parts(
    data: PictureSet, records: Sequence[Emoji], synthetic: float | None
) -> Sequence[tuple[PictureSet, float]]:
    """The set, or what of it is real and what is not: then ``synthetic`` is the share of that.

    ``records`` are those of its images. Raises `UserError` where there is only one of both.
    """
    if synthetic is None:
        return [(data, 1.0)]
    groups: dict[bool, list[Sequence[int]]] = {False: [], True: []}
    for group in data.groups:
        groups[all(records[row].synthetic for row in group)].append(group)
    if not all(groups.values()):
        raise UserError(f"--synthetic {synthetic}: the sets must have real and synthetic images")
    return [
        (replace(data, groups=groups[False]), 1 - synthetic),
        (replace(data, groups=groups[True]), synthetic),
    ]


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
    synthetic: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of synthetic images, where sets have some."),
    ] = None,
    save_every: Annotated[float, typer.Option(min=0.01, help="Minutes.")] = 3.0,
    device: Annotated[str, typer.Option(help="cuda, or cpu.")] = "cuda",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
) -> None:
    """Train a flow on one GPU, with a step as one CUDA graph."""
    began = time.monotonic()
    with one_line_errors(), evaluating():
        checkpoint, concepts = open_knowing(init)
        shape, captions = checkpoint.config.network, checkpoint.captions
        with tempfile.TemporaryDirectory() as cache:
            form = PictureFormat(shape.image_size, 4 if shape.channels == 4 else 3)
            data = load(sets, form, Path(cache))
            images = torch.from_numpy(np.array(data.pictures)).to(device)
        records = select(read_records(sets), "train")  # whose images ``data`` has, in this order
        numbers = np.array([concepts.numbers(record) for record in records], np.int32)
        parts = in_parts(data, records, synthetic)
        sampling = Sampling(parts, numbers, batch, np.random.default_rng(0))
        torch.backends.cudnn.benchmark = True
        if torch.device(device).type == "cuda":  # slower on a CPU
            Attention.forward = fused_attention  # type: ignore[method-assign]
        network = load_network(checkpoint).to(device)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # 14.5 ms a step; 17.0 as [C, H, W]
                module.weight.data = module.weight.to(memory_format=torch.channels_last)
        training = FlowSteps(network, images, batch=batch, average=average, compiled=compiled)

        def save() -> None:
            state = training.average.state
            save_knowing(out, checkpoint.config, state, checkpoint.tokenizer, concepts)
            if captions:
                save_captions(out, captions)

        saved = learning_began = time.monotonic()

        def save_now_and_then(step: int, loss: float) -> str | None:
            nonlocal saved
            if time.monotonic() - saved <= 60 * save_every:
                return None
            saved = time.monotonic()
            save()
            return f"saved after {saved - learning_began:.0f} s, step {step}, loss {loss:.4f}"

        train(
            training,
            (block.to(training.device).steps() for block in iter(sampling.block, None)),
            lambda one, rate: training.step(*one, rate),
            doing="training",
            seconds=max(1.0, 60 * minutes - (time.monotonic() - began)),
            steps=steps,
            config=OptimizerConfig(learning_rate, cooldown=cooldown),
            after_block=save_now_and_then,
        )
        save()
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
