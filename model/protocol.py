"""What the engine asks of a model, and nothing more: the seam between ``app.engine`` and ``model``.

An image model can start a row, advance many rows by one step in passes of fixed shapes, and show a
row's image. The engine never learns which family it steps: what a model takes is data, its
`model.spec.ModelSpec`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from model.request import ImageRequest, Picture
from model.runtime.rungs import Rungs
from model.spec import ModelSpec

R = TypeVar("R", bound="ModelRow")


@dataclass(frozen=True, slots=True)
class Label:
    """A text, and how likely it is that it describes the image, among those it stands with."""

    text: str
    probability: float  # those of one description sum to 1


@dataclass(frozen=True, slots=True)
class Description:
    """What an image shows, in words."""

    caption: str
    labels: tuple[Label, ...]  # the most probable one first


Result = Picture | Description


class RowFailed(Exception):
    """One row ended without a result; the others go on. ``str()`` says why.

    ``refused`` where its request is the reason, so that no repetition helps.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Pass:
    """What was computed at once: ``evaluations`` of rows, of a ``size``; the rest is padding."""

    kind: str
    evaluations: int
    size: int


class ModelRow(Protocol):
    """One image or text in the making. Plain data to the engine; tensors stay the model's."""

    @property
    def kind(self) -> str:
        """The kind of its next pass, e.g. "encode", "denoise", "decode"; only rows of one kind
        share a pass."""

    @property
    def evaluations(self) -> int:
        """Evaluations that its next pass takes: at most ``ImageModel.cost`` of its request."""

    @property
    def step(self) -> int:
        """Steps done, of ``steps``. Passes that encode or decode need not count."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def done(self) -> bool:
        """Whether `ImageModel.result` is final."""


class ImageModel(Protocol[R]):
    """A model on its device, with everything that its fixed shapes need already allocated."""

    spec: ModelSpec
    tile: int  # the most evaluations in a pass of the network
    rungs: Rungs  # which sizes passes have; those of the tile's bits, as the self-test settles
    slots: int  # evaluations of all rows under way, see `in_turn`

    def cost(self, request: ImageRequest) -> int:
        """The most evaluations that one pass of the request's row takes."""

    def capacity(self, kind: str) -> int:
        """Evaluations of this kind that a step takes: ``tile``, in one pass, or fewer, each in a
        pass of its own, e.g. where texts are encoded or images are decoded one at a time."""

    def start(self, request: ImageRequest) -> R:
        """Allocates a row and draws its noise from its own seed; runs no network.

        Raises ``ValueError`` (`model.tokenizer.PromptTooLong` among them) for a request that it
        does not take.
        """

    def step(self, rows: Sequence[R]) -> Sequence[Pass]:
        """Advances each row by one pass, which those of one kind share (see `capacity`). Returns
        the passes that it took.

        Raises ``ValueError`` if the rows of one kind need more than its ``capacity``.
        """

    def preview(self, row: R) -> None:
        """Asks for the row's image as it stands now.

        Where that takes a network, the row's next pass is of kind "decode"; `result` shows the
        preview as soon as ``row.kind`` is not (or no longer) "decode". Changes no final pixels.
        """

    def result(self, row: R) -> Result:
        """The image as last decoded: final when ``row.done``. Runs no network, changes no row.

        A description for a row that describes, only when it is done. Raises `RowFailed` for a row
        that is done because it failed by itself, without harm to others.
        """

    def release(self, row: R) -> None:
        """Frees what the row holds. Called once or more for every row, however it ended."""


def in_turn(tile: int, slots: int) -> int:
    """Evaluations of the rows that are under way in the order in which they are due: half of the
    slots, and at least a tile. The other slots are for more urgent rows that come meanwhile."""
    return max(tile, slots // 2)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a worker reports of a model once it can run."""

    spec: ModelSpec
    numerics: str  # short hash of all that may change bits, see `model.runtime.numerics`
    seed_exact: bool  # what the self-test found
    tile: int
    slots: int
    device: str  # e.g. "cpu (AMD EPYC, 2 threads)" or "cuda:0 (NVIDIA H200)"
    dtype: str  # "fp32", "bf16"
    slowest: float = 0.0  # seconds of the self-test's slowest step
    rungs: tuple[int, ...] = ()  # sizes of passes, ascending, up to the tile
