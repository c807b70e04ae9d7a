"""Between a model's values (−1…1, colours premultiplied) and pixels (uint8, straight alpha)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.request import Picture, Source


def to_picture(values: Tensor) -> Picture:
    """[C, H, W] in −1…1 (clamped), C = 3 or 4 (premultiplied RGBA) → an image.

    Computed in fp32 on the CPU, one image at a time, so that it never depends on other rows.
    """
    unit = (values.detach().float().cpu() + 1).mul_(0.5).clamp_(0, 1)
    if unit.shape[0] == 4:
        colour, alpha = unit[:3], unit[3:]
        unseen = ~(alpha > 1 / 255)
        colour.div_(alpha.clamp(min=1 / 255)).clamp_(max=1)
        unit.masked_fill_(unseen, 0.0)
    pixels = unit.mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()
    height, width, channels = pixels.shape
    return Picture(width=width, height=height, channels=channels, pixels=pixels.numpy().tobytes())


def to_values(picture: Picture) -> Tensor:
    """An image → fp32 [C, H, W] in −1…1, premultiplied where C is 4."""
    shape = (picture.height, picture.width, picture.channels)
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(shape).transpose(2, 0, 1)
    unit = torch.from_numpy(pixels.astype(np.float32)) / 255
    if picture.channels == 4:
        unit[:3] *= unit[3:]
    return unit * 2 - 1


def blank(channels: int) -> float:
    """The value of nothing: transparent, or white where there is no transparency."""
    return -1.0 if channels == 4 else 1.0


def moved(values: Tensor, down: int, right: int) -> Tensor:
    """[C, H, W] moved by so many pixels (up and left if negative); what comes in is blank.

    The borders of most images are blank too. Raises ``RuntimeError`` beyond the whole size.
    """
    return F.pad(values, (right, -right, down, -down), value=blank(values.shape[0]))


def paste(source: Source, drawn: Picture) -> Picture:
    """``drawn`` with the pixels that the mask keeps in place, exactly as they came."""
    assert source.mask is not None
    shape = (drawn.height, drawn.width, drawn.channels)
    kept = np.frombuffer(source.mask, np.uint8).reshape(drawn.height, drawn.width, 1) == 0
    old = np.frombuffer(source.picture.pixels, np.uint8).reshape(shape)
    new = np.frombuffer(drawn.pixels, np.uint8).reshape(shape)
    return replace(drawn, pixels=np.where(kept, old, new).tobytes())
