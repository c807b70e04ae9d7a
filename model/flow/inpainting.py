"""What a row knows of its image beforehand, and how every prediction is made to agree with it.

Zero-shot restoration: the network was trained for none of this. A known part y = A x of the clean
image x corrects each prediction to x̂ + A⁺(y − A x̂), the nearest image that agrees with y
(DDNM, Wang et al. 2022, equation 13). On the flow's straight line from noise to image a known
pixel then is, at every time, that pixel blended with the row's own noise, which is what
inpainting by re-noising does (RePaint, Lugmayr et al. 2022, equation 8).

Values are those of the network: premultiplied, −1…1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.request import ImageRequest, Picture, Source
from model.runtime.pixels import to_values

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue add to brightness (ITU-R BT.601, as in Pillow's "L")."""

LEAST_NOISE = 0.01
"""Nearer to the image than this, a time cannot be told from 1, where the line ends."""

ROUNDS = 4
"""Of correcting a prediction and bounding it; more bring no better image."""

MAD = 0.6745
"""The median of |n| for n ~ N(0, 1)."""


class Known(Protocol):
    """Something known of the clean image."""

    def correct(self, predicted: Tensor) -> Tensor:
        """The image [C, H, W] nearest to ``predicted`` that agrees with what is known."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """``values`` [C, H, W] wherever ``kept`` [1, H, W]: A picks pixels."""

    values: Tensor
    kept: Tensor

    def correct(self, predicted: Tensor) -> Tensor:
        """See `Known`."""
        return torch.where(self.kept, self.values, predicted)


@dataclass(frozen=True, slots=True)
class Means:
    """``values`` [C, H / factor, W / factor]: A averages squares, A⁺ spreads an average evenly."""

    values: Tensor
    factor: int

    def correct(self, predicted: Tensor) -> Tensor:
        """See `Known`."""
        missing = self.values - F.avg_pool2d(predicted, self.factor)
        return predicted + _repeated(missing, self.factor)


@dataclass(frozen=True, slots=True)
class BoundedMeans:
    """`Means` of pixels that an image can have: no channel beyond −1…1, no colour beyond alpha.

    So the means outlast the rounding to an image. What is known is convex and so are the bounds: a
    few rounds of the nearest image to either come near to one that agrees with both, and what is
    left over is mixed, square by square, with an even square that agrees with both.
    """

    values: Tensor  # as of `Means`
    factor: int

    def correct(self, predicted: Tensor) -> Tensor:
        """See `Known`."""
        means = Means(self.values, self.factor)
        for _ in range(ROUNDS):
            predicted = _bounded(means.correct(predicted))
        unit = (means.correct(predicted) + 1) / 2
        known = (self.values + 1) / 2
        if len(unit) == 3:
            return self._mixed(unit, self._spread(known), torch.ones_like(unit)) * 2 - 1
        alpha = self._mixed(unit[3:], self._spread(known[3:]), torch.ones_like(unit[3:]))
        straight = (known[:3] / known[3:].clamp(min=1e-6)).clamp(max=1)
        even = self._spread(straight) * alpha  # has the known mean, as alpha has it
        colour = self._mixed(unit[:3], even, alpha.expand_as(even))
        return torch.cat((colour, alpha)) * 2 - 1

    def _mixed(self, values: Tensor, even: Tensor, most: Tensor) -> Tensor:
        """As much of ``values`` as leaves every pixel of a square in 0…``most``, and the rest of
        ``even``, which is."""
        difference = values - even
        share = torch.minimum(
            _share_within(most - even, difference), _share_within(even, -difference)
        )
        least = -F.max_pool2d(-share, self.factor)
        return even + self._spread(least) * difference

    def _spread(self, values: Tensor) -> Tensor:
        return _repeated(values, self.factor)


@dataclass(frozen=True, slots=True)
class Brightness:
    """``grey`` [1, H, W], and ``alpha`` [0 or 1, H, W]: A is their weighted sum.

    A⁺ adds the same to each of them, so that a correction changes no hue.
    """

    grey: Tensor
    alpha: Tensor

    def correct(self, predicted: Tensor) -> Tensor:
        """See `Known`."""
        colour = predicted[:3]
        return torch.cat((colour + (self.grey - brightness(colour)), self.alpha))


@dataclass(frozen=True, slots=True)
class Alpha:
    """``alpha`` [1, H, W]: A picks the last channel."""

    alpha: Tensor

    def correct(self, predicted: Tensor) -> Tensor:
        """See `Known`."""
        return torch.cat((predicted[:3], self.alpha))


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a row starts: ``latent`` [C, H, W] at ``time``, and what is known of its end."""

    latent: Tensor
    time: float = 0.0
    known: Known | None = None


def begin(request: ImageRequest, noise: Tensor, *, larger: bool = False) -> Beginning:
    """The start of a row whose own noise is ``noise`` [C, H, W].

    ``larger`` says that the image is larger than the network's, and put together of windows.
    The request must have passed `ModelSpec.check`. Raises ``ValueError`` for "describe".
    """
    source = request.source
    if source is None:
        return Beginning(noise)
    values = to_values(source.picture)
    match request.operation:
        case "vary":
            return _midway(values, noise, request.value("strength"))
        case "inpaint":
            start = _midway(values, noise, request.value("strength"))
            return replace(start, known=Pixels(values, _kept(source)))
        case "upscale":
            known = BoundedMeans if larger else Means
            factor = request.width // source.picture.width
            return Beginning(noise, known=known(values, factor))
        case "colorize":
            return Beginning(noise, known=Brightness(brightness(values[:3]), values[3:]))
        case "denoise":
            deviation = request.value("noise", -1)
            if deviation < 0:
                deviation = noise_deviation(source.picture)
            return _noisy(deviation, values, noise)
        case operation:
            raise ValueError(f"{operation} has no beginning")


def brightness(colour: Tensor) -> Tensor:
    """[3, H, W] → [1, H, W]; keeps −1…1, as the weights' sum is 1."""
    return (colour * colour.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True)


def noise_deviation(picture: Picture) -> float:
    """The deviation of white noise on an image's colours, of values 0…1, estimated.

    The filter that annuls what is locally flat or a ramp (Immerkær 1996), and the median in place
    of the mean, so that edges hardly count. What is transparent does not count at all.
    """
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(
        picture.height, picture.width, picture.channels
    )
    values = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    line = torch.tensor([1.0, -2.0, 1.0])
    response = F.conv2d(values[:3, None], torch.outer(line, line)[None, None]).abs()
    if picture.channels == 4:
        inside = -F.max_pool2d(-values[3:], 3, stride=1) > 0.5  # the least alpha of nine
        response = response[inside[None].expand_as(response)]
    if not response.numel():
        return 0.0
    return float(response.median()) / (MAD * 6)  # 6: the filter's norm


def _repeated(values: Tensor, factor: int) -> Tensor:
    """Each pixel as a square of so many a side."""
    return values.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _bounded(values: Tensor) -> Tensor:
    """The values that an image can have nearest to these, or near it where alpha bounds colour."""
    if len(values) == 3:
        return values.clamp(-1, 1)
    alpha = values[3:].clamp(-1, 1)
    return torch.cat((torch.minimum(values[:3].clamp(min=-1), alpha), alpha))


def _share_within(room: Tensor, change: Tensor) -> Tensor:
    """The most of ``change`` that does not go beyond ``room``, 0…1."""
    room = room.clamp(min=0)
    return torch.where(change > room, room / change.clamp(min=1e-9), torch.ones_like(change))


def _midway(values: Tensor, noise: Tensor, strength: float) -> Beginning:
    """On the line from noise to the image, as far from the image as ``strength`` says."""
    return Beginning(torch.lerp(values, noise, strength), 1 - strength)


def _kept(source: Source) -> Tensor:
    assert source.mask is not None
    mask = torch.frombuffer(bytearray(source.mask), dtype=torch.uint8)
    return (mask == 0).view(1, source.picture.height, source.picture.width)


def _noisy(given: float, values: Tensor, noise: Tensor) -> Beginning:
    """The time whose noise is the image's, ``given`` as the deviation of values 0…1.

    z_t = t·x + (1 − t)·ε has (1 − t) / t per value of x.

    Premultiplied colours carry noise in proportion to alpha, and alpha carries none; what is
    missing comes from the row's own noise. Alpha itself is known.
    """
    deviation = max(2 * given, LEAST_NOISE)  # values are −1…1
    time = 1 / (1 + deviation)
    if values.shape[0] == 3:
        return Beginning(time * values, time)
    alpha = (values[3:] + 1) / 2
    share = torch.cat(((1 - alpha.square()).sqrt().expand(3, -1, -1), torch.ones_like(alpha)))
    latent = time * (values + deviation * share * noise)
    return Beginning(latent, time, Alpha(values[3:]))
