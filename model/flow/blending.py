"""A prediction of an image larger than the network's own, put together of windows.

MultiDiffusion (Bar-Tal et al. 2023, equation 5): of one latent each window is denoised apart, and
the nearest image to all of their predictions is, pixel by pixel, their weighted mean. Weights fall
off towards a window's edges (a sine's square), so that none of them shows.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from model.flow.windows import Size, corners

Place = tuple[slice, slice, slice]
"""What a window has of an image [C, H, W]."""


class Windows:
    """The windows of one image, in an order that is always the same, as are the sums over them.

    An image of a window's size has one, whose prediction is that of the image, bit by bit.
    """

    def __init__(self, image: Size, window: Size, at_once: int) -> None:
        """``at_once`` of them are seen in a pass. Sizes are as in `corners`."""
        width, height = window
        self._places: tuple[Place, ...] = tuple(
            (slice(None), slice(top, top + height), slice(left, left + width))
            for left, top in corners(image, window)
        )
        self._at_once = at_once
        self._seen = 0
        self._image = image
        self._weight = _weight(height, width)
        self._sum = self._weights = torch.empty(0)

    @property
    def passes(self) -> int:
        """How many it takes to see all windows."""
        return -(-len(self._places) // self._at_once)

    @property
    def passed(self) -> int:
        """How many of them are done."""
        return self._seen // self._at_once

    @property
    def next(self) -> tuple[Place, ...]:
        """Those of the next pass."""
        return self._places[self._seen : self._seen + self._at_once]

    def add(self, predicted: Tensor) -> Tensor | None:
        """Takes what was predicted for the next window [C, H, W], fp32. Once all are seen, returns
        the whole image's prediction and begins anew."""
        if len(self._places) == 1:
            return predicted
        if not self._seen:
            width, height = self._image
            self._sum = torch.zeros(predicted.shape[0], height, width)
            self._weights = torch.zeros(height, width)
        place = self._places[self._seen]
        self._sum[place].addcmul_(predicted, self._weight)
        self._weights[place[1:]].add_(self._weight)
        self._seen += 1
        if self._seen < len(self._places):
            return None
        self._seen = 0
        return self._sum.div_(self._weights)


@lru_cache(maxsize=8)
def _weight(height: int, width: int) -> Tensor:
    """Of a window's pixels, [height, width]."""
    with torch.inference_mode(False):
        return torch.outer(_bump(height), _bump(width))


def _bump(length: int) -> Tensor:
    places = (torch.arange(length, dtype=torch.float32) + 0.5) / length
    return torch.sin(math.pi * places).square()
