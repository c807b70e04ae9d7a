"""How the encoder of the figures learns: which symbol is this, in whichever style?

Every symbol is a class, its pictures in both styles and all skin tones are its examples. They are
shifted, turned and scaled, but never blurred or made noisy: what is blurred shall look different.
Held-out pictures stay out, and tell how well what was learned carries over.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import resolve_dtype
from model.data.emoji import Emoji, read_pictures, read_records, select
from model.evaluation.encoder import FEATURES, TOGETHER, Encoder, values
from model.evaluation.share import Share
from model.optimizer import OptimizerConfig

SHARPNESS = 16.0  # cosines of −1…1 become logits of −16…16


@dataclass(frozen=True, slots=True)
class EncoderTraining:
    """One run."""

    steps: int = 4000
    batch: int = 96
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(2e-3, warmup_steps=50, cooldown=0.7)
    )
    seed: int = 0


def train_encoder(
    folders: Sequence[Path],
    training: EncoderTraining,
    on_step: Callable[[float], None] = lambda loss: None,
) -> Encoder:
    """Raises ``DataError``. The same data and training give the same encoder on one machine."""
    records = select(read_records(folders), "train")
    pictures = _pictures(records)
    symbols: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        symbols[record.base].append(index)
    groups = list(symbols.values())
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        encoder = Encoder()
        names = nn.Parameter(torch.randn(len(groups), FEATURES))
        optimizer = torch.optim.AdamW([*encoder.parameters(), names], fused=True)
        bf16 = resolve_dtype("auto", "cpu") == "bf16"
        for step in range(training.steps):
            draw = random.Random(f"{training.seed}/{step}")
            classes = [draw.randrange(len(groups)) for _ in range(training.batch)]
            chosen = pictures[[draw.choice(groups[each]) for each in classes]]
            for group in optimizer.param_groups:
                group["lr"] = training.optimizer.rate(step, training.steps)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                features = encoder(moved(chosen.float() / 127.5 - 1))
            cosines = F.normalize(features.float()) @ F.normalize(names).T
            loss = F.cross_entropy(SHARPNESS * cosines, torch.tensor(classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step(loss.item())
    return encoder.eval().requires_grad_(False)


def twins_found(encoder: Encoder, folders: Sequence[Path]) -> Share | None:
    """Of held-out pictures: is the nearest one in the other style the same symbol's?

    Chance is one in over a thousand. None where no picture is held out by its style.
    """
    records = read_records(folders)
    unseen = [each for each in select(records, "held-out style") if not each.toned]
    if not unseen:
        return None
    others = [each for each in records if each.style != unseen[0].style and not each.toned]
    with torch.inference_mode():
        cosines = _features(encoder, unseen) @ _features(encoder, others).T
    nearest = cosines.argmax(1).tolist()
    pairs = zip(unseen, nearest, strict=True)
    return Share(sum(each.base == others[place].base for each, place in pairs), len(unseen))


def moved(pictures: Tensor) -> Tensor:
    """[B, 3, S, S], each turned, scaled and shifted a little; what comes in is white."""
    count = len(pictures)
    turn = (torch.rand(count) - 0.5) * (math.pi / 9)
    scale = 1 + (torch.rand(count) - 0.5) * 0.4
    shift = (torch.rand(count, 2) - 0.5) * 0.25
    cos, sin = turn.cos() * scale, turn.sin() * scale
    matrix = torch.stack((cos, -sin, shift[:, 0], sin, cos, shift[:, 1]), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures - 1, grid, align_corners=False) + 1


def _pictures(records: Sequence[Emoji]) -> Tensor:
    """uint8 [N, 3, 64, 64], on white."""
    return torch.from_numpy(np.stack([values(picture) for picture in read_pictures(records)]))


def _features(encoder: Encoder, records: Sequence[Emoji]) -> Tensor:
    """[N, 128], of length 1."""
    parts = [encoder(part.float() / 127.5 - 1) for part in _pictures(records).split(TOGETHER)]
    return F.normalize(torch.cat(parts))
