"""A first guess at the images that are to be drawn: what like symbols look like in a style.

Symbols are alike where their images in other styles are. The guess is a kernel ridge regression
(Saunders, Gammerman and Vovk 1998) from these to the style's images, pixel by pixel: blurred, but
there at once, while a network needs hundreds of thousands of images to see as much. A network that
is to learn from guesses must see them as bad as they will be: images of a style are guessed from
symbols of the other folds only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.counterparts.symbols import Symbols

FOLDS = 5

WIDTH = 0.15
"""Of the kernel, as a share of the median squared distance of a style's images."""

LINEAR = 0.1
"""Share of a linear kernel beside it."""

RIDGE = 0.05


@dataclass(frozen=True, slots=True)
class Guesses:
    """Images of symbols in styles."""

    images: Tensor  # bytes [M, C, H, W]
    rows: Tensor  # [codepoints, styles]: the guess's row, or −1

    def of(self, pairs: Tensor, size: int) -> Tensor:
        """Those of pairs [B, 2], [B, C, size, size] in 0…1. All must be there."""
        index, style = pairs.unbind(1)
        found = self.images[self.rows[index, style]].float() / 255
        return F.interpolate(found, size=(size, size), mode="nearest")


def guess(images: Tensor, symbols: Symbols, wanted: Tensor) -> Guesses:
    """Of what can be learned, and of pairs [N, 2] that are wanted.

    ``images`` are bytes [N, C, H, W] in the order of the symbols' records. Something of each symbol
    is to be seen in another style, and something of each style that is wanted can be learned.
    """
    device = images.device
    small = images.float() / 255
    known = symbols.rows.to(device)
    kernels = [_kernel(small, rows) for rows in known.T]
    folds = torch.tensor([zlib.crc32(base.encode()) % FOLDS for base in symbols.bases])
    rows = torch.full_like(known, -1)
    found: list[Tensor] = []
    count = 0
    pairs = symbols.pairs()
    for style in range(len(symbols.styles)):
        learned, lacking = (every[every[:, 1] == style, 0].to(device) for every in (pairs, wanted))
        if not len(learned):
            continue
        alike = _alike(kernels, symbols, style)
        truth = small[known[learned, style]].flatten(1)
        for shown, asked in _splits(learned, lacking, folds.to(device)):
            if not len(asked):
                continue
            guesses = _regression(alike, learned[shown], truth[shown], asked)
            found.append((guesses.clamp(0, 1) * 255).round().byte())
            rows[asked, style] = torch.arange(count, count + len(asked), device=device)
            count += len(asked)
    return Guesses(torch.cat(found).view(-1, *small.shape[1:]), rows)


def _splits(learned: Tensor, lacking: Tensor, folds: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Which of ``learned`` are seen [bool], and the symbols that are guessed from them."""
    fold = folds[learned]
    for one in range(FOLDS):
        yield fold != one, learned[fold == one]
    yield torch.ones_like(learned, dtype=torch.bool), lacking


def _kernel(images: Tensor, rows: Tensor) -> Tensor:
    """How like symbols are by their images in one style, ``rows`` [codepoints], −1 for none.

    [codepoints, codepoints], zeros where there is no image.
    """
    there = torch.nonzero(rows >= 0)[:, 0]
    some = images[rows[there]]
    halved, coarse = F.avg_pool2d(some, 2).flatten(1), F.avg_pool2d(some, 4).flatten(1)
    features = torch.cat((halved, 2 * coarse), dim=1)
    features = features - features.mean(0)
    distance = torch.cdist(features, features).square()
    linear = features @ features.T
    linear = linear / linear.diagonal().mean().clamp(min=1e-6)
    near = torch.exp(-distance / (WIDTH * distance.median()).clamp(min=1e-6))
    kernel = torch.zeros(len(rows), len(rows), device=images.device)
    kernel[there[:, None], there] = (1 - LINEAR) * near + LINEAR * linear
    return kernel


def _alike(kernels: list[Tensor], symbols: Symbols, style: int) -> Tensor:
    """How like symbols are by all styles but one: the mean over those in which both can be seen."""
    others = symbols.others(style)
    total = torch.stack([kernels[other] for other in others]).sum(0)
    seen = (symbols.rows[:, others] >= 0).sum(1).clamp(min=1).to(total)
    return total / (seen[:, None] * seen).sqrt()


def _regression(alike: Tensor, learned: Tensor, truth: Tensor, asked: Tensor) -> Tensor:
    """Symbols [A] from those of ``learned`` [L], whose images are ``truth`` [L, P] → [A, P]."""
    mean = truth.mean(0)
    among = alike[learned[:, None], learned]
    among.diagonal().add_(RIDGE)
    return mean + alike[asked[:, None], learned] @ torch.linalg.solve(among, truth - mean)
