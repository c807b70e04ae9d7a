"""What a family brings to the training loop: its networks, its losses, its batches, its files.

The loop (`model.training.trainer`) has the rest: processes, folders of runs, averages, resuming.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from model.checkpoint import (
    TOKENIZER,
    WEIGHTS,
    CheckpointConfig,
    CheckpointError,
    TokenizedCheckpoint,
    save_captions,
)
from model.data.pictures import PictureFormat, PictureSet
from model.flow.config import FlowConfig
from model.layers import FrozenEmbedding
from model.loading import load_model, save_checkpoint
from model.registry import open_checkpoint
from model.runtime.generate import generate
from model.tokenizer import PADDING, PromptTokenizer
from model.training.choices import UNLIMITED, Choices
from model.training.optimizer import OptimizerConfig
from model.training.sheet import contact_sheet

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VOCABULARY = 2048
VECTORS = "vectors.safetensors"
"""What a `model.layers.FrozenEmbedding` holds, beside a tokenizer: `tools.word_vectors`."""
FROZEN = ("codes", "scales")

HEAD_CHANNELS = 64
"""Of an attention head."""

PROMPTS_A_PICTURE = 8  # drawn to train the tokenizer on

C = TypeVar("C", bound="DataclassInstance")


class TrainingError(Exception):
    """A run cannot start or go on. ``str()`` says why and what would help."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The shape of a network and how fast it learns."""

    patch: int  # pixels along each side
    width: int
    depth: int
    learning_rate: float = 1e-3

    @property
    def heads(self) -> int:
        return max(1, self.width // HEAD_CHANNELS)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """See the help of ``tessera train`` for the meaning of each."""

    family: str  # a name of `model.registry.RECIPES`
    data: tuple[Path, ...]
    out: Path
    channels: Literal[3, 4]
    learning_rate: float | None
    cooldown: float
    seed: int
    init: Path | None
    cpu: bool
    description: str
    license: str
    given: Choices | None = None  # to be completed: `model.training.automatic`
    steps: int = UNLIMITED
    batch: int = 128
    size: int = 64
    patch: int | None = None  # here, and for width, depth and rate, None is the recipe's preset
    width: int | None = None
    depth: int | None = None
    compiled: bool = True
    minutes: float | None = None  # after which the run is to end; ``steps`` are the most then
    sample_every: int | None = None  # steps; None here and below: by the clock
    save_every: int | None = None
    codec: Path | None = None  # a trained codec's folder, for what is trained over its codes
    vocabulary: int | None = None  # tokens of a new tokenizer; None: that of ``init``, or a new one
    average: float = 0.995  # decay of the weights' moving average
    detail_width: int = 0  # as in `model.flow.config.FlowConfig`
    polish_channels: int = 0
    new_data: bool = False  # whether a run may go on with other data than it began with
    vectors: Path | None = None  # the folder of a tokenizer and its tokens' vectors

    def shape(self, preset: Preset) -> Preset:
        """What was given of it, and the preset's for the rest."""
        rate = self.learning_rate
        return Preset(
            self.patch or preset.patch,
            self.width or preset.width,
            self.depth or preset.depth,
            preset.learning_rate if rate is None else rate,
        )


@dataclass(slots=True)
class Phase:
    """One loss, and the optimizers of the weights that it moves.

    Most families have one phase; a GAN has two, its discriminator's and its generator's, of which
    each gets its own batch at every step.
    """

    name: str  # in the log; the first phase's is "loss"
    loss: nn.Module  # called with a batch, gives a scalar; compiled and distributed as a whole
    optimizers: list[torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with beside its configuration."""

    tokenizer: PromptTokenizer | None
    description: str = "images from prompts"
    license: str = "not stated"
    vectors: Mapping[str, Tensor] | None = None  # the tokens', as `FrozenEmbedding` names them
    shape: Mapping[str, Any] | None = None  # of the network, as `FlowConfig` names it, so far

    def tokens(self, prompts: Sequence[str], length: int) -> Tensor:
        """[B, length]; a prompt that is longer is cut."""
        assert self.tokenizer is not None
        rows = [tokens[:length] for tokens in self.tokenizer.tokens_of_all(prompts)]
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])

    @property
    def vocabulary(self) -> int:
        assert self.tokenizer is not None
        return self.tokenizer.vocabulary

    @property
    def frozen_channels(self) -> int:
        """Of the tokens' vectors; 0 where embeddings are trained."""
        return 0 if self.vectors is None else self.vectors["codes"].shape[1]


class Recipe(ABC, Generic[C]):
    """How one family is trained. ``config`` is a dataclass whose ``network`` is what ships."""

    preset: ClassVar[Preset]
    checkpoint_config: ClassVar[type[CheckpointConfig]]
    reads_prompts: ClassVar[bool] = True

    network: nn.Module  # all weights that are trained, and kept to resume
    averaged: nn.Module  # the part of it whose moving average ships; mostly all of it
    phases: Sequence[Phase]  # in the order that they have within a step; always the same objects
    device = torch.device("cpu")  # where batches are made, and their random numbers

    def __init__(self, data: PictureSet, config: C, start: Start) -> None:
        self._data = data
        self._config = config
        self._start = start

    @classmethod
    def pictures(cls, options: TrainingOptions) -> PictureFormat:
        """What its data has to be. Raises `TrainingError`."""
        return PictureFormat(options.size, options.channels)

    @classmethod
    @abstractmethod
    def of(
        cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
    ) -> Self:
        """With networks of that shape. Raises ``ValueError`` for sizes that do not divide."""

    @property
    def fixed(self) -> Mapping[str, Any]:
        """Plain data that a run which goes on must have in common with its beginning."""
        return asdict(self._config)

    def place(self, device: torch.device) -> None:
        """Makes batches on a GPU whose memory the images leave mostly free.

        One step's images and noise are read more slowly from the computer's memory than a GPU
        computes with them.
        """
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self._data.pictures.nbytes < free // 4:
                self._data = self._data.on(device)
                self.device = device

    @abstractmethod
    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """What a phase's loss is called with, for ``count`` images. Random by these two only.

        The generator is on `device`.
        """

    def adopt(self, weights: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
        """The weights of the checkpoint in ``folder``, as ``network`` names them."""
        return weights

    def weights(self, average: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights that ship, of the averaged ones."""
        return average

    @property
    def tokenizer(self) -> PromptTokenizer | None:
        """What reads its prompts."""
        return self._start.tokenizer

    @property
    def prompt_tokens(self) -> int:
        """Of a training prompt; a longer one is cut."""
        config: Any = self._config
        return int(config.prompt_tokens)

    def shortened(self, caption: str) -> str:
        """As much of a caption as is trained on."""
        assert self._start.tokenizer is not None
        return self._start.tokenizer.shortened(caption, self.prompt_tokens)

    def captions(self) -> Iterable[str]:
        """What ``captions.txt`` has; no file where there are none."""
        return ()

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        """Writes the checkpoint, with the averaged weights."""
        folder.mkdir(parents=True, exist_ok=True)
        if captions := [self.shortened(caption) for caption in self.captions()]:
            save_captions(folder, captions)
        config_type: Any = self.checkpoint_config
        config = config_type(
            description=self._start.description,
            license=self._start.license,
            network=self.fixed["network"],
        )
        save_checkpoint(folder, config, self.weights(average), self._start.tokenizer)

    def sheet(self, folder: Path, device: str) -> Image.Image:
        """Shows what the checkpoint in ``folder`` can do: sixteen captions, drawn by default."""
        captions = [self.shortened(self._data.captions[row]) for row in sample_rows(self._data, 16)]
        model = load_model(open_checkpoint(folder), device=device, dtype="auto", tile=32)
        requests = [model.spec.request(text, seed) for seed, text in enumerate(captions)]
        return contact_sheet(list(generate(model, requests)), captions)


def sample_rows(data: PictureSet, count: int) -> list[int]:
    """Rows to look at: the same for every run on this data, spread over its groups."""
    groups = random.Random(0).sample(data.groups, min(count, len(data.groups)))
    return [group[0] for group in groups]


def read_shape(init: Path) -> FlowConfig | None:
    """The shape of a flow, or of a gan; None for other models. Raises `CheckpointError`."""
    checkpoint = open_checkpoint(init)
    if not isinstance(checkpoint, TokenizedCheckpoint):
        return None
    network = checkpoint.config.network
    return network if isinstance(network, FlowConfig) else None


def read_vectors(options: TrainingOptions) -> Mapping[str, Tensor] | None:
    """Those of ``vectors``, or of ``init``; none where embeddings are trained.

    Raises `CheckpointError`.
    """
    if options.vectors is not None:
        return load_vectors(options.vectors)[0]
    if options.init is None or options.vocabulary is not None:
        return None
    return frozen_of(load_file(options.init / WEIGHTS))


def load_vectors(folder: Path) -> tuple[dict[str, Tensor], PromptTokenizer]:
    """What `tools.word_vectors` wrote. Raises `CheckpointError`."""
    if not (folder / VECTORS).is_file():
        raise CheckpointError(f"{folder / VECTORS}: missing")
    return load_file(folder / VECTORS), PromptTokenizer.load(folder / TOKENIZER)


def frozen_of(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """The vectors in a network's weights; none where its embeddings are trained."""
    found = {name: [key for key in weights if key.endswith(f"embedding.{name}")] for name in FROZEN}
    return {name: weights[keys[0]] for name, keys in found.items() if keys} or None


def set_vectors(network: nn.Module, vectors: Mapping[str, Tensor]) -> None:
    """Gives them to every frozen embedding of the network."""
    for module in network.modules():
        if isinstance(module, FrozenEmbedding):
            module.load_state_dict(vectors, strict=False)


def make_tokenizer(options: TrainingOptions, data: PictureSet) -> PromptTokenizer:
    """That of ``vectors`` or ``init``, or a new one trained on the prompts.

    Raises `CheckpointError`.
    """
    if options.vectors is not None:
        return PromptTokenizer.load(options.vectors / TOKENIZER)
    if options.init is not None and options.vocabulary is None:
        checkpoint = open_checkpoint(options.init)
        if not isinstance(checkpoint, TokenizedCheckpoint):
            raise CheckpointError(f"{options.init}: has no {TOKENIZER} to begin with")
        return checkpoint.tokenizer
    draw = random.Random(options.seed)
    prompts = [prompter(draw) for prompter in data.prompters for _ in range(PROMPTS_A_PICTURE)]
    return PromptTokenizer.train([*data.captions, *prompts], options.vocabulary or VOCABULARY)
