"""The shapes of networks, as ``config.json`` holds them. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The shape of a prompt encoder."""

    vocabulary: int = 2048
    width: int = 256
    depth: int = 2
    heads: int = 4
    summary: int = 4  # tokens that carry the prompt into the image model
    max_tokens: int = 64


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """The shape of a flow transformer. Pictures are [channels, image_size, image_size]."""

    image_size: int = 64
    patch_size: int = 8
    channels: int = 4
    width: int = 256
    depth: int = 8
    heads: int = 4
    layout_width: int = 512  # hidden width of the network that lays a prompt out
    layout_size: int = 8  # the layout is [layout_channels, layout_size, layout_size]
    layout_channels: int = 48
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if self.layout_size % self.grid:
            raise ValueError(
                f"layout_size {self.layout_size} must be a multiple of image_size / patch_size "
                f"= {self.grid}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The shape of a codec: a picture is grid × grid places with ``codes`` codes at each."""

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
        """Places of a picture, numbered row by row."""
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
        """Tokens of the longest sequence: a picture, a text, and a mark before each."""
        return self.codec.places + self.max_tokens + 2


@dataclass(frozen=True, slots=True)
class GanConfig(FlowConfig):
    """The shape of a generator, which is a flow transformer's with a latent in place of noise.

    So a flow checkpoint's weights fit it, and what differs between the two is how they learn.
    """

    depth: int = 6
    latent: int = 256  # numbers that a picture is made of, the same count for each patch
    refine_channels: int = 16  # of the convolutions over the whole picture, at the end

    def __post_init__(self) -> None:
        FlowConfig.__post_init__(self)
        if self.latent % self.grid**2:
            raise ValueError(
                f"latent {self.latent} must be a multiple of the number of patches, {self.grid**2}"
            )


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """The shape of a critic of pictures [channels, image_size, image_size]."""

    image_size: int = 64
    channels: int = 4
    width: int = 48  # channels at half the picture's size; twice as many at each halving
    layout_width: int = 512  # as in `FlowConfig`, but the layout is where the critic ends
    layout_size: int = 8
    layout_channels: int = 48
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        halvings = (self.image_size // self.layout_size).bit_length() - 1
        if halvings < 1 or self.layout_size << halvings != self.image_size:
            raise ValueError(
                f"image_size {self.image_size} must be layout_size {self.layout_size} doubled, "
                "once or more"
            )

    @property
    def halvings(self) -> int:
        """From the picture to the layout."""
        return (self.image_size // self.layout_size).bit_length() - 1

    @property
    def features(self) -> int:
        """Channels at the end."""
        return self.width << (self.halvings - 1)
