"""``python -m tools.concept_reader FLOW SETS… -o OUT``: a flow learns what prompts mean.

Its prompt encoder learns which symbol, skin tone and style each prompt of the sets asks for
(`model.flow.concepts`), by cross-entropy and without images; what it draws of them does not change.
A prompt's tokens are left out now and then, so that no single one decides.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from app.cli.training import SPOKEN
from model.checkpoint import save_captions
from model.data.concepts import NOTHING, Concepts, Numbers, says_style
from model.data.emoji import Emoji, read_records, select
from model.data.pictures import CROWD
from model.data.prompts import prompt_for, prompt_of_meaning
from model.flow.network import PromptReader
from model.flow.training import FlowTraining
from model.loading import resolve_dtype
from model.tokenizer import PADDING, PromptTokenizer
from model.training.optimizer import Average, OptimizerConfig, optimizers
from tools.concept_flow import load_network, open_knowing, save_knowing

TOKENS = FlowTraining().prompt_tokens

NO_PROMPT, STYLE_ALONE = 0.005, 0.01
"""Shares of prompts that are empty, and that are a style's name."""

MEANINGS = 0.15
"""Share of prompts that are one of the words that mean a symbol by themselves, each as often as any
other: a symbol that has many would else say each of them seldom."""

WHOLE, LEFT_OUT = 0.5, 0.1
"""Share of prompts of which no token is left out, and the share that is left out of the others."""

PREFERRED = ("fluent 3d", "noto", "twemoji")
"""A prompt without a style is read as the first of these that the symbol was trained in."""

SHARPNESS = 4.0
"""Keys are that many times as large as they were trained, and so are logits: what is drawn of a
prompt that may mean two symbols is one of them, not their mean."""

SHOWN = 50  # steps between two losses


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts and what they mean."""

    tokens: NDArray[np.int32]  # [B, TOKENS], padded
    numbers: NDArray[np.int32]  # [B, kinds], each a `model.data.concepts.Numbers`


@dataclass(frozen=True)
class PromptSampling:
    """Draws prompts; how often a symbol with many images is drawn, is as in `PictureSet.rows`."""

    groups: Sequence[Sequence[Emoji]]  # by symbol
    weights: Sequence[float]  # of each group
    meanings: Sequence[tuple[str, Emoji]]  # each with an image of its symbol without a tone
    styles: Mapping[str, int]  # of each symbol, for prompts that name none
    concepts: Concepts
    tokenizer: PromptTokenizer

    @classmethod
    def of(
        cls, records: Sequence[Emoji], concepts: Concepts, tokenizer: PromptTokenizer
    ) -> PromptSampling:
        """All prompts of the records. Raises ``DataError`` for one of unknown concepts."""
        groups: dict[str, list[Emoji]] = defaultdict(list)
        for record in records:
            concepts.numbers(record)
            groups[record.base].append(record)
        styles = {
            symbol: concepts.numbers(min(group, key=_rank)).style
            for symbol, group in groups.items()
        }
        weights = [len(group) ** CROWD for group in groups.values()]
        plain = {record.base: record for record in records if not record.toned}
        meanings = [(text, record) for record in plain.values() for text in record.meanings]
        return cls(list(groups.values()), weights, meanings, styles, concepts, tokenizer)

    def batch(self, count: int, draw: random.Random) -> PromptBatch:
        """``count`` prompts; what is longer than `TOKENS` is cut."""
        chosen = draw.choices(self.groups, self.weights, k=count)
        prompts = [
            self._meant(draw)
            if self.meanings and draw.random() < MEANINGS
            else self._prompt(self._in_any_style(draw.choice(group), draw), draw)
            for group in chosen
        ]
        rows = self.tokenizer.tokens_of_all([text for text, _ in prompts])
        tokens = [thinned(row[:TOKENS], draw) for row in rows]
        padded = [row + [PADDING] * (TOKENS - len(row)) for row in tokens]
        numbers = [meant for _, meant in prompts]
        return PromptBatch(np.array(padded, np.int32), np.array(numbers, np.int32))

    def captions(self) -> list[str]:
        """One for each symbol, without skin tone and in the style that it is drawn in by itself."""
        plain = ([r for r in group if not r.toned] or group for group in self.groups)
        return [min(group, key=_rank).caption for group in plain]

    def _prompt(self, record: Emoji, draw: random.Random) -> tuple[str, Numbers]:
        kind = draw.random()
        numbers = self.concepts.numbers(record)
        if kind < NO_PROMPT:
            return "", NOTHING
        if kind < NO_PROMPT + STYLE_ALONE:
            names = (f"{record.style} style", record.chinese_style, record.style)
            return draw.choice(names), NOTHING._replace(style=numbers.style)
        return self._understood(prompt_for(record, draw), record)

    def _meant(self, draw: random.Random) -> tuple[str, Numbers]:
        text, record = draw.choice(self.meanings)
        record = self._in_any_style(record, draw)
        return self._understood(prompt_of_meaning(record, text, draw), record)

    def _in_any_style(self, record: Emoji, draw: random.Random) -> Emoji:
        """Else a prompt for a symbol in a style that has no image of it would be read as another
        symbol, one that the style has."""
        return replace(record, style=draw.choice(self.concepts.styles))

    def _understood(self, prompt: str, record: Emoji) -> tuple[str, Numbers]:
        numbers = self.concepts.numbers(record)
        if says_style(prompt, record):
            return prompt, numbers
        return prompt, numbers._replace(style=self.styles[record.base])


def _rank(record: Emoji) -> int:
    """The lower, the sooner a prompt without a style is read as its style."""
    return PREFERRED.index(record.style) if record.style in PREFERRED else len(PREFERRED)


def thinned(row: list[int], draw: random.Random) -> list[int]:
    """Without some of its tokens, but never without all."""
    if draw.random() < WHOLE:
        return row
    return [token for token in row if draw.random() >= LEFT_OUT] or row


def _fill(sampling: PromptSampling, count: int, seed: int, out: Any) -> None:
    """A process's life."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    draw = random.Random(seed)
    while True:
        out.put(sampling.batch(count, draw))


@contextmanager
def batches(
    sampling: PromptSampling, count: int, processes: int
) -> Iterator[Iterator[PromptBatch]]:
    """Without end, in an order that does not depend on the processes' speed.

    Forks at once, so it has to be entered before CUDA is begun; ends the processes afterwards.
    """
    context = multiprocessing.get_context("fork")
    queues: list[Any] = [context.Queue(maxsize=4) for _ in range(processes)]
    makers = [
        context.Process(target=_fill, args=(sampling, count, seed, queue), daemon=True)
        for seed, queue in enumerate(queues)
    ]
    for maker in makers:
        maker.start()

    def taken() -> Iterator[PromptBatch]:
        while True:
            for queue in queues:
                yield queue.get()

    try:
        yield taken()
    finally:
        for maker in makers:
            maker.terminate()
            maker.join()


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
    minutes: Annotated[float, typer.Option(min=0.01, help="After which it ends.")] = 30.0,
    steps: Annotated[int, typer.Option(min=1, help="The most that are done.")] = 10**9,
    batch: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    cooldown: Annotated[float, typer.Option(min=0, max=1, help="Share of the run.")] = 0.5,
    average: Annotated[float, typer.Option(min=0, max=1, help="Decay of the average.")] = 0.999,
    processes: Annotated[int, typer.Option(min=1, help="That make prompts.")] = 1,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cpu",
) -> None:
    """Teach a flow's prompt encoder what prompts mean."""
    with one_line_errors(), evaluating():
        checkpoint, concepts = open_knowing(flow)
        torch.manual_seed(0)
        records = select(read_records(sets), "train")
        sampling = PromptSampling.of(records, concepts, checkpoint.tokenizer)
        with batches(sampling, batch, processes) as made:
            network = load_network(checkpoint)
            loss = ReaderLoss(network.reader).to(device)
            for name, parameter in loss.named_parameters():
                parameter.requires_grad_(name == "concepts.keys" or name.startswith("encoder."))
            with torch.no_grad():
                # So that a second run begins where the first one ended.
                loss.concepts.keys.div_(SHARPNESS)
            averaged = Average(loss, average)
            config = OptimizerConfig(learning_rate, cooldown=cooldown)
            _learn(loss, averaged, made, 60 * minutes, steps, config)
        averaged.state["concepts.keys"] *= SHARPNESS
        trained = {f"reader.{name}": value.cpu() for name, value in averaged.state.items()}
        state = {**network.state_dict(), **trained}
        save_knowing(out, checkpoint.config, state, checkpoint.tokenizer, concepts)
        save_captions(out, sampling.captions())
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


def _learn(
    loss: ReaderLoss,
    average: Average,
    made: Iterator[PromptBatch],
    seconds: float,
    steps: int,
    config: OptimizerConfig,
) -> None:
    """Shows the loss on the terminal; where there is none, as a line now and then."""
    device = loss.concepts.keys.device
    bf16 = resolve_dtype("auto", device.type) == "bf16"
    both = optimizers(loss, config)
    began = spoken = time.monotonic()
    step, total, summed = 0, torch.zeros((), device=device), 0
    with progress_bar("step {task.fields[step]} loss {task.fields[loss]:.4f}") as bar:
        task = bar.add_task("learning prompts", total=1.0, step=0, loss=float("nan"))
        while True:
            done = max(step / steps, (time.monotonic() - began) / seconds)
            if summed == SHOWN or (done >= 1 and summed):
                mean, summed = float(total) / summed, 0
                total.zero_()
                if not math.isfinite(mean):
                    raise UserError(
                        f"the loss is {mean} at step {step}; a lower --learning-rate helps"
                    )
                bar.update(task, completed=min(done, 1.0), step=step, loss=mean)
                now = time.monotonic()
                if not bar.console.is_terminal and (done >= 1 or now - spoken >= SPOKEN):
                    spoken = now
                    bar.console.print(f"step {step}: loss {mean:.4f}", highlight=False)
            if done >= 1:
                return
            for optimizer in both:
                for group in optimizer.param_groups:
                    group["lr"] = config.rate_at(step, done)
            block = next(made)
            tokens, numbers = torch.from_numpy(block.tokens), torch.from_numpy(block.numbers)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                one = loss(tokens.to(device), numbers.to(device))
            one.backward()
            for optimizer in both:
                optimizer.step()
                optimizer.zero_grad()
            average.update(loss, step)
            total += one.detach()
            step, summed = step + 1, summed + 1


if __name__ == "__main__":
    typer.run(main)
