"""How much of an image its codes keep, and how many of the codes are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.data.emoji import Split, load
from model.data.pictures import PictureFormat, PictureSet
from model.evaluation.metrics import Quality, on_white, quality
from model.evaluation.report import table
from model.evaluation.retrieval import SPLITS
from model.gpt.codec import Codec
from model.runtime.pixels import to_picture

TOGETHER = 64


@dataclass(frozen=True, slots=True)
class CodecLine:
    """The images of one split through the codec and back."""

    split: Split
    of: int
    kept: Quality
    used: float  # share of the codes' values that appear at all
    perplexity: float  # as many values, used evenly, would say as much; mean over a place's codes


class CodecEvaluation:
    """Every split of the sets, all images. Raises ``DataError``."""

    def __init__(self, codec: Codec, folders: Sequence[Path]) -> None:
        self._codec = codec
        form = PictureFormat(codec.config.image_size, 4 if codec.config.channels == 4 else 3)
        sets = {split: load(folders, form, split) for split in SPLITS}
        self._sets = {split: data for split, data in sets.items() if len(data)}

    @property
    def steps(self) -> int:
        """Images that `run` looks at, for a progress bar."""
        return sum(map(len, self._sets.values()))

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[CodecLine]:
        """One split after the other."""
        for split, data in self._sets.items():
            codes, kept = self._through(data, on_step)
            counts = torch.stack([self._counts(codes[..., n]) for n in range(codes.shape[-1])])
            shares = counts / counts.sum(1, keepdim=True)
            entropy = -torch.xlogy(shares, shares).sum(1)
            used = float((counts > 0).float().mean())
            yield CodecLine(split, len(data), kept, used, float(entropy.exp().mean()))

    def _counts(self, codes: Tensor) -> Tensor:
        return torch.bincount(codes.flatten(), minlength=self._codec.config.values).double()

    @torch.inference_mode()
    def _through(self, data: PictureSet, on_step: Callable[[int], None]) -> tuple[Tensor, Quality]:
        """The codes of all images, and how near these are to what the codes give back."""
        codes, made, reals = [], [], []
        for begin in range(0, len(data), TOGETHER):
            images = data.tensor(range(begin, min(begin + TOGETHER, len(data))))
            codes.append(self._codec.encode(images))
            made += [on_white(to_picture(image)) for image in self._codec.decode(codes[-1])]
            reals += [on_white(to_picture(image)) for image in images]
            on_step(len(images))
        return torch.cat(codes), quality(made, reals)


def reconstruction_table(lines: Sequence[CodecLine]) -> str:
    """Markdown."""
    head = ("pictures", "n", "PSNR, dB", "SSIM", "values in use", "perplexity")
    rows = [
        (
            *(line.split, str(line.of), f"{line.kept.psnr:.2f}", f"{line.kept.ssim:.3f}"),
            *(f"{line.used:.1%}", f"{line.perplexity:.0f}"),
        )
        for line in lines
    ]
    return table(head, "lrrrrr", rows)
