"""What the engine asks of a model, and nothing more: the seam between ``app.engine`` and ``model``.

An image model can start a row, advance many rows by one step in passes of fixed shapes, and show a
row's image. The engine never learns which family it steps: ranges, sizes and costs are data. This
module imports no torch, so that a process without torch can speak of models and requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil, floor, log, sqrt
from typing import Protocol, TypeVar, get_args

from model.request import FACTORS, ImageRequest, InvalidField, Operation, Picture, Source
from model.runtime.rungs import Rungs

R = TypeVar("R", bound="ModelRow")

DRAWING: tuple[Operation, ...] = tuple(
    operation for operation in get_args(Operation) if operation != "describe"
)
"""Operations that make an image."""


RESERVED = frozenset(
    {
        *("prompt", "negative_prompt", "model", "seed", "n", "size", "walk", "format", "quality"),
        *("background", "previews", "operation", "image", "mask", "labels", "factor"),
        *("left", "top", "right", "bottom", "numerics", "expires", "signature", "lora"),
        *("out", "device", "dtype"),
    }
)
"""Names of other fields of requests and options of commands, which no parameter may have."""

LORA_SCALE = "lora_scale"
"""The parameter of models with adapters that means nothing without one."""

FARTHEST_ASPECT = 1.05
"""By which factor an image's aspect may be beyond those that are drawn, see `Sizes.nearest`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a model takes, such as steps, guidance or top_p.

    This table is all that the API, its OpenAPI document, the command line, ``GET /v1/models`` and
    the page know of it.
    """

    name: str
    minimum: float  # the least that is accepted
    maximum: float  # the most that is accepted
    default: float | None  # where none is given; None leaves it to the model, e.g. an estimate
    step: float  # between two values of a control; 1 makes it a whole number
    description: str  # one or two sentences for people
    operations: tuple[Operation, ...] = DRAWING  # where it means something
    defaults: Mapping[Operation, float] = field(default_factory=dict)  # where not ``default``

    def __post_init__(self) -> None:
        if self.name in RESERVED or not self.name.isidentifier():
            raise ValueError(f"{self.name!r} cannot be a parameter's name")

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers only."""
        return self.step == 1

    def default_for(self, operation: Operation) -> float | None:
        """The default of an operation."""
        return self.defaults.get(operation, self.default)

    @property
    def default_text(self) -> str:
        """For people: "2", "2, or 6 to upscale or inpaint"; empty where the model decides."""
        alike: dict[float, list[str]] = {}
        for operation, default in self.defaults.items():
            alike.setdefault(default, []).append(operation)
        texts = [] if self.default is None else [f"{self.default:g}"]
        for default, (*others, last) in alike.items():
            texts.append(f"{default:g} to " + " or ".join(filter(None, (", ".join(others), last))))
        return ", or ".join(texts)

    def among(self, operations: Collection[Operation]) -> Parameter:
        """The same for those of its operations alone."""
        return replace(
            self,
            operations=tuple(one for one in self.operations if one in operations),
            defaults={one: value for one, value in self.defaults.items() if one in operations},
        )

    def check(self, value: float) -> float:
        """The value, whole where it has to be. Raises `InvalidField`."""
        low, high = f"{self.minimum:g}", f"{self.maximum:g}"
        accepted = low if low == high else f"{low} to {high}"
        if not self.minimum <= value <= self.maximum:  # NaN is not between them either
            raise InvalidField(self.name, f"{value:g} was given, {accepted} is accepted")
        if self.whole and value != int(value):
            message = f"{value:g} was given, a whole number, {accepted}, is accepted"
            raise InvalidField(self.name, message)
        return float(value)


@dataclass(frozen=True, slots=True)
class Style:
    """A style that a model knows, and what a prompt ends with to ask for it."""

    name: str  # e.g. "fluent 3d"
    label: str  # for people: "Fluent 3D"
    prompt: str  # the end of an English prompt: ", fluent 3d style"
    chinese: str  # the end of a Chinese one: "，fluent 3d 风格"

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name).strip():
                raise ValueError(f"{one.name} is empty")


def aspect_of(width: int, height: int) -> float:
    """The longer side as a multiple of the shorter one."""
    return max(width, height) / min(width, height)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which images a model draws, in pixels: width x height.

    Beside the native size, those of ``others``, and, where ``multiple`` is not 0, all whose sides
    are multiples of it from ``low`` to ``high`` with at most ``pixels`` in all. An answer of any
    other size is resampled from the native one, but only where there is no ``multiple``: then
    requests have what they ask for, or are refused.
    """

    width: int  # the native size
    height: int
    others: tuple[tuple[int, int], ...] = ()
    multiple: int = 0
    low: int = 0
    high: int = 0
    pixels: int = 0
    upscaled: int = 0  # along each side, the most that "upscale" makes; 0: the native size

    @property
    def native(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def listed(self) -> tuple[tuple[int, int], ...]:
        """Those that are named one by one, the native size first."""
        return self.native, *self.others

    @property
    def several(self) -> bool:
        """Whether there are more than the native one."""
        return bool(self.others or self.multiple)

    @property
    def longest(self) -> int:
        """Pixels along the longest side that is drawn."""
        return max(self.high if self.multiple else 0, *map(max, self.listed))

    @property
    def most(self) -> int:
        """Pixels of the largest image that is drawn."""
        listed = (width * height for width, height in self.listed)
        return max(self.pixels if self.multiple else 0, *listed)

    @property
    def smallest(self) -> tuple[int, int]:
        """A small one that is drawn, for tests of the model."""
        return (self._shortest,) * 2 if self.multiple else self.native

    def allow(self, width: int, height: int) -> bool:
        """Whether the model draws this size."""
        if (width, height) in self.listed:
            return True
        return (
            bool(self.multiple)
            and all(
                side % self.multiple == 0 and self.low <= side <= self.high
                for side in (width, height)
            )
            and width * height <= self.pixels
        )

    def upscales_to(self, width: int, height: int) -> bool:
        """Whether "upscale" makes this size: the native one, or a larger one up to `upscaled`."""
        return all(
            native <= side <= max(native, self.upscaled)
            for native, side in zip(self.native, (width, height), strict=True)
        )

    def upscaled_from(self, width: int, height: int, factor: int) -> tuple[int, int] | None:
        """What "upscale" draws of an image of this size: the native size where the result fits into
        it, else one with room for it; None where that would be too large."""
        size = max(self.width, factor * width), max(self.height, factor * height)
        return size if self.upscales_to(*size) else None

    def drawn(self, width: int, height: int) -> tuple[int, int] | None:
        """The size to draw for an answer of this size: itself where the model draws it, else the
        native one where that is resampled; None for what cannot be answered."""
        if self.allow(width, height):
            return width, height
        resampled = not self.multiple and width * self.height == height * self.width
        return self.native if resampled else None

    def nearest(self, width: int, height: int) -> tuple[int, int]:
        """The size to draw for an image of this size: of its aspect as nearly as there is one, and
        of about as many pixels as the native size.

        Raises:
            InvalidField: the aspect is beyond those that multiples have. (Where there are none,
                the nearest of the listed sizes is always good enough: something lies around.)
        """

        def order(size: tuple[int, int]) -> tuple[float, float]:
            stretch = abs(log(size[0] * height / (size[1] * width)))
            return round(stretch, 9), abs(log(size[0] * size[1] / (self.width * self.height)))

        if self.multiple and aspect_of(width, height) > FARTHEST_ASPECT * self.widest:
            raise InvalidField(
                "image",
                f"has {width} x {height} pixels; at most {self.widest:.3g} times as long as wide "
                f"can be drawn ({self})",
            )
        return min((*self.listed, *self._multiples_near(width, height)), key=order)

    @property
    def widest(self) -> float:
        """The longest side that is drawn beside a short one, as a multiple of that."""
        listed = max(aspect_of(*size) for size in self.listed)
        if not self.multiple:
            return listed
        short = self._shortest
        long = floor(min(self.high, self.pixels / short) / self.multiple) * self.multiple
        return max(listed, long / short)

    @property
    def _shortest(self) -> int:
        return ceil(max(self.low, 1) / self.multiple) * self.multiple

    def _multiples_near(self, width: int, height: int) -> Iterator[tuple[int, int]]:
        """Those about the point of this aspect with the native number of pixels, or as near to it
        as the bounds allow."""
        if not self.multiple:
            return
        aspect = aspect_of(width, height)
        ideal = min(sqrt(self.width * self.height / aspect), self.high / aspect)
        for short in self._about(ideal, self._shortest, min(self.high, sqrt(self.pixels))):
            for long in self._about(short * aspect, short, min(self.high, self.pixels / short)):
                size = (long, short) if width >= height else (short, long)
                if self.allow(*size):
                    yield size

    def _about(self, side: float, low: int, high: float) -> set[int]:
        """The multiples below and above, within bounds."""
        most = floor(high / self.multiple)
        return {
            min(max(steps, low // self.multiple), most) * self.multiple
            for steps in (floor(side / self.multiple), ceil(side / self.multiple))
        }

    def __str__(self) -> str:
        """What is accepted, for people."""
        listed = ", ".join(f"{width}x{height}" for width, height in self.listed)
        if not self.multiple:
            shape = "squares" if self.width == self.height else f"{self.width}:{self.height}"
            return f"{listed}, resampled for other {shape}"
        return (
            f"{listed}, or multiples of {self.multiple} from {self.low} to {self.high} "
            f"with at most {self.pixels} pixels"
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What can be known of a checkpoint without running it."""

    id: str  # the checkpoint folder's name, e.g. "emoji-flow"
    family: str  # "flow", "gpt", "gan", …
    sizes: Sizes
    channels: int  # 3 RGB, 4 RGBA
    parameters: tuple[Parameter, ...]
    operations: tuple[Operation, ...]
    max_prompt_tokens: int
    digest: str  # hex SHA-256 over the checkpoint's files
    license: str
    description: str
    description_chinese: str = ""  # the same in Chinese, or empty
    negative_prompt: bool = False  # whether it takes one
    images: int = 1  # the most images that one edit takes
    loras: tuple[str, ...] = ()  # adapters that a request may name
    styles: tuple[Style, ...] = ()  # the first is the one that the page begins with
    examples: tuple[str, ...] = ()  # prompts that show what it draws, in any language

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """The parameters, each with those of its operations that the model has."""
        return tuple(
            own
            for parameter in self.parameters
            if (own := parameter.among(self.operations)).operations
        )

    def parameter(self, name: str, operation: Operation = "generate") -> Parameter | None:
        """The parameter of that name, if it means something to the operation."""
        for parameter in self.parameters:
            if parameter.name == name and operation in parameter.operations:
                return parameter
        return None

    def fill(
        self,
        given: Mapping[str, float],
        operation: Operation = "generate",
        *,
        lora: str = "",
    ) -> tuple[tuple[str, float], ...]:
        """All parameters of the operation, those that are not given by default; sorted by name.

        The scale of an adapter is left out where none is named, so that it makes no difference.

        Raises:
            InvalidField: one is out of its range, or means nothing here.
        """
        known = {one.name: one for one in self.parameters if operation in one.operations}
        for name in given:
            if name not in known:
                raise InvalidField(name, self._meaningless(name, operation, known))
        values = {
            name: one.check(given[name]) if name in given else one.default_for(operation)
            for name, one in known.items()
        }
        if not lora:
            values.pop(LORA_SCALE, None)
        return tuple(
            sorted((name, float(value)) for name, value in values.items() if value is not None)
        )

    def request(
        self,
        prompt: str = "",
        seed: int = 0,
        *,
        operation: Operation = "generate",
        size: tuple[int, int] | None = None,
        negative_prompt: str = "",
        source: Source | None = None,
        labels: Sequence[str] = (),
        phase: float = 0.0,
        lora: str = "",
        **given: float,
    ) -> ImageRequest:
        """A request with every default filled in. Raises `InvalidField`."""
        if negative_prompt and not self.negative_prompt:
            raise InvalidField("negative_prompt", f"means nothing to {self.id}")
        width, height = size or self.sizes.native
        self._check_size(operation, width, height)
        self.check_lora(lora)
        return ImageRequest(
            model=self.id,
            prompt=prompt,
            seed=seed,
            width=width,
            height=height,
            parameters=self.fill(given, operation, lora=lora),
            operation=operation,
            negative_prompt=negative_prompt,
            source=source,
            labels=tuple(labels),
            phase=phase,
            lora=lora,
        )

    def check_lora(self, name: str) -> None:
        """Raises `InvalidField` for an adapter that the model does not have."""
        if name and name not in self.loras:
            has = f"it has {', '.join(self.loras)}" if self.loras else "it has none"
            message = f"{self.id} has no adapter {name!r}; {has}"
            raise InvalidField("lora", message, code="lora_not_found")

    def check(self, request: ImageRequest) -> None:
        """Whether a row can start from it: operation, size, source and mask. The parameters are
        `fill`'s. Raises `InvalidField`."""
        operation, size = request.operation, (request.width, request.height)
        if operation not in self.operations:
            raise InvalidField("operation", f"{self.id} cannot {operation}")
        self._check_size(operation, *size)
        source = request.source
        if (source is None) != (operation in ("generate", "walk")):
            takes = "takes an image, none was given" if source is None else "takes no image"
            raise InvalidField("image", f"{operation} {takes}")
        if source is None:
            return
        picture = source.picture
        if picture.channels != self.channels:
            message = f"an image of {picture.channels} channels, {self.id} has {self.channels}"
            raise InvalidField("image", message)
        if 1 + len(source.others) > (self.images if operation == "edit" else 1):
            message = f"{1 + len(source.others)} images, {operation} takes at most {self.images}"
            raise InvalidField("image", message)
        if operation == "edit":
            return
        fits = [size]
        if operation == "upscale":
            factors = [factor for factor in FACTORS if not any(side % factor for side in size)]
            fits = [(size[0] // factor, size[1] // factor) for factor in factors]
        if (picture.width, picture.height) not in fits:
            takes = " or ".join(f"{width}x{height}" for width, height in fits)
            message = f"an image of {picture.width}x{picture.height}, {operation} takes {takes}"
            raise InvalidField("image", message)
        if (operation == "inpaint") != (source.mask is not None):
            raise InvalidField("mask", "inpaint takes a mask, and nothing else does")
        if source.mask is not None and len(source.mask) != size[0] * size[1]:
            message = f"a mask of {len(source.mask)} pixels, not of {size[0]}x{size[1]}"
            raise InvalidField("mask", message)

    def _check_size(self, operation: Operation, width: int, height: int) -> None:
        if operation == "upscale" and self.sizes.upscales_to(width, height):
            return
        if not self.sizes.allow(width, height):
            raise InvalidField("size", f"{width}x{height} was given, accepted: {self.sizes}")

    def _meaningless(self, name: str, operation: Operation, known: Iterable[str]) -> str:
        own = self.own_parameters
        elsewhere = {each for one in own if one.name == name for each in one.operations}
        if elsewhere:
            return f"means nothing to {operation}, only to {', '.join(sorted(elsewhere))}"
        takes = ", ".join(known) or "no parameters"
        return f"means nothing to {self.id}, which takes {takes}"


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
