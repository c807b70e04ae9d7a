"""The families of image transformer: what the ``config.json`` of each holds, and what loads it.

A family is known by this table alone: checkpoints, engine and command line ask it and name none.
Imports no torch before a model is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from model.config import FlowConfig
from model.protocol import ImageModel, ModelSpec, Operation, Range, Solver
from model.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from torch import nn

    from model.passes import Mode

    N = TypeVar("N", bound=nn.Module)
    Place = Callable[[N], N]
    """Gives a network the checkpoint's weights, on the device and in the dtype that serve."""

FamilyName = Literal["flow"]


class CheckpointConfig(BaseModel):
    """``config.json``: what those of all families have, and what is asked of each."""

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
        self,
        place: Place[Any],
        spec: ModelSpec,
        tokenizer: PromptTokenizer,
        tile: int,
        mode: Mode,
    ) -> ImageModel[Any]:
        """The model that ``spec`` tells of; ``mode`` is how its passes run. Imports torch."""
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
        self,
        place: Place[Any],
        spec: ModelSpec,
        tokenizer: PromptTokenizer,
        tile: int,
        mode: Mode,
    ) -> ImageModel[Any]:
        from model.flow.network import FlowTransformer
        from model.flow.sampler import FlowSampler

        return FlowSampler(spec, place(FlowTransformer(self.network)), tokenizer, tile, mode)


FLOW_OPERATIONS: tuple[Operation, ...] = (
    "generate",
    "vary",
    "inpaint",
    "upscale",
    "colorize",
    "denoise",
)

FAMILIES: dict[FamilyName, type[CheckpointConfig]] = {"flow": FlowCheckpointConfig}


class _Head(BaseModel):
    """As much of a ``config.json`` as says which family's it is."""

    family: FamilyName


def parse_config(text: bytes) -> CheckpointConfig:
    """Reads a ``config.json``. Raises pydantic's ``ValidationError``."""
    return FAMILIES[_Head.model_validate_json(text).family].model_validate_json(text)
