"""The families of image transformer: what the ``config.json`` of each holds, and what loads it.

A family is known by this table alone: checkpoints, engine and command line ask it and name none.
Imports no torch before a model is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from model.captions import CAPTIONS, load_captions
from model.config import FlowConfig, GanConfig, GptConfig
from model.protocol import ImageModel, ModelSpec, Operation, Range, Solver, TokenRanges

if TYPE_CHECKING:
    from torch import nn

    from model.checkpoint import Checkpoint
    from model.passes import Mode

    N = TypeVar("N", bound=nn.Module)
    Place = Callable[[N], N]
    """Gives a network the checkpoint's weights, on the device and in the dtype that serve."""

FamilyName = Literal["flow", "gpt", "gan"]


class CheckpointConfig(BaseModel):
    """``config.json``: what those of all families have, and what is asked of each."""

    more_files: ClassVar[tuple[str, ...]] = ()
    """Files of the folder beside those of `model.checkpoint.FILES`."""

    tiles: ClassVar[Mapping[str, int]] = {"cpu": 8, "cuda": 32}
    """Evaluations in every pass unless told otherwise, by the type of the device."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    family: FamilyName
    description: str
    licence: str

    @property
    def vocabulary(self) -> int:
        """Prompt tokens that the network has room for."""
        raise NotImplementedError

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002 - the field's name
        """What can be known of the model without running it."""
        raise NotImplementedError

    def model(
        self, checkpoint: Checkpoint, place: Place[Any], tile: int, mode: Mode
    ) -> ImageModel[Any]:
        """The model of ``checkpoint``, whose config this is. Imports torch.

        ``mode`` is how its passes run.
        """
        raise NotImplementedError


class SamplingConfig(BaseModel):
    """How flow draws when a request does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=1)] = 20
    max_steps: Annotated[int, Field(ge=1)] = 100
    guidance: Annotated[float, Field(ge=0)] = 2.0
    max_guidance: Annotated[float, Field(ge=0)] = 10.0
    solver: Solver = "euler"


class FlowCheckpointConfig(CheckpointConfig):
    """Flow: noise to picture, a denoising step at a time."""

    family: Literal["flow"] = "flow"
    network: FlowConfig
    sampling: SamplingConfig = SamplingConfig()

    @property
    def vocabulary(self) -> int:
        return self.network.text.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        sampling = self.sampling
        return ModelSpec(
            id=id,
            family=self.family,
            size=self.network.image_size,
            channels=self.network.channels,
            steps=Range(1, sampling.max_steps, sampling.steps),
            guidance=Range(0, sampling.max_guidance, sampling.guidance),
            solver=sampling.solver,
            operations=FLOW_OPERATIONS,
            max_prompt_tokens=self.network.text.max_tokens,
            digest=digest,
            licence=self.licence,
            description=self.description,
        )

    def model(
        self, checkpoint: Checkpoint, place: Place[Any], tile: int, mode: Mode
    ) -> ImageModel[Any]:
        from model.flow.network import FlowTransformer
        from model.flow.sampler import FlowSampler

        network = place(FlowTransformer(self.network))
        return FlowSampler(checkpoint.spec, network, checkpoint.tokenizer, tile, mode)


class GptSamplingConfig(BaseModel):
    """How gpt draws when a request does not say. Its guidance: `model.gpt.passes.guided`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    guidance: Annotated[float, Field(ge=1)] = 2.0
    max_guidance: Annotated[float, Field(ge=1)] = 10.0
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0


class GptCheckpointConfig(CheckpointConfig):
    """Gpt: text and the codes of pictures in one sequence, a place of the picture at a time."""

    more_files: ClassVar[tuple[str, ...]] = (CAPTIONS,)
    tiles: ClassVar[Mapping[str, int]] = {"cpu": 16, "cuda": 32}  # a step's evaluations are small

    family: Literal["gpt"] = "gpt"
    network: GptConfig
    sampling: GptSamplingConfig = GptSamplingConfig()

    @property
    def vocabulary(self) -> int:
        return self.network.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        sampling, codec = self.sampling, self.network.codec
        return ModelSpec(
            id=id,
            family=self.family,
            size=codec.image_size,
            channels=codec.channels,
            steps=Range(codec.places, codec.places, codec.places),
            guidance=Range(1, sampling.max_guidance, sampling.guidance),
            solver="euler",
            operations=("generate", "inpaint", "describe"),
            max_prompt_tokens=self.network.max_tokens,
            digest=digest,
            licence=self.licence,
            description=self.description,
            tokens=TokenRanges(
                temperature=Range(0, 2, sampling.temperature),
                top_k=Range(0, codec.values, sampling.top_k),
                top_p=Range(0, 1, sampling.top_p),
            ),
        )

    def model(
        self, checkpoint: Checkpoint, place: Place[Any], tile: int, mode: Mode
    ) -> ImageModel[Any]:
        from model.gpt.network import Gpt
        from model.gpt.sampler import GptSampler

        captions = load_captions(checkpoint.folder)
        network = place(Gpt(self.network))
        return GptSampler(checkpoint.spec, network, checkpoint.tokenizer, captions, tile, mode)


class GanCheckpointConfig(CheckpointConfig):
    """Gan: a picture in one pass. There is nothing to set when drawing."""

    more_files: ClassVar[tuple[str, ...]] = (CAPTIONS,)

    family: Literal["gan"] = "gan"
    network: GanConfig

    @property
    def vocabulary(self) -> int:
        return self.network.text.vocabulary

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002
        return ModelSpec(
            id=id,
            family=self.family,
            size=self.network.image_size,
            channels=self.network.channels,
            steps=Range(1, 1, 1),
            guidance=Range(1, 1, 1),
            solver="euler",
            operations=("generate", "walk"),
            max_prompt_tokens=self.network.text.max_tokens,
            digest=digest,
            licence=self.licence,
            description=self.description,
        )

    def model(
        self, checkpoint: Checkpoint, place: Place[Any], tile: int, mode: Mode
    ) -> ImageModel[Any]:
        from model.gan.network import Generator
        from model.gan.sampler import GanSampler

        network = place(Generator(self.network))
        captions = load_captions(checkpoint.folder)
        return GanSampler(checkpoint.spec, network, checkpoint.tokenizer, captions, tile, mode)


FLOW_OPERATIONS: tuple[Operation, ...] = (
    "generate",
    "walk",
    "vary",
    "inpaint",
    "upscale",
    "colorize",
    "denoise",
)

FAMILIES: dict[FamilyName, type[CheckpointConfig]] = {
    "flow": FlowCheckpointConfig,
    "gpt": GptCheckpointConfig,
    "gan": GanCheckpointConfig,
}


class _Head(BaseModel):
    """As much of a ``config.json`` as says which family's it is."""

    family: FamilyName


def parse_config(text: bytes) -> CheckpointConfig:
    """Reads a ``config.json``. Raises pydantic's ``ValidationError``."""
    return FAMILIES[_Head.model_validate_json(text).family].model_validate_json(text)
