"""What a flow's ``config.json`` holds, and what can be known of one without running it.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_validator,
)

from model.checkpoint import (
    CAPTIONS,
    CheckpointConfig,
    Placement,
    TokenizedCheckpoint,
    check_shape,
    load_captions,
)
from model.flow.windows import Size, corners
from model.request import ImageRequest, Operation
from model.sizes import Sizes
from model.spec import ModelSpec, Parameter

if TYPE_CHECKING:
    from model.flow.sampler import FlowSampler


OPERATIONS: tuple[Operation, ...] = (
    *("generate", "walk", "vary", "inpaint", "upscale", "colorize", "denoise"),
)
"""What one network does, see docs/transform.md."""

UPSCALED = 512
"""Pixels along each side to which images are upscaled, in windows of the native size."""

IN_WINDOWS = 2
"""Evaluations in a pass of a row whose image is larger than the network's."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The shape of a prompt encoder."""

    vocabulary: int = 2048
    width: int = 256
    depth: int = 2
    heads: int = 4
    summary: int = 4  # tokens that carry the prompt into the image model
    max_tokens: int = 64
    frozen_channels: int = 0  # of `model.layers.FrozenEmbedding`; 0: embeddings are trained


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """The shape of a flow transformer. Images are [channels, image_size, image_size]."""

    image_size: int = 64
    patch_size: int = 8
    channels: int = 4
    width: int = 256
    depth: int = 8
    heads: int = 4
    layout_width: int = 512  # hidden width of the network that lays a prompt out
    layout_size: int = 8  # the layout is [layout_channels, layout_size, layout_size]
    layout_channels: int = 48
    detail_width: int = 0  # hidden width of a second way from a token to its patch; 0: none
    polish_channels: int = 0  # of convolutions over the whole image, at the end; 0: none
    enlarged: float = 0  # times that images are larger than where training began; 0: as large
    concepts: tuple[int, ...] = ()  # how many of each kind prompts are read as; (): none
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        check_shape(self, may_be_none=("detail_width", "polish_channels", "enlarged"))
        if not 0 <= self.enlarged < math.inf:
            raise ValueError(f"enlarged is {self.enlarged}, 0 or more is needed")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if min(self.concepts, default=1) < 1 or len(self.concepts) > self.text.summary:
            raise ValueError(
                f"concepts is {list(self.concepts)}: at most {self.text.summary} numbers above 0 "
                "are accepted, one for each summary token"
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


Grain = Annotated[float, Field(ge=0, exclude_if=lambda variance: variance == 0)]
"""What of an image is smoothed, see `model.runtime.smoothing.without_grain`; 0: nothing."""


class SamplingConfig(BaseModel):
    """How flow draws when a request does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=1)] = 20
    steps_for: dict[Operation, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, exclude_if=lambda steps: not steps
    )
    """Of operations that take another number than ``steps``."""

    max_steps: Annotated[int, Field(ge=1)] = 100
    guidance: Annotated[float, Field(ge=0)] = 2.0
    max_guidance: Annotated[float, Field(ge=0)] = 10.0
    solver: Literal["euler", "heun"] = "euler"
    spacing: Annotated[float, Field(gt=0, le=10, exclude_if=lambda power: power == 1)] = 1.0
    """Of times, see `model.flow.solver.Trajectory`."""

    grain: Grain = 0.0

    likeliest: Annotated[bool, Field(exclude_if=lambda one: not one)] = False
    """Of a network that knows concepts: whether a prompt is read as the likeliest of each kind,
    rather than as a mixture of what it may mean, see `model.flow.concepts.ConceptMemory`."""


ADDED = ("detail_width", "polish_channels", "enlarged", "concepts", "frozen_channels")
"""What older checkpoints are without."""


class FlowCheckpointConfig(CheckpointConfig):
    """``config.json``."""

    family: Literal["flow"] = "flow"
    network: FlowConfig
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _has_concepts_to_choose_from(self) -> Self:
        if self.sampling.likeliest and not self.network.concepts:
            raise ValueError("sampling.likeliest is for networks with concepts, this has none")
        return self

    @field_serializer("network", mode="wrap")
    def _without_added(
        self, network: FlowConfig, usual: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return without_added(usual(network))

    @property
    def vocabulary(self) -> int:
        return self.network.text.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        """See `CheckpointConfig.spec`."""
        return spec_of(self, self.network, id, digest, _parameters(self.sampling), OPERATIONS)


def without_added(network: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out what of `ADDED` a network does without: its file stays as it was."""
    return {
        name: without_added(value) if isinstance(value, Mapping) else value
        for name, value in network.items()
        if value or name not in ADDED
    }


def spec_of(
    config: CheckpointConfig,
    network: FlowConfig,
    id: str,  # noqa: A002
    digest: str,
    parameters: tuple[Parameter, ...],
    operations: tuple[Operation, ...],
) -> ModelSpec:
    """The spec of a network of this shape."""
    return ModelSpec(
        id=id,
        sizes=Sizes(
            network.image_size,
            network.image_size,
            upscaled=max(UPSCALED, network.image_size) if "upscale" in operations else 0,
        ),
        channels=network.channels,
        parameters=parameters,
        operations=operations,
        max_prompt_tokens=network.text.max_tokens,
        digest=digest,
        **config.about,
    )


def _parameters(sampling: SamplingConfig) -> tuple[Parameter, ...]:
    order = 1 if sampling.solver == "euler" else 2
    steps = "Denoising steps. More take longer and draw finer detail."
    guidance = (
        "Classifier-free guidance scale: more follows the prompt more closely. 1 is without, in "
        "half the time."
    )
    solver_order = "1 is Euler's method, 2 Heun's, which takes twice as long for a step."
    strength = "How far to go from the image given; 1 starts from nothing but noise."
    noise = (
        "The noise's standard deviation, where black is 0 and white is 1. Estimated where it is "
        "not given."
    )
    return (
        Parameter(
            *("steps", 1, sampling.max_steps, sampling.steps, 1, steps),
            defaults=sampling.steps_for,
        ),
        Parameter("guidance", 0, sampling.max_guidance, sampling.guidance, 0.1, guidance),
        Parameter("solver_order", 1, 2, order, 1, solver_order),
        # Closer to the image than 0.01, a time is no different from 1, where the line ends.
        Parameter("strength", 0.01, 1, 1, 0.01, strength, ("vary", "inpaint")),
        Parameter("noise", 0, 1, None, 0.01, noise, ("denoise",)),
    )


def of_window(request: ImageRequest) -> int:
    """Evaluations of an image or a window of it: with guidance, an unconditional one as well."""
    return 2 if request.value("guidance", 1) != 1 and request.prompt.strip() else 1


def cost(request: ImageRequest, native: Size) -> int:
    """Evaluations of a pass. Of an image in windows two, which any tile holds: so others share its
    passes however many windows it has."""
    return of_window(request) if (request.width, request.height) == native else IN_WINDOWS


class FlowCheckpoint(TokenizedCheckpoint[FlowCheckpointConfig]):
    """See `model.checkpoint.Checkpoint`."""

    config_type = FlowCheckpointConfig
    optional_files: ClassVar[tuple[str, ...]] = (CAPTIONS,)

    def cost(self, request: ImageRequest) -> int:
        return cost(request, self.spec.sizes.native)

    def evaluations(self, request: ImageRequest) -> int:
        """See `Checkpoint.evaluations`. A step of the second order takes two velocities, each of
        every window."""
        windows = corners((request.width, request.height), self.spec.sizes.native)
        velocities = int(request.value("steps")) * int(request.value("solver_order"))
        return velocities * len(windows) * of_window(request)

    @property
    def captions(self) -> list[str]:
        """What is drawn where nothing is asked for; there may be none. Raises `CheckpointError`."""
        return load_captions(self.folder) if (self.folder / CAPTIONS).exists() else []

    def build(self, placement: Placement) -> FlowSampler:
        from model.flow.network import FlowTransformer
        from model.flow.sampler import FlowSampler
        from model.loading import place

        network = place(FlowTransformer(self.config.network), self.folder, placement)
        return FlowSampler(
            self.spec,
            network,
            self.tokenizer,
            placement.tile,
            placement.mode,
            self.captions,
            self.config.sampling,
        )
