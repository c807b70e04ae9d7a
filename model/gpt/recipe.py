"""How a gpt is trained: what comes next, in either order of text and picture."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from model.captions import save_captions
from model.checkpoint import save_checkpoint
from model.config import GptConfig
from model.data.pictures import PictureSet
from model.families import GptCheckpointConfig
from model.gpt.codec import Codec
from model.gpt.network import GptTransformer
from model.gpt.sequence import UNKNOWN, hide, picture_to_text, text_to_picture, together
from model.optimizer import OptimizerConfig, optimizers
from model.pixels import moved
from model.recipe import Phase, Start, drawn_sheet

ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class GptTraining:
    """What is trained, and on what."""

    network: GptConfig = field(default_factory=GptConfig)
    reading: float = 0.25  # share of sequences with the picture first, which is also unprompted
    text_weight: float = 0.3  # of a token's loss beside a code's
    prompt_tokens: int = 24  # longer training prompts are cut; short sequences are fast
    forgetful: float = 0.8  # share of pictures some of whose places are hidden from what follows
    versions: int = 3  # of a picture to be read beside itself, moved a little
    shift: int = 3  # pixels, at most, that they are moved by


class GptLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together.

    The cross-entropy of every code of a picture, the first of them included, and of every token
    of a text that follows a picture. Text before a picture is not learned.
    """

    def __init__(self, network: GptTransformer, text_weight: float) -> None:
        super().__init__()
        self.network = network
        self.text_weight = text_weight

    def forward(
        self, bags: Tensor, first: Tensor, picture: Tensor, codes: Tensor, text: Tensor
    ) -> Tensor:
        """See `model.gpt.sequence.Batch`. Nats a code, and weighted nats a token: a scalar."""
        hidden = self.network(bags, first)
        return self._codes(hidden, picture, codes) + self.text_weight * self._text(hidden, text)

    def _codes(self, hidden: Tensor, picture: Tensor, codes: Tensor) -> Tensor:
        layout, head = self.network.layout, self.network.code_head
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        places = picture[:, None] + torch.arange(layout.places, device=codes.device)
        state = hidden[rows, places]
        loss = hidden.new_zeros((), dtype=torch.float32)
        for number in range(layout.codes):
            logits = head.logits(state, number)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), codes[..., number].flatten())
            if number + 1 < layout.codes:
                state = head.after(state, number, codes[..., number])
        return loss / layout.codes

    def _text(self, hidden: Tensor, text: Tensor) -> Tensor:
        logits = self.network.text_head(hidden[:, -text.shape[1] :]).float()
        total = F.cross_entropy(
            logits.flatten(0, 1), text.flatten(), ignore_index=UNKNOWN, reduction="sum"
        )
        return total / (text != UNKNOWN).sum().clamp(min=1)


class GptRecipe:
    """See `model.recipe.Recipe`. The codec is as it was trained, and stays so."""

    def __init__(
        self,
        data: PictureSet,
        codec: Codec,
        config: GptTraining,
        optimizer: OptimizerConfig,
        start: Start,
    ) -> None:
        self._data = data
        self._codec = codec.state_dict()
        self._codes = encode(codec, data)
        self._moved = [
            encode(codec, data, config.shift, random.Random(number))
            for number in range(config.versions)
        ]
        self._config = config
        self._start = start
        self.network = GptTransformer(config.network)
        self.averaged = self.network
        loss = GptLoss(self.network, config.text_weight)
        self.phases = [Phase("loss", loss, optimizers(self.network, optimizer))]

    @property
    def fixed(self) -> Mapping[str, Any]:
        return asdict(self._config)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Sequences, most of them from text to picture.

        Pictures to be read are moved a little, as uploads are. And some places are hidden, now
        few, mostly many (word dropout, Bowman et al. 2016): what has been drawn so far soon tells
        which picture it is, and without that little more would be learned from the prompt. Where
        only half of the places were hidden in half of the pictures, a picture's continuation was
        known by heart long before its beginning.
        """
        config, layout = self._config, self.network.layout
        sequences = []
        for row in self._data.rows(count, draw):
            tokens = self._start.tokenizer.tokens(self._data.prompters[row](draw))
            if draw.random() < config.reading:
                codes = draw.choice([self._codes, *self._moved])[row]
                one = picture_to_text(layout, tokens, codes, config.prompt_tokens)
            else:
                one = text_to_picture(layout, tokens, self._codes[row], config.prompt_tokens)
            sequences.append(one)
        batch = together(sequences)
        share = torch.rand(count, 1, generator=generator) ** (1 / 3)
        share[torch.rand(count, generator=generator) >= config.forgetful] = 0
        hide(batch, torch.rand(count, layout.places, generator=generator) < share)
        return batch.bags, batch.first, batch.picture, batch.codes, batch.text

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        config = GptCheckpointConfig(
            description=self._start.description,
            licence=self._start.licence,
            network=self._config.network,
        )
        parts = {"codec": self._codec, "transformer": average}
        weights = {
            f"{part}.{name}": w for part, state in parts.items() for name, w in state.items()
        }
        save_checkpoint(folder, config, weights, self._start.tokenizer)
        save_captions(folder, self._data.captions)

    def sheet(self, folder: Path, device: str) -> Image.Image:
        return drawn_sheet(self._data, folder, device)


@torch.inference_mode()
def encode(
    codec: Codec, data: PictureSet, shift: int = 0, draw: random.Random | None = None
) -> Tensor:
    """The codes of all pictures, each moved by up to ``shift`` pixels: [N, places, codes]."""
    codes = []
    for begin in range(0, len(data), ENCODED_AT_ONCE):
        pictures = data.tensor(range(begin, min(begin + ENCODED_AT_ONCE, len(data))))
        if draw is not None:
            for picture in pictures:
                down, right = draw.randint(-shift, shift), draw.randint(-shift, shift)
                picture.copy_(moved(picture, down, right))
        codes.append(codec.encode(pictures))
    return torch.cat(codes)
