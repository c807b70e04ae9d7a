"""How a gpt is trained: what comes next, in either order of text and image."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data.pictures import PictureFormat, PictureSet
from model.gpt.codec import Codec
from model.gpt.codec_training import load_codec
from model.gpt.config import GptCheckpointConfig, GptConfig
from model.gpt.network import GptTransformer
from model.gpt.sequence import UNKNOWN, hide, image_to_text, join, text_to_image
from model.runtime.pixels import moved
from model.training.optimizer import OptimizerConfig, optimizers
from model.training.recipe import Phase, Preset, Recipe, Start, TrainingError, TrainingOptions

ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class GptTraining:
    """What is trained, and on what."""

    network: GptConfig = field(default_factory=GptConfig)
    captioning: float = 0.25  # share of sequences with the image first, which is also unprompted
    text_weight: float = 0.3  # of a token's loss beside a code's
    prompt_tokens: int = 24  # longer training prompts are cut; short sequences are fast
    forgetful: float = 0.8  # share of images some of whose places are hidden from what follows
    versions: int = 3  # of an image to be captioned beside itself, moved a little
    shift: int = 3  # pixels, at most, that they are moved by


class GptLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together.

    The cross-entropy of every code of an image, the first of them included, and of every token
    of a text that follows an image. Text before an image is not learned.
    """

    def __init__(self, network: GptTransformer, text_weight: float) -> None:
        super().__init__()
        self.network = network
        self.text_weight = text_weight

    def forward(
        self, ids: Tensor, first: Tensor, image: Tensor, codes: Tensor, text: Tensor
    ) -> Tensor:
        """See `model.gpt.sequence.TokenBatch`. Nats a code, and weighted nats a token: a scalar."""
        states = self.network(ids, first)
        return self._codes(states, image, codes) + self.text_weight * self._text(states, text)

    def _codes(self, states: Tensor, image: Tensor, codes: Tensor) -> Tensor:
        layout, head = self.network.layout, self.network.code_head
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        places = image[:, None] + torch.arange(layout.places, device=codes.device)
        state = states[rows, places]
        loss = states.new_zeros((), dtype=torch.float32)
        for number in range(layout.codes):
            logits = head.logits(state, number)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), codes[..., number].flatten())
            if number + 1 < layout.codes:
                state = head.after(state, number, codes[..., number])
        return loss / layout.codes

    def _text(self, states: Tensor, text: Tensor) -> Tensor:
        logits = self.network.text_head(states[:, -text.shape[1] :]).float()
        total = F.cross_entropy(
            logits.flatten(0, 1), text.flatten(), ignore_index=UNKNOWN, reduction="sum"
        )
        return total / (text != UNKNOWN).sum().clamp(min=1)


class GptRecipe(Recipe[GptTraining]):
    """See `model.training.recipe.Recipe`. The codec is trained already, and is not changed."""

    preset: ClassVar = Preset(patch=8, width=256, depth=6)
    checkpoint_config = GptCheckpointConfig

    def __init__(
        self,
        data: PictureSet,
        codec: Codec,
        config: GptTraining,
        optimizer: OptimizerConfig,
        start: Start,
    ) -> None:
        super().__init__(data, config, start)
        self._codec = codec.state_dict()
        self._codes = encode_all(codec, data)
        self._moved = [
            encode_all(codec, data, config.shift, random.Random(number))
            for number in range(config.versions)
        ]
        network = GptTransformer(config.network)
        self._layout = network.layout
        self.network = self.averaged = network
        loss = GptLoss(network, config.text_weight)
        self.phases = [Phase("loss", loss, optimizers(network, optimizer))]

    @classmethod
    def pictures(cls, options: TrainingOptions) -> PictureFormat:
        """See `Recipe.pictures`: those of its codec."""
        codec = cls._codec_of(options).config
        return PictureFormat(codec.image_size, 4 if codec.channels == 4 else 3)

    @classmethod
    def of(
        cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
    ) -> Self:
        codec, given = cls._codec_of(options), options.shape(cls.preset)
        network = GptConfig(
            codec.config,
            start.vocabulary,
            width=given.width,
            depth=given.depth,
            heads=given.heads,
        )
        return cls(data, codec, GptTraining(network), optimizer, start)

    @staticmethod
    def _codec_of(options: TrainingOptions) -> Codec:
        if options.codec is None:
            raise TrainingError(
                "a gpt learns the codes of images: train a codec first (--family codec), "
                "then give its checkpoint (--codec)"
            )
        return load_codec(options.codec)

    def place(self, device: torch.device) -> None:
        """Nothing: codes are few, and sequences are put together on the CPU."""

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Sequences, most of them from text to image.

        Images to be captioned are moved a little, as uploads are. And some places are hidden, now
        few, mostly many (word dropout, Bowman et al. 2016): what has been drawn so far soon shows
        which image it is, and without that little more would be learned from the prompt. Where
        only half of the places were hidden in half of the images, an image's continuation was
        memorised long before its beginning.
        """
        config, layout, tokenizer = self._config, self._layout, self._start.tokenizer
        assert tokenizer is not None
        sequences = []
        for row in self._data.rows(count, draw):
            tokens = tokenizer.tokens(self._data.prompters[row](draw))
            if draw.random() < config.captioning:
                codes = draw.choice([self._codes, *self._moved])[row]
                sequence = image_to_text(layout, tokens, codes, config.prompt_tokens)
            else:
                sequence = text_to_image(layout, tokens, self._codes[row], config.prompt_tokens)
            sequences.append(sequence)
        batch = join(sequences)
        share = torch.rand(count, 1, generator=generator) ** (1 / 3)
        share[torch.rand(count, generator=generator) >= config.forgetful] = 0
        hide(batch, torch.rand(count, layout.places, generator=generator) < share)
        return batch.ids, batch.first, batch.image, batch.codes, batch.text

    def adopt(self, weights: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
        """See `Recipe.adopt`: a gpt's without its codec."""
        return {
            name.removeprefix("transformer."): value
            for name, value in weights.items()
            if name.startswith("transformer.")
        }

    def weights(self, average: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Recipe.weights`: the codec's as well."""
        parts = {"codec": self._codec, "transformer": average}
        return {f"{part}.{name}": w for part, state in parts.items() for name, w in state.items()}

    def captions(self) -> Iterable[str]:
        return self._data.captions


@torch.inference_mode()
def encode_all(
    codec: Codec, data: PictureSet, shift: int = 0, draw: random.Random | None = None
) -> Tensor:
    """The codes of all images, each moved by up to ``shift`` pixels: [N, places, codes]."""
    codes = []
    for begin in range(0, len(data), ENCODED_AT_ONCE):
        pictures = data.tensor(range(begin, min(begin + ENCODED_AT_ONCE, len(data))))
        if draw is not None:
            for picture in pictures:
                down, right = draw.randint(-shift, shift), draw.randint(-shift, shift)
                picture.copy_(moved(picture, down, right))
        codes.append(codec.encode(pictures))
    return torch.cat(codes)
