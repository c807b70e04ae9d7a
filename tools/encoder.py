"""``python -m tools.encoder DATA…``: trains the encoder in whose features sets are compared.

Every symbol is a class, its images in both styles and all skin tones are its examples. They are
shifted, turned and scaled, but never blurred or made noisy: a blurred image has to look different.
Held-out images stay out, and show how well the features carry over.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from app.cli.console import one_line_errors, output, progress_bar
from app.cli.evaluation import Data, evaluating
from model.data.emoji import Emoji, read_pictures, read_records, select
from model.evaluation.metrics import (
    FEATURES,
    SHIPPED_ENCODER,
    TOGETHER,
    Encoder,
    save_encoder,
    to_encoder_size,
    values,
)
from model.evaluation.report import Share
from model.loading import resolve_dtype
from model.training.optimizer import OptimizerConfig

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
    images = _stack(records)
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
            chosen = images[[draw.choice(groups[number]) for number in classes]]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                features = encoder(moved(to_encoder_size(chosen)))
            cosines = F.normalize(features.float()) @ F.normalize(names).T
            loss = F.cross_entropy(SHARPNESS * cosines, torch.tensor(classes))
            for group in optimizer.param_groups:
                group["lr"] = training.optimizer.rate(step, training.steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step(loss.item())
    return encoder.eval().requires_grad_(False)


def counterparts_found(encoder: Encoder, folders: Sequence[Path]) -> Share | None:
    """Of held-out images: is the nearest one in the other style the same symbol's?

    Chance is one in over a thousand. None where no image is held out by its style.
    """
    records = read_records(folders)
    unseen = [r for r in select(records, "held-out style") if not r.toned]
    if not unseen:
        return None
    others = [r for r in records if r.style != unseen[0].style and not r.toned]
    with torch.inference_mode():
        cosines = _features(encoder, unseen) @ _features(encoder, others).T
    nearest = cosines.argmax(1).tolist()
    pairs = zip(unseen, nearest, strict=True)
    return Share(sum(r.base == others[index].base for r, index in pairs), len(unseen))


def moved(images: Tensor) -> Tensor:
    """[B, 3, S, S], each turned, scaled and shifted a little; what comes in is white."""
    count = len(images)
    turn = (torch.rand(count) - 0.5) * (math.pi / 9)
    scale = 1 + (torch.rand(count) - 0.5) * 0.4
    shift = (torch.rand(count, 2) - 0.5) * 0.25
    cos, sin = turn.cos() * scale, turn.sin() * scale
    matrix = torch.stack((cos, -sin, shift[:, 0], sin, cos, shift[:, 1]), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid, align_corners=False) + 1


def _stack(records: Sequence[Emoji]) -> Tensor:
    """uint8 [N, 3, 64, 64], on white."""
    return torch.from_numpy(np.stack([values(image) for image in read_pictures(records)]))


def _features(encoder: Encoder, records: Sequence[Emoji]) -> Tensor:
    """[N, 128], of length 1."""
    parts = [encoder(to_encoder_size(part)) for part in _stack(records).split(TOGETHER)]
    return F.normalize(torch.cat(parts))


def main(
    data: Data,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The safetensors file; the default is what ships.")
    ] = SHIPPED_ENCODER,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 4000,
) -> None:
    """Train the encoder in whose features sets of images are compared."""
    with one_line_errors(), evaluating():
        with progress_bar("loss {task.fields[loss]:.3f}") as bar:
            task = bar.add_task("training", total=steps, loss=float("nan"))
            trained = train_encoder(
                data,
                EncoderTraining(steps),
                lambda loss: bar.update(task, advance=1, loss=loss),
            )
        found = counterparts_found(trained, data)
        save_encoder(trained, out)
        if found is not None:
            output.print(f"held-out images whose nearest is their counterpart: {found}")
        output.print(str(out), highlight=False)


if __name__ == "__main__":
    typer.run(main)
