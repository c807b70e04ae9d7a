"""The smallest training there is: seconds on one core."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.checkpoint import TOKENIZER
from model.tokenizer import PromptTokenizer
from model.training.progress import ProgressReport
from model.training.recipe import VECTORS, TrainingOptions


def tiny_training(data: Path, out: Path, **changes: object) -> TrainingOptions:
    """Six steps of a narrow network, on the CPU, uncompiled; but for what is changed."""
    usual = TrainingOptions(
        family="flow",
        data=(data,),
        out=out,
        steps=6,
        batch=4,
        size=16,
        patch=4,
        width=32,
        depth=1,
        channels=4,
        learning_rate=None,
        cooldown=0.5,
        seed=0,
        init=None,
        cpu=True,
        compiled=False,
        sample_every=1000,
        save_every=1000,
        description="squares",
        license="Apache-2.0",
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def make_vectors(folder: Path, words: Sequence[str]) -> dict[str, torch.Tensor]:
    """A tokenizer of these words, whose tokens have random vectors, in ``folder``; the vectors."""
    pieces = [*((f"▁{word}", -1.0) for word in words), ("▁", -2.0)]
    tokenizer = PromptTokenizer.unigram(pieces)
    vectors = {
        "codes": torch.randint(-127, 128, (tokenizer.vocabulary, 8), dtype=torch.int8),
        "scales": torch.rand(tokenizer.vocabulary) / 127,
    }
    folder.mkdir()
    tokenizer.save(folder / TOKENIZER)
    save_file(vectors, folder / VECTORS)
    return vectors


class Listener(ProgressReport):
    """Counts steps; sends this process a signal after one of them."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.losses: list[float] = []
        self.notes: list[str] = []
        self.read: list[tuple[int, int]] = []
        self.signal: int | None = None
        self._interrupt_after = interrupt_after

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        self.losses.append(loss)
        if step == self._interrupt_after:
            signal.raise_signal(signal.SIGINT)

    def expect(self, steps: int, seconds: float) -> None:
        self.expected = (steps, seconds)

    def reading(self, done: int, total: int) -> None:
        self.read.append((done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def interrupted(self, signal: int) -> None:
        self.signal = signal
