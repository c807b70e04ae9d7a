"""``python -m tools.concept_reader FLOW SETS… -o OUT``: a flow learns what prompts mean.

Its prompt encoder learns which symbol, skin tone and style each prompt of the sets asks for
(`model.flow.concepts`), by cross-entropy and without images; what it draws of them does not change.
A prompt's tokens are left out now and then, so that no single one decides.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import evaluating
from model.checkpoint import WEIGHTS, save_captions
from model.data.concepts import NOTHING, Concepts, Numbers, says_style
from model.data.emoji import Emoji, read_records, select
from model.data.prompts import prompt_for
from model.flow.config import FlowCheckpoint
from model.flow.network import FlowTransformer, PromptReader
from model.loading import load_weights, save_checkpoint
from model.registry import open_checkpoint
from model.tokenizer import PADDING, PromptTokenizer
from model.training.optimizer import Average, OptimizerConfig, optimizers

TOKENS = 24  # of a prompt; longer ones are cut
NO_PROMPT, STYLE_ALONE = 0.005, 0.01
LEFT_OUT = 0.1
"""Share of tokens that are left out in half of the prompts."""
PREFERRED = ("fluent 3d", "noto", "twemoji")
"""A prompt without a style is read as the first of these that the symbol was trained in."""
SHARPNESS = 4.0
"""Logits are that many times as large once trained: what is drawn of a prompt that may mean two
symbols is one of them, not their mean."""
TONED = 0.35
"""A symbol with n images is drawn n to this power times as often as one with one."""


@dataclass(frozen=True, slots=True)
class Block:
    """Prompts and what they mean."""

    tokens: NDArray[np.int32]  # [N, T], padded
    numbers: NDArray[np.int32]  # [N, kinds]


@dataclass(frozen=True)
class Sampling:
    """Draws prompts, each symbol as often as the next."""

    groups: Sequence[Sequence[Emoji]]  # by symbol
    styles: Mapping[str, int]  # of each symbol, for prompts that name none
    concepts: Concepts
    tokenizer: PromptTokenizer

    @classmethod
    def of(
        cls, records: Sequence[Emoji], concepts: Concepts, tokenizer: PromptTokenizer
    ) -> Sampling:
        """Of all prompts of the records."""
        groups: dict[str, list[Emoji]] = defaultdict(list)
        for record in records:
            groups[record.base].append(record)
        styles = {
            symbol: concepts.numbers(min(group, key=_preference))[-1]
            for symbol, group in groups.items()
        }
        return cls(list(groups.values()), styles, concepts, tokenizer)

    def block(self, count: int, draw: random.Random) -> Block:
        """``count`` prompts."""
        weights = [len(group) ** TONED for group in self.groups]
        chosen = draw.choices(self.groups, weights, k=count)
        pairs = [self._prompt(draw.choice(group), draw) for group in chosen]
        rows = [row[:TOKENS] for row in self.tokenizer.tokens_of_all([text for text, _ in pairs])]
        tokens = [self._thinned(row, draw) for row in rows]
        padded = [row + [PADDING] * (TOKENS - len(row)) for row in tokens]
        numbers = [known for _, known in pairs]
        return Block(np.array(padded, np.int32), np.array(numbers, np.int32))

    def captions(self) -> list[str]:
        """One for each symbol, without skin tone and in the style that it is drawn in by itself."""
        plain = ([r for r in group if not r.toned] or group for group in self.groups)
        return [min(group, key=_preference).caption for group in plain]

    def _prompt(self, record: Emoji, draw: random.Random) -> tuple[str, Numbers]:
        kind = draw.random()
        symbol, tone, style = self.concepts.numbers(record)
        if kind < NO_PROMPT:
            return "", NOTHING
        if kind < NO_PROMPT + STYLE_ALONE:
            said = (f"{record.style} style", record.chinese_style, record.style)
            return draw.choice(said), (0, 0, style)
        text = prompt_for(record, draw)
        return text, (symbol, tone, style if says_style(text, record) else self.styles[record.base])

    @staticmethod
    def _thinned(row: list[int], draw: random.Random) -> list[int]:
        if len(row) < 2 or draw.random() < 0.5:
            return row
        return [token for token in row if draw.random() > LEFT_OUT] or row


def _preference(record: Emoji) -> int:
    """The lower, the better its style."""
    return PREFERRED.index(record.style) if record.style in PREFERRED else len(PREFERRED)


def _fill(sampling: Sampling, count: int, seed: int, out: Any) -> None:
    """A process's life."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    draw = random.Random(seed)
    while True:
        out.put(sampling.block(count, draw))


def blocks(sampling: Sampling, count: int, processes: int) -> Iterator[Block]:
    """Without end, in an order that does not depend on the processes' speed. Forks at once."""
    context = multiprocessing.get_context("fork")
    queues: list[Any] = [context.Queue(maxsize=4) for _ in range(processes)]
    for seed, queue in enumerate(queues):
        given = (sampling, count, seed, queue)
        context.Process(target=_fill, args=given, daemon=True).start()

    def taken() -> Iterator[Block]:
        while True:
            for queue in queues:
                yield queue.get()

    return taken()


class ReaderLoss(nn.Module):
    """Cross-entropy of each kind of concept, added."""

    def __init__(self, reader: PromptReader) -> None:
        super().__init__()
        assert reader.concepts is not None
        self.encoder, self.concepts = reader.encoder, reader.concepts

    def forward(self, tokens: Tensor, numbers: Tensor) -> Tensor:
        """tokens [B, T], numbers [B, kinds] → a scalar."""
        logits = self.concepts.logits(self.encoder(tokens))
        losses = [
            F.cross_entropy(one, wanted)
            for one, wanted in zip(logits, numbers.long().unbind(1), strict=True)
        ]
        return torch.stack(losses).sum()


def main(
    flow: Annotated[Path, typer.Argument(help="A flow that knows concepts.")],
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets, and a folder with words.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new checkpoint.")],
    minutes: Annotated[float, typer.Option(min=0, help="After which it ends.")] = 30.0,
    steps: Annotated[int, typer.Option(min=1, help="The most that are done.")] = 10**9,
    batch: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    average: Annotated[float, typer.Option(min=0, max=1, help="Decay of the average.")] = 0.999,
    processes: Annotated[int, typer.Option(min=1, help="That make prompts.")] = 1,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cpu",
) -> None:
    """Teach a flow's prompt encoder what prompts mean."""
    with one_line_errors(), evaluating():
        checkpoint = open_checkpoint(flow)
        if not isinstance(checkpoint, FlowCheckpoint) or not checkpoint.config.network.concepts:
            raise UserError(f"{flow}: is no flow that knows concepts (tools.concept_start)")
        torch.manual_seed(0)
        concepts = Concepts.load(checkpoint.folder)
        records = select(read_records(sets), "train")
        sampling = Sampling.of(records, concepts, checkpoint.tokenizer)
        made = blocks(sampling, batch, processes)  # before CUDA is begun
        network = FlowTransformer(checkpoint.config.network)
        network.load_state_dict(load_weights(checkpoint.folder / WEIGHTS))
        loss = ReaderLoss(network.reader).to(device)
        for name, parameter in loss.named_parameters():
            parameter.requires_grad_(name == "concepts.keys" or name.startswith("encoder."))
        averaged = Average(loss, average)
        _learn(loss, averaged, made, 60 * minutes, steps, OptimizerConfig(learning_rate))
        averaged.state["concepts.keys"] *= SHARPNESS
        trained = {f"reader.{name}": value.cpu() for name, value in averaged.state.items()}
        state = {**network.state_dict(), **trained}
        save_checkpoint(out, checkpoint.config, state, checkpoint.tokenizer)
        concepts.save(out)
        save_captions(out, sampling.captions())
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


def _learn(
    loss: ReaderLoss,
    average: Average,
    made: Iterator[Block],
    seconds: float,
    steps: int,
    config: OptimizerConfig,
) -> None:
    device = loss.concepts.keys.device
    config = replace(config, cooldown=0.5)
    both = optimizers(loss, config)
    began, step, done, total = time.monotonic(), 0, 0.0, 0.0
    with progress_bar("step {task.fields[step]} loss {task.fields[loss]:.4f}") as bar:
        task = bar.add_task("learning prompts", total=1.0, step=0, loss=float("nan"))
        for block in made:
            done = max(step / steps, (time.monotonic() - began) / seconds)
            if done >= 1:
                return
            for optimizer in both:
                for group in optimizer.param_groups:
                    group["lr"] = config.rate(step, max(step + 1, round(step / max(done, 1e-9))))
            tokens, numbers = torch.from_numpy(block.tokens), torch.from_numpy(block.numbers)
            with torch.autocast(device.type, torch.bfloat16):
                one = loss(tokens.to(device), numbers.to(device))
            one.backward()
            for optimizer in both:
                optimizer.step()
                optimizer.zero_grad()
            average.update(loss, step)
            step += 1
            total += one.detach()
            if step % 50 == 0:
                bar.update(task, completed=min(done, 1.0), step=step, loss=float(total) / 50)
                total = 0.0


if __name__ == "__main__":
    typer.run(main)
