"""The figures themselves: of images beside one another, and of sets of images or features."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
from torchmetrics.image.kid import poly_mmd

from model.request import Picture
from model.training.sheet import to_image

Floats = NDArray[np.float64]

LEAST_ERROR = 1e-6
"""Mean squared error below which images count as equal: 60 dB."""

SCALES = (0.0448, 0.2856, 0.3001)
"""Weights of the finest three scales of MS-SSIM, of the five in Wang et al. 2003."""

SMALLEST = 16
"""Pixels along a side at the coarsest scale: less does not hold the window of 11."""

ROUNDS = 2  # in each of which every image of a set is in two pairs
TOGETHER = 64

NEIGHBOURS = 5
"""How many real neighbours the neighbourhood of a real image holds."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How near images are to others, one by one; means."""

    psnr: float  # dB
    ssim: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models"."""

    density: float  # how many real neighbourhoods a drawn image is in; may exceed 1
    coverage: float  # share of real images with a drawn one in their neighbourhood


def on_white(picture: Picture) -> Floats:
    """[height, width, 3], 0…1."""
    values: Floats = np.asarray(to_image(picture, "white"), np.float64) / 255
    return values


def flat(image: Image.Image) -> Image.Image:
    """RGB, on white."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def mse(made: Sequence[Floats], reals: Sequence[Floats]) -> list[float]:
    """Mean squared error of each pair."""
    return [float(np.square(one - real).mean()) for one, real in zip(made, reals, strict=True)]


def quality(made: Sequence[Floats], reals: Sequence[Floats]) -> Quality:
    """PSNR, and SSIM with the windows of Wang et al. 2004."""
    psnr = [-10 * np.log10(max(LEAST_ERROR, error)) for error in mse(made, reals)]
    ssim = [
        structural_similarity(
            one,
            real,
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, real in zip(made, reals, strict=True)
    ]
    return Quality(float(np.mean(psnr)), float(np.mean(ssim)))


def spread(real: Floats, drawn: Floats) -> Spread:
    """Of features [N, D] and [M, D]. A real image's neighbourhood reaches to its fifth nearest.

    Raises ``ValueError`` where there are too few real images.
    """
    if len(real) <= NEIGHBOURS:
        raise ValueError(f"{len(real)} real images have no {NEIGHBOURS} neighbours each")
    among_real = _distances(real, real)  # the nearest to each is itself
    reach = np.partition(among_real, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    inside = _distances(real, drawn) < reach[:, None]
    return Spread(
        density=float(inside.sum() / (NEIGHBOURS * len(drawn))),
        coverage=float(inside.any(1).mean()),
    )


def kernel_distance(real: Floats, drawn: Floats) -> float:
    """KID (Bińkowski et al. 2018) of features [N, D]: the unbiased squared MMD of a cubic kernel.

    0 on average where both are samples of one distribution, so it may be negative.
    """
    if len(real) != len(drawn):
        raise ValueError(f"{len(real)} real and {len(drawn)} drawn images; both must be as many")
    return float(poly_mmd(torch.from_numpy(real), torch.from_numpy(drawn)))


def similarity(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """Mean MS-SSIM of pairs [H, W, 3], 0…1: 1 where both are equal.

    At three scales where images have 64 pixels or more along a side, at two from 32.
    """
    side = len(pairs[0][0])
    scales = [weight for level, weight in enumerate(SCALES) if side >> level >= SMALLEST]
    betas = tuple(weight / sum(scales) for weight in scales)
    total = 0.0
    for begin in range(0, len(pairs), TOGETHER):
        some = np.array(pairs[begin : begin + TOGETHER], np.float32).transpose(1, 0, 4, 2, 3)
        one, other = torch.from_numpy(np.ascontiguousarray(some))
        values = multiscale_structural_similarity_index_measure(
            one, other, data_range=1.0, betas=betas, normalize="relu", reduction="none"
        )
        total += float(values.double().sum())
    return total / len(pairs)


def among(images: Sequence[Floats]) -> float:
    """Mean MS-SSIM between images of a set (Odena et al. 2017). Less is more varied.

    The pairs are drawn by position, the same ones every time.
    """
    draw = random.Random(0)
    order = list(range(len(images)))
    pairs = []
    for _ in range(ROUNDS):
        draw.shuffle(order)
        following = order[1:] + order[:1]
        pairs += [(images[a], images[b]) for a, b in zip(order, following, strict=True)]
    return similarity(pairs)


def _distances(one: Floats, other: Floats) -> Floats:
    """Euclidean, [N, M]."""
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return distances


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
    """[B, 3, 64, 64], −1…1 → [B, 128]: what an image looks like, for figures that compare sets.

    The usual features are an ImageNet network's, which would have to be downloaded. This one ships
    and was trained to name an emoji's symbol in either style (``tools/encoder.py``). Figures in its
    features compare with each other, not with published ones.
    """

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
            parts.append(self(to_encoder_size(torch.from_numpy(np.stack([*map(values, images)])))))
        return (F.normalize(torch.cat(parts)) * FEATURES**0.5).double().numpy()


def load_encoder(path: Path = SHIPPED_ENCODER) -> Encoder:
    encoder = Encoder()
    encoder.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return encoder.eval().requires_grad_(False)


def save_encoder(encoder: Encoder, path: Path) -> None:
    """In fp16."""
    save_file({name: value.half() for name, value in encoder.state_dict().items()}, path)


def to_encoder_size(images: Tensor) -> Tensor:
    """0…255 → −1…1."""
    return images.float() / 127.5 - 1


def values(image: Image.Image) -> NDArray[np.uint8]:
    """What the encoder sees of an image: on white, [3, 64, 64], 0…255."""
    seen = flat(image)
    if seen.size != (SIDE, SIDE):
        seen = seen.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(seen).transpose(2, 0, 1)
