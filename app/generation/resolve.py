"""What was asked becomes requests: every default filled in, every limit checked.

The one place where it is decided what a request means for a model: the API, OpenAI's routes, the
command line and the benchmarks all come here. No HTTP, no engine, no torch.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.generation.editing.fit import Fit, Size, Target
from app.generation.editing.operations import EditName, EditRequest, can, offered
from app.generation.editing.prepare import Prepared, shown
from app.generation.editing.retouch import LONGEST_PREVIEW
from app.generation.output import (
    ANIMATED,
    TRANSPARENT,
    Detail,
    Format,
    Framing,
    Metadata,
    Output,
)
from model.checkpoint import Checkpoint
from model.request import SEEDS, ImageRequest, InvalidField, Operation
from model.spec import ModelSpec

SHORTEST_DIGEST = 8
"""Characters of a digest that pin a model."""

MOST_LABELS = 64

WHITE = "ffffff"

_SEED_DIGITS = len(str(SEEDS))
_BACKGROUND = re.compile(r"white|transparent|#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
BACKGROUNDS = _BACKGROUND.pattern
"""What a background may be, as a regular expression."""


class Limits(BaseModel):
    """What one request may ask for, whatever the model."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    max_n: Annotated[int, Field(ge=1)] = 10
    """Images in one request."""

    max_walk: Annotated[int, Field(ge=2)] = 24
    """Frames of one walk. Each costs what a picture costs, and is one in the queue."""

    max_prompt_characters: Annotated[int, Field(ge=1)] = 5000
    """Longer prompts are refused before they are tokenized; the model's own limit is in tokens."""

    max_size: Annotated[int, Field(ge=1, le=8192)] = 1024
    """Pixels along each side to which images may be resampled; what a model draws itself is not
    bounded by it. Encoding time grows squarely."""

    max_upload_pixels: Annotated[int, Field(ge=1)] = 4096 * 4096
    """Pixels of an uploaded picture, checked before decoding, and of all images of an answer to
    one together: edits are as large as their uploads. Each takes 12 bytes in every upload thread,
    as several pictures of a form are decoded one after the other."""

    metadata: Detail = "full"
    """What files say of themselves, where a request does not say it: "full" (prompt, seed, model),
    "source" (only that a machine made them, in IPTC's words), or "none". A public service leaks no
    prompts with "source"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked of a model. What is None is left to the model or the operation."""

    prompt: str = ""
    negative_prompt: str = ""
    lora: str = ""  # the name of one of the model's adapters
    seed: int | None = None  # None: a random one
    n: int = 1
    walk: int | None = None  # frames
    size: int | Size | None = None  # of the answer; an integer is the longer side of an edit
    parameters: Mapping[str, float] = field(default_factory=dict)  # by name, as the spec has them
    format: Format = "png"
    background: str | None = None  # `parse_background`; None: white, or as an upload has it
    quality: int = 90
    metadata: Detail | None = None  # None: as it is set
    edit: EditRequest | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What is done with an upload, and how the model's image becomes the answer."""

    operation: EditName
    fit: Fit
    framing: Framing
    preview_framing: Framing


@dataclass(frozen=True, slots=True)
class Generation:
    """What one call asks for, resolved: a request for each image (of a walk, for each frame)."""

    requests: tuple[ImageRequest, ...]
    output: Output
    spec: ModelSpec
    evaluations: int  # of all images together, about
    seeded: bool  # whether the seed was chosen, so that this can be asked for again
    edit: Edit | None = None
    metadata_asked: Detail | None = None  # None: as it is set, which addresses do not say

    @property
    def prompt(self) -> str:
        return self.requests[0].prompt

    @property
    def walk(self) -> bool:
        """Whether its images are the frames of one file."""
        return self.requests[0].operation == "walk"

    @property
    def files(self) -> int:
        """How many it is answered with."""
        return 1 if self.walk else len(self.requests)

    @property
    def operation(self) -> str:
        """As people call it."""
        return self.requests[0].operation if self.edit is None else self.edit.operation

    @property
    def addressable(self) -> bool:
        """Whether an address can say all of it: nothing was uploaded."""
        return self.edit is None

    @property
    def keepable(self) -> bool:
        """Whether its file may be kept for whoever asks for the same: a single one, which an
        address says."""
        return self.files == 1 and self.seeded and self.addressable

    @property
    def pixels(self) -> int:
        """Of all files together."""
        return self.files * self.output.width * self.output.height

    @property
    def source_bytes(self) -> int:
        """What all its rows start from takes in memory."""
        source = self.requests[0].source
        if source is None:
            return 0
        pictures = (source.picture, *source.others)
        return sum(len(one.pixels) for one in pictures) + len(source.mask or b"")

    @property
    def previewed(self) -> Generation:
        """The same for images on their way, which are small, whatever the answer's size is."""
        output, edit = self.output.at_most(LONGEST_PREVIEW), self.edit
        if edit is not None:
            edit = replace(edit, framing=edit.preview_framing)
        return replace(self, output=output, edit=edit)

    def with_seed(self, seed: int) -> Generation:
        """The same from another seed, without another look at an upload. Of one image or walk."""
        return replace(self, requests=tuple(replace(one, seed=seed) for one in self.requests))

    def metadata(self, index: int, numerics: str) -> Metadata:
        """What the file of image ``index`` (or of a walk) says of itself."""
        request = self.requests[index]
        return Metadata(request.prompt, request.seed, request.model, numerics, self.operation)


def resolve(wanted: Wanted, checkpoint: Checkpoint, limits: Limits) -> Generation:
    """Fills in and checks everything. Decodes an upload, which may take seconds.

    Raises `InvalidField` (for an upload, `ImageFileError`).
    """
    spec, edit = checkpoint.spec, wanted.edit
    operation = _operation(wanted, spec)
    spec.check_lora(wanted.lora)
    parameters = _parameters(wanted, spec, operation)
    if wanted.n > limits.max_n:
        raise InvalidField("n", f"{wanted.n} was given, at most {limits.max_n} are accepted")
    if wanted.walk is not None:
        _check_walk(wanted.walk, wanted, spec, limits)
    if wanted.negative_prompt and not spec.negative_prompt:
        raise InvalidField("negative_prompt", f"means nothing to {spec.id}")
    for name in ("prompt", "negative_prompt"):
        if text := getattr(wanted, name):
            check_text(text, checkpoint, limits, name)
    if edit is not None:
        _check_edit(edit, wanted, spec)
    background = parse_background(WHITE if wanted.background is None else wanted.background)
    if background == TRANSPARENT:
        _check_transparency(wanted, spec)

    prepared = None
    if edit is None:
        size, drawn = _size(wanted, spec, limits)
    else:
        prepared = edit.prepare(_target(wanted, spec, operation, limits), limits.max_upload_pixels)
        size, drawn = _size_of_edit(wanted, prepared, limits), prepared.drawn
        if wanted.background is None and not prepared.opaque and _can_be_clear(wanted, spec):
            background = TRANSPARENT
    first = ImageRequest(
        model=spec.id,
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        lora=wanted.lora,
        seed=secrets.randbelow(SEEDS) if wanted.seed is None else wanted.seed % SEEDS,
        width=drawn[0],
        height=drawn[1],
        parameters=parameters,
        operation=operation,
        source=None if prepared is None else prepared.source,
    )
    if wanted.walk:
        requests = tuple(replace(first, phase=k / wanted.walk) for k in range(wanted.walk))
    else:  # image k is the one that seed + k gives alone
        others = range(1, wanted.n)
        requests = (first, *(replace(first, seed=(first.seed + k) % SEEDS) for k in others))
    return Generation(
        requests=requests,
        output=Output(
            wanted.format, *size, background, wanted.quality, wanted.metadata or limits.metadata
        ),
        spec=spec,
        evaluations=len(requests) * checkpoint.evaluations(first),
        seeded=wanted.seed is not None,
        edit=None if edit is None or prepared is None else _edit(edit, prepared),
        metadata_asked=wanted.metadata,
    )


def resolve_description(
    image: bytes, labels: tuple[str, ...], checkpoint: Checkpoint, limits: Limits
) -> ImageRequest:
    """A request for what a picture shows. Decodes it.

    Raises `InvalidField` and `ImageFileError`.
    """
    spec = checkpoint.spec
    if len(labels) > MOST_LABELS:
        message = f"{len(labels)} were given, at most {MOST_LABELS} are accepted"
        raise InvalidField("labels", message)
    for label in labels:
        check_text(label, checkpoint, limits, "labels")
    canvas = Target(spec.sizes, spec.channels).native
    prepared = shown(image, canvas, limits.max_upload_pixels)
    return spec.request(operation="describe", source=prepared.source, labels=labels)


def find_model(
    name: str | None, checkpoints: Mapping[str, Checkpoint], aliases: Mapping[str, str]
) -> tuple[Checkpoint, bool]:
    """The model that is meant (None: the default one), and whether its digest was named.

    Raises `InvalidField` with the code "model_not_found" or "not_loaded" for one that is not here.
    """
    if name is None:
        return next(iter(checkpoints.values())), False
    model, at, digest = name.partition("@")
    checkpoint = checkpoints.get(aliases.get(model, model))
    if checkpoint is None:
        message = f"there is no {quoted(model)}; there are {', '.join(checkpoints)}"
        raise InvalidField("model", message, code="model_not_found")
    if at and len(digest) < SHORTEST_DIGEST:
        raise InvalidField("model", f"a digest has at least {SHORTEST_DIGEST} characters")
    if at and not checkpoint.spec.digest.startswith(digest):
        loaded = f"{checkpoint.spec.id}@{checkpoint.spec.digest[:12]}"
        message = f"{quoted(name)} was asked for, {loaded} is loaded"
        raise InvalidField("model", message, code="not_loaded")
    return checkpoint, bool(at)


def find_describer(
    name: str | None, checkpoints: Mapping[str, Checkpoint], aliases: Mapping[str, str]
) -> Checkpoint:
    """The model that is meant, or the first that can describe. Raises `InvalidField`."""
    able = [one for one in checkpoints.values() if "describe" in one.spec.operations]
    if name is None and able:
        return able[0]
    if name is None:
        message = f"none here can describe; there are {', '.join(checkpoints) or 'none at all'}"
        raise InvalidField("model", message, code="model_not_found")
    checkpoint, _ = find_model(name, checkpoints, aliases)
    if checkpoint not in able:
        others = ", ".join(one.spec.id for one in able) or "none of those that are loaded"
        raise InvalidField("model", f"{checkpoint.spec.id} cannot describe; {others} can")
    return checkpoint


def seed_of(text: str) -> int:
    """The seed that a string stands for: decimal digits in range are that integer.

    Any other string is normalised (NFC) and hashed; the first 53 bits of its SHA-256 are the seed.
    """
    if text.isascii() and text.isdigit() and len(text) <= _SEED_DIGITS and int(text) < SEEDS:
        return int(text)
    digest = hashlib.sha256(unicodedata.normalize("NFC", text).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def parse_background(text: str) -> str:
    """As `Output` has it: "transparent" or six hexadecimal digits. Raises `InvalidField`."""
    if not _BACKGROUND.fullmatch(text):
        accepted = '"white", "transparent" or a colour such as #ff8800 or #f80'
        raise InvalidField("background", f"{quoted(text)} was given, accepted: {accepted}")
    if text == TRANSPARENT:
        return text
    digits = WHITE if text == "white" else text.removeprefix("#").lower()
    return "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits


def parse_size(text: str) -> int | Size:
    """ "128" is an integer, "128x96" width and height. Raises ``ValueError``."""
    width, separator, height = text.partition("x")
    numbers = [width, height] if separator else [width]
    if not all(number.isascii() and number.isdecimal() and int(number) for number in numbers):
        raise ValueError('expected pixels such as "128", or width x height such as "128x96"')
    return (int(width), int(height)) if separator else int(width)


def check_text(text: str, checkpoint: Checkpoint, limits: Limits, name: str) -> None:
    """Raises `InvalidField` for a text that is too long, in characters or in tokens."""
    longest = limits.max_prompt_characters
    if len(text) > longest:
        raise InvalidField(name, f"has {len(text)} characters, at most {longest} are accepted")
    checkpoint.check_prompt(text, name)


def quoted(given: object, longest: int = 80) -> str:
    """What was given, short enough to repeat in a message."""
    text = repr(given)
    return text if len(text) <= longest else f"{text[:longest]}…"


def _edit(edit: EditRequest, prepared: Prepared) -> Edit:
    preview = prepared.preview or prepared.frame
    return Edit(edit.operation, prepared.fit, prepared.frame, preview)


def _operation(wanted: Wanted, spec: ModelSpec) -> Operation:
    others = ", ".join(offered(spec.operations))
    if wanted.edit is None:
        if "generate" not in spec.operations:
            message = f"{spec.id} draws nothing without an image; it can {others}"
            raise InvalidField("model", message)
        return "walk" if wanted.walk is not None else "generate"
    if not can(spec.operations, wanted.edit.operation):
        message = f"{spec.id} cannot {wanted.edit.operation}; it can {others}"
        raise InvalidField("operation", message)
    return wanted.edit.spec.does


def _parameters(
    wanted: Wanted, spec: ModelSpec, operation: Operation
) -> tuple[tuple[str, float], ...]:
    given = dict(wanted.parameters)
    if wanted.edit is not None:
        for name in given.keys() & set(wanted.edit.spec.fixed):
            raise InvalidField(name, f"means nothing to {wanted.edit.operation}")
        for name, value in wanted.edit.spec.defaults.items():
            if spec.parameter(name, operation) is not None:
                given.setdefault(name, value)
    return spec.fill(given, operation, lora=wanted.lora)


def _check_edit(edit: EditRequest, wanted: Wanted, spec: ModelSpec) -> None:
    """What can be known to be wrong before anything is decoded."""
    if edit.spec.needs_prompt and not wanted.prompt.strip():
        message = f"is required: {edit.operation} needs to know what to make"
        raise InvalidField("prompt", message)
    if edit.spec.several and len(edit.images) > spec.images:
        message = f"{len(edit.images)} were given, {spec.id} takes at most {spec.images}"
        raise InvalidField("image", message)


def _check_walk(frames: int, wanted: Wanted, spec: ModelSpec, limits: Limits) -> None:
    if "walk" not in spec.operations:
        message = f"{frames} was given, {spec.id} cannot walk: no image is between two of its own"
        raise InvalidField("walk", message)
    if frames > limits.max_walk:
        message = f"{frames} was given, at most {limits.max_walk} frames are accepted"
        raise InvalidField("walk", message)
    if wanted.n > 1:
        raise InvalidField("n", f"{wanted.n} was given, a walk is one picture")
    if wanted.format not in ANIMATED:
        others = " and ".join(ANIMATED)
        raise InvalidField("walk", f"a {wanted.format} cannot be animated; {others} can")


def _check_transparency(wanted: Wanted, spec: ModelSpec) -> None:
    if wanted.format == "jpeg":
        raise InvalidField("background", "a jpeg cannot be transparent; png and webp can")
    if not _can_be_clear(wanted, spec):
        raise InvalidField("background", f"{spec.id} draws opaque images only")


def _can_be_clear(wanted: Wanted, spec: ModelSpec) -> bool:
    keeps = wanted.edit is not None and wanted.edit.spec.keeps
    return wanted.format != "jpeg" and (spec.channels == 4 or keeps)


def _size(wanted: Wanted, spec: ModelSpec, limits: Limits) -> tuple[Size, Size]:
    """Of the answer, and of what the model draws for it."""
    if wanted.size is None:
        return spec.sizes.native, spec.sizes.native
    size = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size
    return size, _drawn(size, wanted, spec, limits)


def _drawn(size: Size, wanted: Wanted, spec: ModelSpec, limits: Limits) -> Size:
    """What the model draws for an answer of that size. Raises `InvalidField`."""
    if not spec.sizes.multiple and not spec.sizes.allow(*size):
        _check_resampling(wanted.size or 0, limits)
    drawn = spec.sizes.drawn(*size)
    if drawn is None:
        message = f"{size[0]}x{size[1]} was given, {spec.id} draws {spec.sizes}"
        raise InvalidField("size", message)
    return drawn


def _check_resampling(given: int | Size, limits: Limits) -> None:
    """Raises `InvalidField` for a size to which nothing is resampled."""
    sides = (given,) if isinstance(given, int) else given
    if min(sides) < 1 or max(sides) > limits.max_size:
        text = "x".join(map(str, sides))
        message = f"{text} was given, at most {limits.max_size} is accepted along each side"
        raise InvalidField("size", message)


def _target(wanted: Wanted, spec: ModelSpec, operation: Operation, limits: Limits) -> Target:
    """What is drawn of an upload: a size that was asked for in full, where the model draws it.

    Raises `InvalidField` where it has to and does not: only "edit" leaves the upload's aspect.
    """
    asked, sizes = wanted.size, spec.sizes
    if not isinstance(asked, tuple):
        asked = None
    elif operation == "edit":
        asked = _drawn(asked, wanted, spec, limits)
    elif not sizes.allow(*asked):
        asked = None
    return Target(sizes, spec.channels, asked)


def _is_aspect(size: Size, shape: Size) -> bool:
    """Whether a size has the aspect of a shape, its shorter side rounded up or down."""
    longer = 0 if shape[0] >= shape[1] else 1
    exact = Fraction(size[longer] * shape[1 - longer], shape[longer])
    return floor(exact) <= size[1 - longer] <= ceil(exact)


def _size_of_edit(wanted: Wanted, prepared: Prepared, limits: Limits) -> Size:
    """Of the answer: the upload's aspect, or what was drawn, whatever is asked for."""
    longer = max(wanted.size) if isinstance(wanted.size, tuple) else wanted.size
    width, height = prepared.scaled(longer)
    if wanted.size is not None and (width, height) not in (prepared.size, prepared.drawn):
        _check_resampling(wanted.size, limits)
    if isinstance(wanted.size, tuple) and _is_aspect(wanted.size, prepared.shape):
        width, height = wanted.size
    if isinstance(wanted.size, tuple) and wanted.size != (width, height):
        message = (
            f"{wanted.size[0]}x{wanted.size[1]} was given, an image of this aspect can be answered "
            f"as {width}x{height}, or in its own size"
        )
        raise InvalidField("size", message)
    if wanted.n * width * height > limits.max_upload_pixels:
        message = (
            f"{wanted.n} images of {width} x {height} pixels were asked for; at most "
            f"{limits.max_upload_pixels} pixels are accepted, all together"
        )
        raise InvalidField("n", message)
    return width, height
