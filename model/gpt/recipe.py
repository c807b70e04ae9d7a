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

from model.checkpoint import save_checkpoint
from model.config import GptConfig
from model.data.pictures import PictureSet
from model.families import GptCheckpointConfig
from model.gpt.codec import Codec
from model.gpt.network import GptTransformer
from model.gpt.sequence import UNKNOWN, picture_to_text, text_to_picture, together
from model.optimizer import OptimizerConfig, optimizers
from model.recipe import Phase, Start, drawn_sheet

ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class GptTraining:
    """What is trained, and on what."""

    network: GptConfig = field(default_factory=GptConfig)
    reading: float = 0.25  # share of sequences with the picture first, which is also unprompted
    text_weight: float = 0.3  # of a token's loss beside a code's
    prompt_tokens: int = 24  # longer training prompts are cut; short sequences are fast


class GptLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together.

    The cross-entropy of every code of a picture, the first of them included, and of every token
    of a text that follows a picture. Text before a picture is not learned.
    """

    def __init__(self, network: GptTransformer, text_weight: float) -> None:
        super().__init__()
        self.network = network
        self.text_weight = text_weight

    def forward(self, bags: Tensor, first: Tensor, picture: Tensor, text: Tensor) -> Tensor:
        """See `model.gpt.sequence.Batch`. Nats a code, and weighted nats a token: a scalar."""
        hidden = self.network(bags, first)
        return self._codes(hidden, bags, picture) + self.text_weight * self._text(hidden, text)

    def _codes(self, hidden: Tensor, bags: Tensor, picture: Tensor) -> Tensor:
        layout, head = self.network.layout, self.network.code_head
        rows = torch.arange(len(bags), device=bags.device)[:, None]
        places = picture[:, None] + torch.arange(layout.places, device=bags.device)
        codes = bags[rows, places + 1, 1:] - layout.code_rows().to(bags.device)
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
        """Sequences, most of them from text to picture."""
        config, layout = self._config, self.network.layout
        sequences = []
        for row in self._data.rows(count, draw):
            tokens = self._start.tokenizer.tokens(self._data.prompters[row](draw))
            order = picture_to_text if draw.random() < config.reading else text_to_picture
            sequences.append(order(layout, tokens, self._codes[row], config.prompt_tokens))
        batch = together(sequences)
        return batch.bags, batch.first, batch.picture, batch.text

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
        captions = sorted({" ".join(caption.split()) for caption in self._data.captions} - {""})
        (folder / "captions.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")

    def sheet(self, folder: Path, device: str) -> Image.Image:
        return drawn_sheet(self._data, folder, device)


@torch.inference_mode()
def encode(codec: Codec, data: PictureSet) -> Tensor:
    """The codes of all pictures: [N, places, codes]."""
    return torch.cat(
        [
            codec.encode(data.tensor(range(begin, min(begin + ENCODED_AT_ONCE, len(data)))))
            for begin in range(0, len(data), ENCODED_AT_ONCE)
        ]
    )
