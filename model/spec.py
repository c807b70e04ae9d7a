"""What can be known of a model without running it: what it takes, and what it makes of that.

Ranges, sizes and costs are data. This module imports no torch, so that a process without torch can
speak of models and requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import get_args

from model.request import FACTORS, ImageRequest, InvalidField, Operation, Source
from model.sizes import Sizes

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
