"""``python -m tools.counterparts SETS… -o OUT``: images that styles lack, drawn from other styles.

A symbol that was never seen in a style is drawn in it as a mean of what is known of both. Its
images in *other* styles say more: where things are, and what colours they have. Here a network
learns to draw a symbol in one style from its images in all others, mirrored, distorted and with
colours exchanged alike in all of them, so that it learns styles rather than symbols. Then it draws
what the styles lack: symbols that their sets have not, or that are held out of them. What it draws
is right more often than sharp; with ``--flow`` a flow that knows the styles draws it again, from
there on. ``OUT`` has an emoji set for each style, whose images `tools.flow_on_gpu` takes beside the
real ones.

Real images that are held out are never read.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from app.cli.console import UserError, one_line_errors, output
from app.cli.evaluation import evaluating
from model.data import load
from model.data.emoji import ARCHIVE, CAPTIONS, FLUENT, Emoji, read_records, select
from model.data.pictures import PictureFormat
from model.flow.config import SamplingConfig
from model.flow.network import FlowTransformer, time_features
from model.flow.objective import FlowObjective
from model.flow.solver import Trajectory
from model.runtime.pixels import to_picture
from model.runtime.smoothing import without_grain
from model.training.optimizer import Average, OptimizerConfig
from model.training.sheet import to_image
from tools.concept_flow import load_network, open_knowing
from tools.graphed import BLOCK, GraphedSteps, train

SIZE = 128
SHOWN_SIZE = 64
"""Pixels along a side, of what is drawn and of what is shown."""

CHANNELS: Literal[4] = 4
PLACES = 32
"""Along a side, of what the network sees as one place."""

FLUENT_HIDDEN = 0.8
"""How often other looks of the same drawing are not shown: where one is held out, all are."""

MOST_HIDDEN = 0.5
"""Of the other images each is hidden with a chance between none and this."""

FROM_NOTHING = 0.5
"""Share of the images that are drawn from noise alone: what the first step does."""

MOVED, RECOLOURED = 0.5, 0.35
"""Shares of the images that are distorted, and that have their colours exchanged."""

REDRAWN_FROM = 0.2
"""The time at which a flow begins with what was drawn."""

WIDTHS = (128, 256, 512)
"""Channels at 32, 16 and 8 places along a side."""

DISTORTIONS = 6
"""Numbers that say how an image was distorted, the first of them whether it is mirrored."""


@dataclass(frozen=True)
class Symbols:
    """Which image shows a symbol (with its skin tone) in a style."""

    records: Sequence[Emoji]  # in the order of the images
    codepoints: Sequence[str]
    styles: Sequence[str]
    rows: Tensor  # [codepoints, styles]: the image's row, or −1

    @classmethod
    def of(cls, records: Sequence[Emoji]) -> Symbols:
        """Those of one side of the hold-out."""
        codepoints = sorted({record.codepoints for record in records})
        styles = sorted({record.style for record in records})
        rows = torch.full((len(codepoints), len(styles)), -1)
        place = {each: index for index, each in enumerate(codepoints)}
        for row, record in enumerate(records):
            rows[place[record.codepoints], styles.index(record.style)] = row
        return cls(records, codepoints, styles, rows)

    @property
    def fluent(self) -> Tensor:
        """[styles]: whether it is one of Fluent's looks."""
        return torch.tensor([style in FLUENT for style in self.styles])

    def pairs(self) -> Tensor:
        """[N, 2]: symbols and styles that can be learned.

        Something of the symbol is to be seen in another style that is not the same drawing.
        """
        known = self.rows >= 0
        others = known.sum(1, keepdim=True) - known.long()
        same = (known & self.fluent).sum(1, keepdim=True) - (known & self.fluent).long()
        others = torch.where(self.fluent, others - same, others)
        return torch.nonzero(known & (others > 0))

    def weights(self, pairs: Tensor) -> Tensor:
        """[N]: how often each is learned. A symbol with six skin tones counts as two without."""
        keys = [(self._record(index).base, style) for index, style in pairs.tolist()]
        counts = Counter(keys)
        return torch.tensor([counts[key] ** -0.6 for key in keys])

    def lacking(self, styles: Sequence[str]) -> Tensor:
        """[N, 2]: symbols and those of the styles that have no image of them.

        Only of symbols that one of these styles has; and of a skin tone only where the style has
        no other of that symbol.
        """
        records = [self._record(index) for index in range(len(self.codepoints))]
        places = {self.styles.index(style) for style in styles}
        shown = {
            (records[index].base, place)
            for index, place in torch.nonzero(self.rows >= 0).tolist()
            if place in places
        }
        bases = {base for base, _ in shown}
        return torch.tensor(
            [
                (index, place)
                for index, place in torch.nonzero(self.rows < 0).tolist()
                if place in places
                and records[index].base in bases
                and ((records[index].base, place) not in shown or not records[index].toned)
            ]
        ).view(-1, 2)

    def _record(self, index: int) -> Emoji:
        return self.records[int(self.rows[index].max())]

    def lacked(self, index: int, style: int) -> Emoji:
        """The record of an image that is not there."""
        return replace(self._record(index), style=self.styles[style], duplicate_of=None)


class ResidualBlock(nn.Module):
    """Two convolutions, modulated by a condition."""

    def __init__(self, into: int, out: int, condition: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, into), nn.GroupNorm(8, out)
        self.conv_in = nn.Conv2d(into, out, 3, padding=1)
        self.conv_out = nn.Conv2d(out, out, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * out)
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, into, H, W], condition [B, condition] → [B, out, H, W]."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = F.silu(self.norm_out(hidden) * (1 + scale) + shift)
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(hidden))
        return out


@dataclass(frozen=True, slots=True)
class Asked:
    """What the network is to draw, and what it is shown for it."""

    shown: Tensor  # [B, styles, C, 64, 64] in 0…1, zeros where nothing is shown
    mask: Tensor  # [B, styles]: what is shown
    style: Tensor  # [B]
    distortion: Tensor  # [B, 6], zeros for none


class CounterpartNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015): images of a symbol, and a noisy one to be made clean.

    It is told how what it is shown was distorted (Karras et al. 2022, "Elucidating the design
    space", appendix F.2), so that what is not distorted looks as its style does.
    """

    def __init__(self, styles: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        condition = 256
        self.style = nn.Embedding(styles, condition)
        self.time = nn.Sequential(
            nn.Linear(256, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.distortion = nn.Linear(DISTORTIONS, condition)
        shown = styles * (CHANNELS * (SHOWN_SIZE // PLACES) ** 2 + 1)
        self.patch = SIZE // PLACES
        self.shown_in = nn.Conv2d(shown, widths[0], 3, padding=1)
        self.noisy_in = nn.Conv2d(CHANNELS * self.patch**2, widths[0], 3, padding=1)
        down = zip((widths[0], *widths), widths, strict=False)
        self.down = nn.ModuleList(ResidualBlock(a, b, condition) for a, b in down)
        last = widths[-1]
        self.middle = nn.ModuleList(ResidualBlock(last, last, condition) for _ in range(2))
        up = [
            (2 * last, last),
            *((a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)),
        ]
        self.up = nn.ModuleList(ResidualBlock(a, b, condition) for a, b in up)
        self.norm = nn.GroupNorm(8, widths[0])
        self.out = nn.Conv2d(widths[0], CHANNELS * self.patch**2, 3, padding=1)

    def forward(
        self,
        shown: Tensor,
        mask: Tensor,
        style: Tensor,
        distortion: Tensor,
        noisy: Tensor,
        time: Tensor,
    ) -> Tensor:
        """The fields of an `Asked`, noisy [B, C, H, W] and its time [B] → an image [B, C, H, W]."""
        places = F.pixel_unshuffle(shown.flatten(1, 2), SHOWN_SIZE // PLACES)
        seen = mask[:, :, None, None].to(places.dtype).expand(-1, -1, PLACES, PLACES)
        x = self.shown_in(torch.cat((places, seen), dim=1))
        noisy = noisy * (time > 0)[:, None, None, None]  # at first there is nothing in it
        x = x + self.noisy_in(F.pixel_unshuffle(noisy, self.patch))
        condition = F.silu(
            self.time(time_features(time, 256)) + self.style(style) + self.distortion(distortion)
        )
        kept = []
        for block in self.down:
            x = block(x, condition)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        for block in self.middle:
            x = block(x, condition)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2)
            x = block(torch.cat((x, kept.pop()), dim=1), condition)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch)


class Sources:
    """The images of symbols, on a device."""

    def __init__(self, images: Tensor, symbols: Symbols) -> None:
        """``images`` are bytes [N, C, H, W], on the device."""
        device = images.device
        self.images = images
        self._small = torch.cat(
            [
                F.avg_pool2d(some.float(), SIZE // SHOWN_SIZE).round().byte()
                for some in images.split(1024)
            ]
        )
        self._rows = symbols.rows.to(device)
        self._fluent = symbols.fluent.to(device)

    def asked(self, pairs: Tensor) -> Asked:
        """What there is to be shown for pairs [B, 2]."""
        rows = self._others(pairs)
        return self._asked(rows, rows >= 0, pairs[:, 1])

    def _others(self, pairs: Tensor) -> Tensor:
        """The rows of the symbols' images in all styles but those of the pairs: [B, styles]."""
        index, style = pairs.unbind(1)
        return self._rows[index].scatter(1, style[:, None], -1)

    def _asked(self, rows: Tensor, mask: Tensor, style: Tensor) -> Asked:
        shown = self._small[rows.clamp(min=0)].float() / 255 * mask[:, :, None, None, None]
        return Asked(shown, mask, style, torch.zeros(len(rows), DISTORTIONS, device=rows.device))

    def lesson(self, pairs: Tensor) -> tuple[Asked, Tensor]:
        """Some of it, distorted, and what is to be drawn: [B, C, H, W] in −1…1."""
        index, style = pairs.unbind(1)
        target = self.images[self._rows[index, style]].float() / 255
        rows = self._others(pairs)
        asked = self._asked(rows, self._hidden(rows >= 0, style), style)
        recolouring, numbers = _recolouring(len(pairs), pairs.device)
        moves, more = _moves(len(pairs), pairs.device)
        shown = _moved(asked.shown.flatten(1, 2), moves).view_as(asked.shown)
        shown = torch.cat((_recoloured(shown[:, :, :3], recolouring), shown[:, :, 3:]), dim=2)
        target = _moved(target, moves)
        colours = _recoloured(target[:, None, :3], recolouring)[:, 0]
        target = torch.cat((colours, target[:, 3:]), dim=1)
        distortion = torch.cat((more, numbers), dim=1)
        return replace(asked, shown=shown, distortion=distortion), target * 2 - 1

    def _hidden(self, shown: Tensor, style: Tensor) -> Tensor:
        """``shown`` [B, styles], of which some is hidden, but never all."""
        count, device = len(shown), shown.device
        same = self._fluent[style] & (torch.rand(count, device=device) < FLUENT_HIDDEN)
        left = shown & ~(same[:, None] & self._fluent)
        left = torch.where(left.any(1, keepdim=True), left, shown)
        chance = torch.rand(count, 1, device=device) * MOST_HIDDEN
        fewer = left & (torch.rand(left.shape, device=device) >= chance)
        return torch.where(fewer.any(1, keepdim=True), fewer, left)


def _recolouring(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Orders of colours as matrices [count, 3, 3], most of them the usual one, and [count, 1]."""
    order = torch.rand(count, 3, device=device).argsort(1)
    other = torch.rand(count, 1, device=device) < RECOLOURED
    usual = torch.arange(3, device=device)
    order = torch.where(other, order, usual)
    changed = (order != usual).any(1, keepdim=True)
    return torch.eye(3, device=device)[order], changed.float()


def _recoloured(colours: Tensor, orders: Tensor) -> Tensor:
    """colours [B, n, 3, H, W], orders [B, 3, 3]."""
    return torch.einsum("bkc,bnchw->bnkhw", orders, colours)


def _moves(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mirroring, turning, moving and scaling as matrices [count, 2, 3], and what it is, [count, 5].

    Mirrored is half of them, the rest ``MOVED``.
    """

    def random(deviation: float) -> Tensor:
        return torch.randn(count, device=device) * deviation * changed

    changed = (torch.rand(count, device=device) < MOVED).float()
    turn, grow, stretch, x, y = (random(each) for each in (0.12, 0.12, 0.06, 0.06, 0.06))
    scale = grow.exp()
    mirrored = (torch.rand(count, device=device) < 0.5).float()
    mirror = 1 - 2 * mirrored
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    rows = (
        torch.stack((mirror * cosine * stretch.exp(), -sine, x), dim=1),
        torch.stack((mirror * sine * stretch.exp(), cosine, y), dim=1),
    )
    numbers = torch.stack((mirrored, 8 * turn, 8 * grow, 16 * x, 16 * y), dim=1)
    return torch.stack(rows, dim=1), numbers


def _moved(images: Tensor, moves: Tensor) -> Tensor:
    """images [B, C, H, W], moves [B, 2, 3]."""
    grid = F.affine_grid(moves, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


class CounterpartSteps(GraphedSteps):
    """Those of a network and of the average of its weights."""

    def __init__(
        self,
        network: CounterpartNetwork,
        sources: Sources,
        *,
        batch: int,
        weight_decay: float,
        compiled: bool,
    ) -> None:
        ends = {network.shown_in.weight, network.noisy_in.weight, network.out.weight}
        filters = [one for one in network.parameters() if one.ndim == 4 and one not in ends]
        others = [one for one in network.parameters() if one.ndim != 4 or one in ends]
        device = sources.images.device
        super().__init__(
            filters, others, device, weight_decay=weight_decay, others_decay=weight_decay
        )
        self._network, self._sources = network, sources
        self._objective = FlowObjective.for_size(SIZE)
        self._pairs = torch.zeros(batch, 2, dtype=torch.long, device=device)
        self.average = Average(network, 0.999)
        self._done = 0
        self._drawn = torch.compile(network, dynamic=False) if compiled else network
        self.capture()

    def step(self, pairs: Tensor, rate: float) -> None:
        """One step, on pairs [batch, 2]."""
        self._pairs.copy_(pairs)
        self.run(rate)
        # Not in the graph, as its decay grows: the network begins with random weights.
        self.average.update(self._network, self._done)
        self._done += 1

    def loss(self) -> Tensor:
        """See `GraphedSteps.loss`."""
        asked, image = self._sources.lesson(self._pairs)
        count, device = len(image), image.device
        times = self._objective.times(count, self.generator)
        times = times * (torch.rand(count, device=device) >= FROM_NOTHING)
        noisy = self._objective.noisy(image, torch.randn_like(image), times)
        with torch.autocast(device.type, torch.bfloat16):
            drawn = self._drawn(
                asked.shown, asked.mask, asked.style, asked.distortion, noisy, times
            )
        return self._objective.loss(drawn, image, noisy, times)


def _blocks(pairs: Tensor, weights: Tensor, batch: int) -> Iterator[Iterator[Tensor]]:
    """Pairs [batch, 2] of each step, block by block, each as often as its weight [N] says."""
    while True:
        chosen = torch.multinomial(weights, BLOCK * batch, replacement=True)
        yield (pairs[rows] for rows in chosen.view(BLOCK, batch))


@torch.inference_mode()
def drawn(
    network: CounterpartNetwork, sources: Sources, pairs: Tensor, steps: int, batch: int
) -> Iterator[Tensor]:
    """The images of pairs [N, 2], each fp32 [C, H, W] in −1…1, on the CPU.

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
        z = torch.randn(len(some), CHANNELS, SIZE, SIZE, generator=generator, device=device)
        for now, then in pairwise(times):
            at = torch.full((len(some),), now, device=device)
            with torch.autocast(device.type, torch.bfloat16):
                x = network(asked.shown, asked.mask, asked.style, asked.distortion, z, at)
                other = network(
                    asked.shown.flip(-1), asked.mask, asked.style, mirrored, z.flip(-1), at
                )
            mean = (x.float() + other.flip(-1).float()) / 2
            z = mean + (z - mean) * ((1 - then) / (1 - now))
        yield from z.clamp(-1, 1).cpu()


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


def main(
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new sets.")],
    style: Annotated[list[str], typer.Option(help="A style to be completed; repeat it.")],
    minutes: Annotated[float, typer.Option(min=0, help="Of learning.")] = 6.0,
    steps: Annotated[int, typer.Option(min=1, help="The most that are done.")] = 10**9,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    drawing_steps: Annotated[int, typer.Option(min=1, help="With which images are drawn.")] = 1,
    flow: Annotated[Path | None, typer.Option(help="A flow that draws it all again.")] = None,
    device: Annotated[str, typer.Option(help="cuda; cpu to try it.")] = "cuda",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
) -> None:
    """Draw what styles lack from what other styles have."""
    began = time.monotonic()
    with one_line_errors(), evaluating():
        knowing = open_knowing(flow) if flow else None
        if knowing and (size := knowing[0].config.network.image_size) != SIZE:
            raise UserError(f"{flow}: draws {size} pixels along a side, {SIZE} are needed")
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        with tempfile.TemporaryDirectory() as cache:
            data = load(sets, PictureFormat(SIZE, CHANNELS), cache=Path(cache))
            images = torch.from_numpy(np.array(data.pictures)).to(device)
        symbols = Symbols.of(select(read_records(sets), "train"))
        if unknown := set(style) - set(symbols.styles):
            raise UserError(f"{unknown.pop()!r} is none of the styles: {', '.join(symbols.styles)}")
        pairs, lacking = symbols.pairs(), symbols.lacking(style)
        network = CounterpartNetwork(len(symbols.styles), WIDTHS).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        sources = Sources(images, symbols)
        config = OptimizerConfig(learning_rate, weight_decay=0.05, cooldown=0.5)
        learning = CounterpartSteps(
            network, sources, batch=batch, weight_decay=config.weight_decay, compiled=compiled
        )
        train(
            learning,
            _blocks(pairs.to(device), symbols.weights(pairs).to(device), batch),
            learning.step,
            doing="learning styles",
            seconds=max(1.0, 60 * minutes - (time.monotonic() - began)),
            steps=steps,
            config=config,
        )
        network.load_state_dict(learning.average.state)
        made = drawn(network, sources, lacking, drawing_steps, batch)
        if knowing is not None:
            checkpoint, concepts = knowing
            records = [symbols.lacked(*pair) for pair in lacking.tolist()]
            numbers = torch.tensor([concepts.numbers(record) for record in records], device=device)
            flow_network = load_network(checkpoint).eval().to(device)
            made = redrawn(flow_network, checkpoint.config.sampling, numbers, made, batch)
        save_sets(out, symbols, lacking, made, style)
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
