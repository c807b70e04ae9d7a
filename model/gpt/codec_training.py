"""How a codec is trained: give back what went in, through its codes. And its folder."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn

from model.checkpoint import CONFIG, WEIGHTS, check_files, read_config
from model.data.pictures import PictureSet
from model.gpt.codec import Codec
from model.gpt.config import CodecCheckpointConfig, CodecConfig, GptCheckpoint
from model.gpt.network import Gpt
from model.loading import read_weights
from model.runtime.pixels import moved, to_picture
from model.training.optimizer import OptimizerConfig, optimizers
from model.training.recipe import Phase, Preset, Recipe, Start, TrainingOptions, sample_rows
from model.training.sheet import contact_sheet


@dataclass(frozen=True, slots=True)
class CodecTraining:
    """What is trained, and on what."""

    network: CodecConfig = field(default_factory=CodecConfig)
    absolute: float = 0.2  # weight of |error| beside error²: edges come out less soft
    varied: float = 0.5  # share of images that are mirrored and moved a little
    shift: int = 4  # pixels, at most, that they are moved by


class CodecLoss(nn.Module):
    """Codec and loss as one module, so that both are compiled and distributed together."""

    def __init__(self, network: Codec, absolute: float) -> None:
        super().__init__()
        self.network = network
        self.absolute = absolute

    def forward(self, picture: Tensor) -> Tensor:
        """Mean of e² + absolute · |e| over images [B, C, H, W] in −1…1: a scalar."""
        error = self.network(picture).float() - picture
        return error.square().mean() + self.absolute * error.abs().mean()


class CodecRecipe(Recipe[CodecTraining]):
    """See `model.training.recipe.Recipe`."""

    preset: ClassVar = Preset(patch=8, width=192, depth=5)
    checkpoint_config = CodecCheckpointConfig
    reads_prompts = False

    def __init__(
        self, data: PictureSet, config: CodecTraining, optimizer: OptimizerConfig, start: Start
    ) -> None:
        super().__init__(data, config, start)
        self.network = Codec(config.network)
        self.averaged = self.network
        loss = CodecLoss(self.network, config.absolute)
        self.phases = [Phase("loss", loss, optimizers(self.network, optimizer))]

    @classmethod
    def of(
        cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
    ) -> Self:
        given = options.shape(cls.preset)
        network = CodecConfig(
            image_size=options.size,
            patch_size=given.patch,
            channels=options.channels,
            width=given.width,
            encoder_depth=max(1, given.depth * 3 // 5),  # the decoder has more to do
            decoder_depth=given.depth,
            heads=given.heads,
        )
        return cls(data, CodecTraining(network), optimizer, start)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Images, some of them mirrored and moved: uploads do not lie on our grid."""
        pictures = self._data.tensor(self._data.rows(count, draw))
        for index in range(count):
            if draw.random() < self._config.varied:
                pictures[index] = self._vary(pictures[index], draw)
        return (pictures,)

    def _vary(self, picture: Tensor, draw: random.Random) -> Tensor:
        shift = self._config.shift
        down, right = draw.randint(-shift, shift), draw.randint(-shift, shift)
        if draw.random() < 0.5:
            picture = picture.flip(2)
        return moved(picture, down, right)

    @torch.inference_mode()
    def sheet(self, folder: Path, device: str) -> Image.Image:
        """Images, each beside what its codes give back."""
        rows = sample_rows(self._data, 16)
        pictures = self._data.tensor(rows).cpu()
        returned = load_codec(folder).to(device)(pictures.to(device)).cpu()
        pairs = [values for pair in zip(pictures, returned, strict=True) for values in pair]
        captions = [text for row in rows for text in (self._data.captions[row], "through codes")]
        return contact_sheet([to_picture(values) for values in pairs], captions, columns=8)


def codec_of(folder: Path) -> Codec:
    """The codec in its own folder, or that of a gpt's checkpoint. Raises `CheckpointError`."""
    try:
        family = json.loads((folder / CONFIG).read_bytes())["family"]
    except (OSError, ValueError, KeyError):
        family = None  # `load_codec` says what is wrong
    if family != "gpt":
        return load_codec(folder)
    gpt = Gpt(GptCheckpoint.open(folder).config.network)
    gpt.load_state_dict(read_weights(folder / WEIGHTS, gpt.state_dict()))
    return gpt.codec.eval().requires_grad_(False)


def load_codec(folder: Path) -> Codec:
    """A codec in fp32 on the CPU. Raises `CheckpointError`."""
    check_files(folder, (CONFIG, WEIGHTS))
    codec = Codec(read_config(folder / CONFIG, CodecCheckpointConfig).network)
    codec.load_state_dict(read_weights(folder / WEIGHTS, codec.state_dict()))
    return codec.eval().requires_grad_(False)
