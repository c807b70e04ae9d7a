"""What a gpt's ``config.json`` holds, and what can be known of one without running it.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.checkpoint import (
    CAPTIONS,
    CheckpointConfig,
    Placement,
    TokenizedCheckpoint,
    check_shape,
    load_captions,
)
from model.request import ImageRequest, Operation
from model.sizes import Sizes
from model.spec import ModelSpec, Parameter

if TYPE_CHECKING:
    from model.gpt.sampler import GptSampler

OPERATIONS: tuple[Operation, ...] = ("generate", "inpaint")


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The shape of a codec: an image is grid × grid places with ``codes`` codes at each."""

    image_size: int = 64
    patch_size: int = 8
    channels: int = 4
    width: int = 192
    encoder_depth: int = 3
    decoder_depth: int = 5
    heads: int = 3
    codes: int = 2
    levels: tuple[int, ...] = (8, 5, 5, 5)  # that each dimension of a code can take

    def __post_init__(self) -> None:
        check_shape(self)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Places along one side."""
        return self.image_size // self.patch_size

    @property
    def places(self) -> int:
        """Places of an image, numbered row by row."""
        return self.grid**2

    @property
    def values(self) -> int:
        """What one code can be."""
        return math.prod(self.levels)


@dataclass(frozen=True, slots=True)
class GptConfig:
    """The shape of a codec and of the transformer over its codes and over text."""

    codec: CodecConfig = field(default_factory=CodecConfig)
    vocabulary: int = 2048  # of text
    max_tokens: int = 48  # of a text
    width: int = 256
    depth: int = 6
    heads: int = 4

    @property
    def length(self) -> int:
        """Tokens of the longest sequence: an image, a text, and a special token before each."""
        return self.codec.places + self.max_tokens + 2


class CodecCheckpointConfig(CheckpointConfig):
    """``config.json`` of a codec on its own, which a gpt is trained over."""

    family: Literal["codec"] = "codec"
    network: CodecConfig


class GptSamplingConfig(BaseModel):
    """How gpt draws when a request does not say. Its guidance: `model.gpt.passes.guided`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    guidance: Annotated[float, Field(ge=1)] = 2.0
    max_guidance: Annotated[float, Field(ge=1)] = 10.0
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0


class GptCheckpointConfig(CheckpointConfig):
    """``config.json``."""

    family: Literal["gpt"] = "gpt"
    network: GptConfig
    sampling: GptSamplingConfig = GptSamplingConfig()

    @property
    def vocabulary(self) -> int:
        return self.network.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        codec = self.network.codec
        return ModelSpec(
            id=id,
            sizes=Sizes(codec.image_size, codec.image_size),
            channels=codec.channels,
            parameters=_parameters(self.sampling, codec),
            operations=(*OPERATIONS, "describe"),
            max_prompt_tokens=self.network.max_tokens,
            digest=digest,
            **self.about,
        )


def _parameters(sampling: GptSamplingConfig, codec: CodecConfig) -> tuple[Parameter, ...]:
    steps = "One for each position of the image: their number is fixed."
    guidance = (
        "Product-of-experts guidance: more is closer to the prompt and less varied. 1 is without, "
        "in half the time."
    )
    temperature = "Below 1 likely tokens become likelier; 0 always takes the likeliest."
    top_k = "Only so many of the likeliest tokens are chosen from; 0: all."
    top_p = "Only the likeliest tokens that together are this probable are chosen from."
    return (
        Parameter("steps", codec.places, codec.places, codec.places, 1, steps, OPERATIONS),
        Parameter(
            "guidance", 1, sampling.max_guidance, sampling.guidance, 0.1, guidance, OPERATIONS
        ),
        Parameter("temperature", 0, 2, sampling.temperature, 0.05, temperature, OPERATIONS),
        Parameter("top_k", 0, codec.values, sampling.top_k, 1, top_k, OPERATIONS),
        Parameter("top_p", 0, 1, sampling.top_p, 0.01, top_p, OPERATIONS),
    )


def cost(request: ImageRequest) -> int:
    """KV slots of a row, each of which is an evaluation of a pass.

    Two with guidance, and for a description, which scores two texts at once.
    """
    if request.operation == "describe":
        return 2
    return 2 if request.value("guidance", 1) != 1 and request.prompt.strip() else 1


class GptCheckpoint(TokenizedCheckpoint[GptCheckpointConfig]):
    """See `model.checkpoint.Checkpoint`."""

    config_type = GptCheckpointConfig
    more_files: ClassVar[tuple[str, ...]] = (CAPTIONS,)
    tiles: ClassVar[Mapping[str, int]] = {"cpu": 16, "cuda": 32}  # a step's evaluations are small

    def cost(self, request: ImageRequest) -> int:
        return cost(request)

    def evaluations(self, request: ImageRequest) -> int:
        """See `Checkpoint.evaluations`. A description's are a caption's and its labels'."""
        if request.operation == "describe":
            return self.config.network.codec.places + len(request.labels)
        return super().evaluations(request)

    def build(self, placement: Placement) -> GptSampler:
        from model.gpt.network import Gpt
        from model.gpt.sampler import GptSampler
        from model.loading import place

        network = place(Gpt(self.config.network), self.folder, placement)
        captions = load_captions(self.folder)
        return GptSampler(
            self.spec, network, self.tokenizer, captions, placement.tile, placement.mode
        )
