"""What the engine asks of a model, and nothing more: the seam between ``app.engine`` and ``model``.

An image model can start a row, advance many rows by one step in passes of one fixed shape, and
show a row's picture at any time. The engine never learns which family it steps. This module
imports no torch, so that a process without torch can speak of models and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Operation = Literal[
    "generate", "walk", "vary", "inpaint", "upscale", "colorize", "denoise", "describe"
]
"""What a row does: ``generate`` and ``walk`` start from noise alone, the others from a `Source`.

``describe`` makes text of it, the others make a picture. A row of a walk is one of many pictures
that turn into one another: see ``RowRequest.turn``.
"""

Solver = Literal["euler", "heun"]

R = TypeVar("R", bound="Row")

SEEDS = 2**53
"""Seeds are integers from 0 up to this, exclusive: the integers that JavaScript holds exactly."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, both ends included, and what it is when it is not given."""

    low: float
    high: float
    default: float


@dataclass(frozen=True, slots=True)
class TokenRanges:
    """What a model that draws tokens takes: see `TokenSampling`."""

    temperature: Range
    top_k: Range
    top_p: Range


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What can be known of a checkpoint without running it."""

    id: str  # the checkpoint folder's name, e.g. "emoji-flow"
    family: str  # "flow", "gpt", "gan"
    size: int  # pixels along each side of its pictures
    channels: int  # 3 RGB, 4 RGBA
    steps: Range
    guidance: Range
    solver: Solver
    operations: tuple[Operation, ...]
    max_prompt_tokens: int
    digest: str  # hex SHA-256 over the checkpoint's files
    licence: str
    description: str
    tokens: TokenRanges | None = None  # None: it draws no tokens, and takes no `TokenSampling`


@dataclass(frozen=True, slots=True)
class Picture:
    """uint8 [height, width, channels], row by row from the top. RGBA is not premultiplied."""

    width: int
    height: int
    channels: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class Label:
    """A text, and how likely it is that it describes the picture, among those it stands with."""

    text: str
    probability: float  # those of one description sum to 1


@dataclass(frozen=True, slots=True)
class Description:
    """What a picture shows, in words."""

    caption: str
    labels: tuple[Label, ...]  # the most probable one first


Result = Picture | Description


@dataclass(frozen=True, slots=True)
class TokenSampling:
    """How tokens are drawn from the model's probabilities; first temperature, then the cuts."""

    temperature: float = 1.0  # below 1 likely tokens become likelier; 0 always takes the likeliest
    top_k: int = 0  # only from so many of the likeliest; 0: from all
    top_p: float = 1.0  # only from the likeliest that together are this probable


@dataclass(frozen=True, slots=True)
class Source:
    """The picture that a row starts from, fitted to the model: no other size is taken.

    ``picture`` has the model's size and channels. For ``upscale`` it is smaller by the factor, 2
    or 4; for ``colorize`` its colours count only by their brightness.
    """

    picture: Picture
    mask: bytes | None = None  # inpaint: uint8 [height, width], 255 is made anew, 0 is kept
    strength: float = 1.0  # vary, inpaint: 0 leaves the picture as it is, 1 starts from noise
    noise: float | None = None  # denoise: its deviation, of values 0…1; None is estimated


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One picture to make, with every default filled in. Equal requests make equal pictures."""

    prompt: str  # "" is unconditional
    seed: int  # 0 … SEEDS − 1
    steps: int
    guidance: float
    solver: Solver = "euler"
    operation: Operation = "generate"
    source: Source | None = None  # with every operation but "generate" and "walk"
    sampling: TokenSampling | None = None  # where the model's spec has ``tokens``
    labels: tuple[str, ...] = ()  # describe: what to choose from; (): what the model knows
    turn: float = 0.0  # walk: how much of the way around, 0…1; at ¼ is the next seed's noise

    @property
    def places(self) -> int:
        """The most places that a step of this row may take in a tile.

        Two with guidance, and for a description, which weighs two texts at once.
        """
        if self.operation == "describe":
            return 2
        return 2 if self.guidance != 1 and self.prompt.strip() else 1


class Row(Protocol):
    """One picture or text in the making. Plain data to the engine; tensors stay the model's."""

    @property
    def kind(self) -> str:
        """The kind of its next pass; only rows of one kind share a pass."""

    @property
    def evaluations(self) -> int:
        """Places that its next step takes in the tile: at most its request's ``places``."""

    @property
    def step(self) -> int:
        """Steps done, of the ``steps`` that were asked for."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def done(self) -> bool:
        """Whether `ImageModel.result` is final."""


class ImageModel(Protocol[R]):
    """A model on its device, with everything that its fixed shapes need already allocated."""

    spec: ModelSpec
    tile: int  # evaluations in every pass, full or not

    def start(self, request: RowRequest) -> R:
        """Allocates a row and draws its noise from its own seed; runs no network.

        Raises ``PromptTooLong`` (of `model.tokenizer`).
        """

    def step(self, rows: Sequence[R]) -> None:
        """Advances each row by one step, with one pass of ``tile`` evaluations for each kind.

        Raises ``ValueError`` if the rows of one kind need more than ``tile`` evaluations.
        """

    def result(self, row: R) -> Result:
        """The picture so far: final when ``row.done``, a preview before. Changes no row.

        A description for a row that describes, only when it is done.
        """

    def release(self, row: R) -> None:
        """Frees what the row holds. Called once or more for every row, however it ended."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a worker reports of a model once it can run."""

    spec: ModelSpec
    numerics: str  # short hash of all that may change bits, see `model.numerics`
    seed_exact: bool  # what the self-test found
    tile: int
    device: str  # e.g. "cpu (AMD EPYC, 2 threads)" or "cuda:0 (NVIDIA H200)"
    dtype: str  # "fp32", "bf16"
