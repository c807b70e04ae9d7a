"""How a codec is trained: give back what went in, through its codes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from model.config import CodecConfig
from model.data.pictures import PictureSet
from model.gpt.codec import Codec
from model.gpt.codec_folder import CodecFile, load_codec, save_codec
from model.optimizer import OptimizerConfig, optimizers
from model.pixels import moved, to_picture
from model.recipe import Phase, sample_rows
from model.report import contact_sheet


@dataclass(frozen=True, slots=True)
class CodecTraining:
    """What is trained, and on what."""

    network: CodecConfig = field(default_factory=CodecConfig)
    absolute: float = 0.2  # weight of |error| beside error²: edges come out less soft
    varied: float = 0.5  # share of pictures that are turned over and moved a little
    shift: int = 4  # pixels, at most, that they are moved by


class CodecLoss(nn.Module):
    """Codec and loss as one module, so that both are compiled and distributed together."""

    def __init__(self, network: Codec, absolute: float) -> None:
        super().__init__()
        self.network = network
        self.absolute = absolute

    def forward(self, picture: Tensor) -> Tensor:
        """Mean of e² + absolute · |e| over pictures [B, C, H, W] in −1…1: a scalar."""
        error = self.network(picture).float() - picture
        return error.square().mean() + self.absolute * error.abs().mean()


class CodecRecipe:
    """See `model.recipe.Recipe`."""

    def __init__(
        self,
        data: PictureSet,
        config: CodecTraining,
        optimizer: OptimizerConfig,
        description: str,
        licence: str,
    ) -> None:
        self._data = data
        self._config = config
        self._file = CodecFile(description=description, licence=licence, network=config.network)
        self.network = Codec(config.network)
        self.averaged = self.network
        loss = CodecLoss(self.network, config.absolute)
        self.phases = [Phase("loss", loss, optimizers(self.network, optimizer))]

    @property
    def fixed(self) -> Mapping[str, Any]:
        return asdict(self._config)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Pictures, some of them turned over and moved: uploads do not lie on our grid."""
        pictures = self._data.tensor(self._data.rows(count, draw))
        for place in range(count):
            if draw.random() < self._config.varied:
                pictures[place] = self._vary(pictures[place], draw)
        return (pictures,)

    def _vary(self, picture: Tensor, draw: random.Random) -> Tensor:
        shift = self._config.shift
        down, right = draw.randint(-shift, shift), draw.randint(-shift, shift)
        if draw.random() < 0.5:
            picture = picture.flip(2)
        return moved(picture, down, right)

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        save_codec(folder, self._file, average)

    @torch.inference_mode()
    def sheet(self, folder: Path, device: str) -> Image.Image:
        """Pictures, each beside what its codes give back."""
        rows = sample_rows(self._data, 16)
        pictures = self._data.tensor(rows)
        returned = load_codec(folder).to(device)(pictures.to(device)).cpu()
        pairs = [each for pair in zip(pictures, returned, strict=True) for each in pair]
        captions = [text for row in rows for text in (self._data.captions[row], "through codes")]
        return contact_sheet([to_picture(each) for each in pairs], captions, columns=8)
