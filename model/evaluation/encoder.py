"""What an image looks like, in 128 numbers: for figures that compare sets of images.

The usual features are an ImageNet network's, which would have to be downloaded and knows
photographs. This encoder is small, ships with the code and was trained on one task: to classify the
symbol of an emoji in either style (``tools/encoder.py``). Figures in its features compare with each
other, not with published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.evaluation.metrics import Floats, flat
from model.request import Picture
from model.training.sheet import to_image

SHIPPED_ENCODER = Path(__file__).with_name("encoder.safetensors")

SIDE = 64
WIDTHS = (24, 48, 96, 128)  # at sides of 32, 16, 8, 4
FEATURES = WIDTHS[-1]
TOGETHER = 64


class Residual(nn.Module):
    """Two convolutions beside an identity. Its norms see one image at a time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.body(x)
        return result


def stages(widths: Sequence[int], first_stride: int = 2) -> list[nn.Module]:
    """[B, 3, S, S] → ever wider; all stages but the first halve the sides, which it may do too."""
    layers: list[nn.Module] = []
    before, stride = 3, first_stride
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, stride=stride, padding=1), Residual(width)]
        before, stride = width, 2
    return layers


class Encoder(nn.Module):
    """[B, 3, 64, 64], −1…1 → [B, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*stages(WIDTHS), nn.GroupNorm(8, FEATURES), nn.SiLU())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images).mean((2, 3))
        return features

    @torch.inference_mode()
    def features(self, pictures: Sequence[Picture]) -> Floats:
        """[N, 128], each of length √128, so that the kernel of KID sees their cosine."""
        parts = []
        for begin in range(0, len(pictures), TOGETHER):
            images = [to_image(picture) for picture in pictures[begin : begin + TOGETHER]]
            parts.append(self(scaled(torch.from_numpy(np.stack([*map(values, images)])))))
        return (F.normalize(torch.cat(parts)) * FEATURES**0.5).double().numpy()


def load_encoder(path: Path = SHIPPED_ENCODER) -> Encoder:
    encoder = Encoder()
    encoder.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return encoder.eval().requires_grad_(False)


def save_encoder(encoder: Encoder, path: Path) -> None:
    """In fp16."""
    save_file({name: value.half() for name, value in encoder.state_dict().items()}, path)


def scaled(images: Tensor) -> Tensor:
    """0…255 → −1…1."""
    return images.float() / 127.5 - 1


def values(image: Image.Image) -> NDArray[np.uint8]:
    """What the encoder sees of an image: on white, [3, 64, 64], 0…255."""
    seen = flat(image)
    if seen.size != (SIDE, SIDE):
        seen = seen.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(seen).transpose(2, 0, 1)
