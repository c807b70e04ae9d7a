"""A flow learns to read prompts in more words, with another tokenizer, without images.

A prompt encoder with a new tokenizer learns to make of every prompt for a symbol, in any language,
what the old one made of its caption. A style that the old one did not know is read as one that it
knew, until images tell them apart. One prompt costs a fifth of an image's training, and an encoding
says far more about what is wrong with it than an image's error does. What is held out of training
stays out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import WEIGHTS
from model.data.emoji import FLUENT, Emoji
from model.data.prompts import prompt_for
from model.flow.config import FlowCheckpoint
from model.flow.inheritance import EMBEDDING, respelled
from model.flow.network import FlowTransformer
from model.layers import PromptEncoder
from model.loading import read_weights, resolve_dtype, save_checkpoint
from model.tokenizer import PADDING, PromptTokenizer
from model.training.optimizer import OptimizerConfig, optimizers
from model.training.recipe import PROMPTS_A_PICTURE, load_vectors, set_vectors

ENCODER = "reader.encoder."
PROMPT_TOKENS = 24  # longer prompts are cut
BLANK = 0.03  # share of empty prompts, which keep the unconditional encoding where it was
TOGETHER = 256  # captions encoded at once


@dataclass(frozen=True, slots=True)
class Rewording:
    """How long, how fast and with which tokens.

    ``vectors`` is the folder of a tokenizer whose tokens have known vectors; without it, one of
    ``vocabulary`` tokens is trained. ``styles`` are those that the old encoder knew.
    """

    vocabulary: int = 8192
    steps: int = 360
    batch: int = 256
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(3e-3, warmup_steps=30, cooldown=0.5)
    )
    seed: int = 0
    vectors: Path | None = None
    styles: frozenset[str] = frozenset({"noto", "fluent 3d"})

    def caption(self, record: Emoji) -> str:
        """The record's, in a style that the old encoder knew."""
        like = "fluent 3d" if record.style in FLUENT else "noto"
        return f"{record.name}, {record.style if record.style in self.styles else like} style"


def reword(
    checkpoint: FlowCheckpoint,
    records: Sequence[Emoji],
    config: Rewording,
    out: Path,
    on_step: Callable[[float], None] = lambda loss: None,
) -> None:
    """Writes the checkpoint ``out``.

    ``on_step`` is called with each step's loss, relative to the encodings' variance. Raises
    `CheckpointError`.
    """
    torch.manual_seed(config.seed)
    draw = random.Random(config.seed)
    if config.vectors is None:
        vectors, tokenizer = None, _tokenizer(records, config.vocabulary, draw)
    else:
        vectors, tokenizer = load_vectors(config.vectors)
    network = FlowTransformer(checkpoint.config.network)
    weights = read_weights(checkpoint.folder / WEIGHTS, network.state_dict())
    network.load_state_dict(weights)
    captions = {"", *map(config.caption, records)}
    wanted = _encodings(network.reader.encoder.eval(), checkpoint, captions)

    text = replace(checkpoint.config.network.text, vocabulary=len(tokenizer.texts()))
    if vectors is None:
        weights = respelled(weights, checkpoint.tokenizer, tokenizer)
    else:
        text = replace(text, frozen_channels=vectors["codes"].shape[1])
        weights = {name: value for name, value in weights.items() if name != EMBEDDING}
    encoder = PromptEncoder(**asdict(text))
    known = {
        name: weights.get(f"{ENCODER}{name}", new) for name, new in encoder.state_dict().items()
    }
    encoder.load_state_dict(known)
    if vectors is not None:
        set_vectors(encoder, vectors)
    _learn(encoder, tokenizer, records, wanted, config, draw, on_step)

    learned = {f"{ENCODER}{name}": value for name, value in encoder.state_dict().items()}
    network_config = replace(checkpoint.config.network, text=text)
    changed = checkpoint.config.model_copy(update={"network": network_config})
    save_checkpoint(out, changed, {**weights, **learned}, tokenizer)


def _learn(
    encoder: PromptEncoder,
    tokenizer: PromptTokenizer,
    records: Sequence[Emoji],
    wanted: dict[str, Tensor],
    config: Rewording,
    draw: random.Random,
    on_step: Callable[[float], None],
) -> None:
    """Each step: prompts for ``batch`` records drawn evenly, towards their captions' encodings."""
    scale = torch.stack(list(wanted.values())).var(0).mean()
    both = optimizers(encoder, config.optimizer)
    for step in range(config.steps):
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = config.optimizer.rate(step, config.steps)
        chosen = [
            None if draw.random() < BLANK else draw.choice(records) for _ in range(config.batch)
        ]
        prompts = ["" if record is None else prompt_for(record, draw) for record in chosen]
        target = torch.stack([wanted["" if one is None else config.caption(one)] for one in chosen])
        with _precision():
            encoding = encoder(_tokens(tokenizer, prompts, PROMPT_TOKENS))
        loss = (encoding.float() - target).square().mean() / scale
        loss.backward()
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        on_step(float(loss.detach()))


def _tokenizer(records: Sequence[Emoji], vocabulary: int, draw: random.Random) -> PromptTokenizer:
    prompts = [prompt_for(record, draw) for record in records for _ in range(PROMPTS_A_PICTURE)]
    return PromptTokenizer.train([*(record.caption for record in records), *prompts], vocabulary)


@torch.inference_mode()
def _encodings(
    encoder: PromptEncoder, checkpoint: FlowCheckpoint, captions: Collection[str]
) -> dict[str, Tensor]:
    """What each caption is read as: [summary, width]."""
    limit = checkpoint.config.network.text.max_tokens
    ordered = sorted(captions)
    found: dict[str, Tensor] = {}
    for start in range(0, len(ordered), TOGETHER):
        some = ordered[start : start + TOGETHER]
        with _precision():
            encodings = encoder(_tokens(checkpoint.tokenizer, some, limit))
        found.update(zip(some, encodings.float(), strict=True))
    return {caption: encoding.clone() for caption, encoding in found.items()}


def _tokens(tokenizer: PromptTokenizer, prompts: Sequence[str], limit: int) -> Tensor:
    """[B, T]: as long as the longest prompt, but for what is beyond ``limit``."""
    rows = [tokens[:limit] for tokens in tokenizer.tokens_of_all(prompts)]
    length = max(map(len, rows))
    return torch.tensor(
        [row + [PADDING] * (length - len(row)) for row in rows], dtype=torch.long
    ).view(len(rows), length)


def _precision() -> torch.autocast | nullcontext[None]:
    """bf16 where this CPU multiplies it natively."""
    if resolve_dtype("auto", "cpu") == "bf16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
