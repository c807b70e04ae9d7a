"""What styles lack, drawn, and drawn again by a flow; and the sets that are made of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.emoji import ARCHIVE, CAPTIONS
from model.flow.config import SamplingConfig
from model.flow.network import FlowTransformer
from model.flow.solver import Trajectory
from model.runtime.pixels import to_picture
from model.runtime.smoothing import without_grain
from model.training.sheet import to_image
from tools.counterparts.network import CounterpartNetwork
from tools.counterparts.sources import CHANNELS, Sources
from tools.counterparts.symbols import Symbols

SIZE = 128
"""Pixels along a side, of the images of emoji sets."""

REDRAWN_FROM = 0.2
"""The time at which a flow begins with what was drawn."""


@torch.inference_mode()
def drawn(
    network: CounterpartNetwork, sources: Sources, pairs: Tensor, steps: int, batch: int
) -> Iterator[Tensor]:
    """The images of pairs [N, 2], each fp32 [C, 128, 128] in −1…1, on the CPU.

    Each prediction is the mean of that of the images and that of the mirrored ones.
    """
    device = sources.images.device
    generator = torch.Generator(device).manual_seed(0)
    network.eval()
    times = [(step / steps) ** 2 for step in range(steps + 1)]
    for some in pairs.to(device).split(batch):
        asked = sources.asked(some)
        mirrored = asked.distortion.clone()
        mirrored[:, 0] = 1
        image = (CHANNELS, network.shape.size, network.shape.size)
        z = torch.randn(len(some), *image, generator=generator, device=device)
        for now, then in pairwise(times):
            at = torch.full((len(some),), now, device=device)
            with torch.autocast(device.type, torch.bfloat16):
                x = network(asked.shown, asked.mask, asked.style, asked.distortion, z, at)
                other = network(
                    asked.shown.flip(-1), asked.mask, asked.style, mirrored, z.flip(-1), at
                )
            mean = (x.float() + other.flip(-1).float()) / 2
            z = mean + (z - mean) * ((1 - then) / (1 - now))
        whole = F.interpolate(z, size=(SIZE, SIZE), mode="bicubic") if image[1] < SIZE else z
        yield from whole.clamp(-1, 1).cpu()


@torch.inference_mode()
def redrawn(
    network: FlowTransformer,
    sampling: SamplingConfig,
    numbers: Tensor,
    images: Iterator[Tensor],
    batch: int,
) -> Iterator[Tensor]:
    """Images as a flow draws them from `REDRAWN_FROM` on, given and drawn as `drawn` has them.

    ``numbers`` [N, kinds] are the concepts of the images, of which there are as many.
    """
    assert network.reader.concepts is not None
    device = numbers.device
    generator = torch.Generator().manual_seed(0)
    shape = (CHANNELS, network.config.image_size, network.config.image_size)
    noise = torch.randn(shape, generator=generator).to(device)
    for some in numbers.split(batch):
        given = torch.stack([next(images) for _ in some]).to(device)
        latent = REDRAWN_FROM * given + (1 - REDRAWN_FROM) * noise
        way = Trajectory(latent, sampling.steps, 1, time=REDRAWN_FROM, spacing=sampling.spacing)
        with torch.autocast(device.type, torch.bfloat16):
            prompt = network.reader.prepared(network.reader.concepts.of_numbers(some))
        while not way.done:
            at = torch.full((len(some),), way.time, device=device)
            with torch.autocast(device.type, torch.bfloat16):
                predicted = network.denoise(way.latent, at, prompt).float()
            way.advance(predicted)
        yield from without_grain(predicted, sampling.grain).clamp(-1, 1).cpu()


def save_sets(
    out: Path, symbols: Symbols, pairs: Tensor, images: Iterator[Tensor], styles: Sequence[str]
) -> None:
    """An emoji set for each of the styles: WebP at quality 90, its records "synthetic"."""
    folders = {style: out / style.replace(" ", "_") for style in styles}
    lines: dict[str, list[str]] = {style: [] for style in styles}
    with ExitStack() as stack:
        archives = {}
        for style, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            archives[style] = stack.enter_context(zipfile.ZipFile(folder / ARCHIVE, "w"))
        for (index, place), values in zip(pairs.tolist(), images, strict=True):
            record = symbols.lacked(index, place)
            file, content = f"{record.codepoints}.webp", io.BytesIO()
            to_image(to_picture(values)).save(content, "WEBP", quality=90, method=2)
            row = {
                "file": file,
                "codepoints": record.codepoints,
                "name": record.name,
                "keywords": record.keywords,
                "skin_tone": record.tones or None,
                "base": record.base,
                "style": record.style,
                "synthetic": True,
            }
            archives[record.style].writestr(file, content.getvalue())
            lines[record.style].append(json.dumps(row, ensure_ascii=False) + "\n")
    for style, folder in folders.items():
        (folder / CAPTIONS).write_text("".join(lines[style]), encoding="utf-8")
