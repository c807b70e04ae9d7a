"""What a gan's ``config.json`` holds, and what can be known of one without running it.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, field_serializer

from model.checkpoint import (
    CAPTIONS,
    CheckpointConfig,
    Placement,
    TokenizedCheckpoint,
    load_captions,
)
from model.flow.config import FlowConfig, Grain, TextConfig, spec_of, without_added
from model.spec import ModelSpec, Parameter

if TYPE_CHECKING:
    from model.gan.sampler import GanSampler


@dataclass(frozen=True, slots=True)
class GanConfig(FlowConfig):
    """The shape of a generator, which is a flow transformer's with a latent in place of noise.

    So a flow checkpoint's weights fit it, and what differs between the two is how they learn.
    """

    depth: int = 6
    latent: int = 256  # numbers that an image is made of, the same count for each patch
    refine_channels: int = 16  # of the convolutions over the whole image, at the end

    def __post_init__(self) -> None:
        FlowConfig.__post_init__(self)
        if self.latent % self.grid**2:
            raise ValueError(
                f"latent {self.latent} must be a multiple of the number of patches, {self.grid**2}"
            )


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """The shape of a discriminator of images [channels, image_size, image_size]."""

    image_size: int = 64
    channels: int = 4
    width: int = 48  # channels at half the image's size; twice as many at each halving
    layout_width: int = 512  # as in `FlowConfig`, but the layout is where it ends
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
        """From the image to the layout."""
        return (self.image_size // self.layout_size).bit_length() - 1

    @property
    def features(self) -> int:
        """Channels at the end."""
        return self.width << (self.halvings - 1)


class GanCheckpointConfig(CheckpointConfig):
    """``config.json``. An image takes one pass, and there is nothing to set."""

    family: Literal["gan"] = "gan"
    network: GanConfig
    grain: Grain = 0.0

    @field_serializer("network", mode="wrap")
    def _without_added(
        self, network: GanConfig, usual: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return without_added(usual(network))

    @property
    def vocabulary(self) -> int:
        return self.network.text.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        parameters = (
            Parameter("steps", 1, 1, 1, 1, "An image is drawn in one pass."),
            Parameter("guidance", 1, 1, 1, 0.1, "A generator has no guidance: 1."),
        )
        return spec_of(self, self.network, id, digest, parameters, ("generate", "walk"))


class GanCheckpoint(TokenizedCheckpoint[GanCheckpointConfig]):
    """See `model.checkpoint.Checkpoint`."""

    config_type = GanCheckpointConfig
    more_files: ClassVar[tuple[str, ...]] = (CAPTIONS,)

    def build(self, placement: Placement) -> GanSampler:
        from model.gan.network import Generator
        from model.gan.sampler import GanSampler
        from model.loading import place

        network = place(Generator(self.config.network), self.folder, placement)
        captions = load_captions(self.folder)
        return GanSampler(
            self.spec,
            network,
            self.tokenizer,
            captions,
            placement.tile,
            placement.mode,
            self.config.grain,
        )
