"""An order: what a client asked for with every default filled in and every limit checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.api.errors import ApiError, invalid, quoted
from app.api.fields import Drawing
from app.api.seeds import random_seed
from app.engine import Engine, ImageRequest, NotReady
from app.operations import Misfit
from app.pictures import ANIMATED, ENCODER, TRANSPARENT, Caption, Encoding, Format, Framing
from app.sampling import token_sampling
from app.settings import Settings
from app.uploads.fitting import Fit
from model.checkpoint import Checkpoint
from model.protocol import SEEDS, ModelSpec, Range, TokenSampling

SHORTEST_DIGEST = 8
"""Characters of a digest that pin a model."""


@dataclass(frozen=True, slots=True)
class Transformation:
    """What an order does with a picture that came with it."""

    operation: str  # as the client named it
    fit: Fit
    framing: Framing


@dataclass(frozen=True)
class Order:
    """Nothing is left to decide. Equal orders of one service are answered with equal bytes."""

    request: ImageRequest
    encoding: Encoding
    spec: ModelSpec
    numerics: str
    seeded: bool  # whether the client chose the seed, so that it can ask for this again
    pinned: bool  # whether the client named the model's digest, or the numerics
    transformation: Transformation | None = None

    def seed(self, index: int) -> int:
        return (self.request.seed + index) % SEEDS  # of a walk, there is one

    def caption(self, index: int) -> Caption:
        """What the file of picture ``index`` says of itself."""
        request, changed = self.request, self.transformation
        operation = request.operation if changed is None else changed.operation
        return Caption(request.prompt, self.seed(index), request.model, self.numerics, operation)

    @property
    def walk(self) -> bool:
        """Whether its pictures are the frames of one file."""
        return self.request.operation == "walk"

    @property
    def files(self) -> int:
        """How many it is answered with."""
        return 1 if self.walk else self.request.n

    @property
    def addressable(self) -> bool:
        """Whether an address can say all of it: nothing was uploaded."""
        return self.transformation is None

    @property
    def fitted(self) -> str | None:
        """How an upload was resampled for the model, if it was."""
        changed = self.transformation
        if changed is None or not changed.fit.resampled:
            return None
        (width, height), (seen_width, seen_height) = changed.fit.upload, changed.fit.inner
        return f"{width}x{height} -> {seen_width}x{seen_height}"

    @property
    def evaluations(self) -> int:
        """Calls of the network that all pictures of the order take, about."""
        request = self.request
        guided = request.guidance != 1.0 and bool(request.prompt.strip())
        each = request.steps * (2 if guided else 1) * (2 if request.solver == "heun" else 1)
        return request.n * each

    @cached_property
    def etag(self) -> str:
        """Names the bytes of its (single) file, quoted as in the header, if it is addressable."""
        parts = repr((self.request, self.encoding, self.numerics, ENCODER))
        return f'"{hashlib.sha256(parts.encode()).hexdigest()[:32]}"'


def take_order(
    drawing: Drawing,
    *,
    engine: Engine,
    settings: Settings,
    seed: int | None,
    n: int = 1,
    format: Format,  # noqa: A002 - the field's name
    numerics: str | None = None,
    keeps_alpha: bool = False,
) -> Order:
    """Fills in and checks what depends on the model or on a setting.

    Args:
        keeps_alpha: whether the answer can be transparent with any model.

    Raises:
        ApiError: a field cannot be served; names it and says what is accepted.
        NotReady: the models are still loading.
    """
    checkpoint, pinned = find_model(drawing.model, engine.checkpoints, settings.model_aliases)
    spec = checkpoint.spec
    steps = spec.steps.default if drawing.steps is None else drawing.steps
    if not spec.steps.low <= steps <= spec.steps.high:
        raise invalid("steps", f"{steps} was given, {spec.id} takes {_bounds(spec.steps)}")
    guidance = spec.guidance.default if drawing.guidance is None else drawing.guidance
    if not spec.guidance.low <= guidance <= spec.guidance.high:
        raise invalid(
            "guidance", f"{guidance:g} was given, {spec.id} takes {_bounds(spec.guidance)}"
        )
    if n > settings.max_n:
        raise invalid("n", f"{n} was given, at most {settings.max_n} are accepted")
    size = drawing.size or spec.size
    if size > settings.max_size:
        raise invalid("size", f"{size} was given, at most {settings.max_size} is accepted")
    if drawing.walk is not None:
        _check_walk(drawing.walk, n, format, spec, settings.max_walk)
    if drawing.background == TRANSPARENT:
        _check_transparency(format, spec, keeps_alpha)
    check_prompt(drawing.prompt, checkpoint, settings)

    loaded = engine.models.get(spec.id)
    if loaded is None:
        raise NotReady("the models are still loading; /readyz tells when they are")
    if numerics not in (None, loaded.numerics):
        message = f"numerics: {quoted(numerics)} was asked for, this service has {loaded.numerics}"
        raise ApiError(404, message, code="not_loaded", param="numerics")
    return Order(
        request=ImageRequest(
            model=spec.id,
            prompt=drawing.prompt,
            seed=random_seed() if seed is None else seed,
            n=drawing.walk or n,
            steps=int(steps),
            guidance=float(guidance),
            solver=spec.solver,
            operation="walk" if drawing.walk else "generate",
            sampling=_sampling(drawing, spec),
        ),
        encoding=Encoding(format, size, size, drawing.background, drawing.quality),
        spec=spec,
        numerics=loaded.numerics,
        seeded=seed is not None,
        pinned=pinned or numerics is not None,
    )


def find_model(
    name: str | None, checkpoints: Mapping[str, Checkpoint], aliases: Mapping[str, str]
) -> tuple[Checkpoint, bool]:
    """The checkpoint that a client means, and whether it pinned the digest. Raises `ApiError`."""
    if name is None:
        return next(iter(checkpoints.values())), False
    model, at, digest = name.partition("@")
    checkpoint = checkpoints.get(aliases.get(model, model))
    if checkpoint is None:
        known = ", ".join(checkpoints)
        message = f"model: there is no {quoted(model)}; there are {known}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if at and len(digest) < SHORTEST_DIGEST:
        raise invalid("model", f"a digest has at least {SHORTEST_DIGEST} characters")
    if at and not checkpoint.spec.digest.startswith(digest):
        loaded = checkpoint.spec.digest[:12]
        message = f"model: {quoted(name)} was asked for, {checkpoint.spec.id}@{loaded} is loaded"
        raise ApiError(404, message, code="not_loaded", param="model")
    return checkpoint, bool(at)


def _sampling(drawing: Drawing, spec: ModelSpec) -> TokenSampling | None:
    """How tokens are drawn, where the model draws any. Raises `ApiError`."""
    try:
        return token_sampling(
            spec,
            temperature=drawing.temperature,
            top_k=drawing.top_k,
            top_p=drawing.top_p,
        )
    except Misfit as error:
        raise invalid(error.field, str(error)) from error


def _bounds(numbers: Range) -> str:
    return f"{numbers.low:g} to {numbers.high:g}"


def _check_walk(frames: int, n: int, format_: Format, spec: ModelSpec, most: int) -> None:
    if "walk" not in spec.operations:
        raise invalid("walk", f"{spec.id} cannot walk: its pictures do not turn into one another")
    if frames > most:
        raise invalid("walk", f"{frames} was given, at most {most} frames are accepted")
    if n > 1:
        raise invalid("n", f"{n} was given, a walk is one picture")
    if format_ not in ANIMATED:
        others = " and ".join(ANIMATED)
        raise invalid("walk", f"a {format_} cannot be animated; {others} can")


def _check_transparency(format_: Format, spec: ModelSpec, keeps_alpha: bool) -> None:
    if format_ == "jpeg":
        raise invalid("background", "a jpeg cannot be transparent; png and webp can")
    if spec.channels != 4 and not keeps_alpha:
        raise invalid("background", f"{spec.id} draws opaque pictures only")


def check_prompt(
    prompt: str, checkpoint: Checkpoint, settings: Settings, field: str = "prompt"
) -> None:
    """Raises `ApiError` for a text that is too long, in characters or in tokens."""
    longest = settings.max_prompt_characters
    if len(prompt) > longest:
        raise invalid(field, f"has {len(prompt)} characters, at most {longest} are accepted")
    tokens = len(checkpoint.tokenizer.tokens(prompt))
    most = checkpoint.spec.max_prompt_tokens
    if tokens > most:
        message = f"has {tokens} tokens, {checkpoint.spec.id} takes at most {most}"
        raise invalid(field, message, code="prompt_too_long")
