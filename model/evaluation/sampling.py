"""Which images a figure is measured on, and how they are drawn."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from model.data.emoji import Emoji, read_pictures
from model.data.pictures import DataError, PictureFormat
from model.evaluation.metrics import Floats
from model.protocol import ImageModel
from model.request import ImageRequest, Operation, Picture, Source
from model.runtime.generate import generate
from model.runtime.pixels import to_picture
from model.spec import ModelSpec
from model.training.sheet import to_image


class Sampler:
    """Draws with one model in one way: its defaults, but for the parameters that are given.

    What is drawn is reduced to ``side`` pixels, so that models of different sizes can be compared.

    Raises `model.request.InvalidField` for a parameter that the model does not take.
    """

    def __init__(
        self,
        model: ImageModel[Any],
        given: Mapping[str, float] | None = None,
        seed: int = 0,
        side: int | None = None,
    ) -> None:
        self.model = model
        self.spec = model.spec
        self.seed = seed
        self.side = side
        self._given: dict[str, Any] = {**(given or {})}
        prompt = next(iter(self.spec.examples), "a picture")
        request = self.spec.request(prompt, seed, **self._given)
        self.parameters = dict(request.parameters)
        self.steps = steps_of(model, request)  # of one image

    def request(
        self,
        prompt: str,
        seed: int | None = None,
        operation: Operation = "generate",
        source: Source | None = None,
        more: Mapping[str, float] | None = None,
    ) -> ImageRequest:
        """With the parameters that mean something to the operation, and with ``more`` of them."""
        given = {
            name: value
            for name, value in self._given.items()
            if self.spec.parameter(name, operation)
        } | {**(more or {})}
        seed = self.seed if seed is None else seed
        return self.spec.request(prompt, seed, operation=operation, source=source, **given)

    def draw(
        self,
        prompts: Iterable[str],
        on_step: Callable[[int], None] = lambda steps: None,
        seeds: Iterable[int] | None = None,
    ) -> list[Picture]:
        """An image for each prompt, all with the sampler's seed unless each has its own."""
        if seeds is None:
            requests = [self.request(prompt) for prompt in prompts]
        else:
            pairs = zip(prompts, seeds, strict=True)
            requests = [self.request(prompt, seed) for prompt, seed in pairs]
        drawn = generate(self.model, requests, on_step)
        if self.side is None:
            return list(drawn)
        return [_fitted(to_image(picture), self.side, picture.channels) for picture in drawn]

    def as_json(self) -> dict[str, float]:
        """All that decides what is drawn, beside the model and the prompt."""
        return {**self.parameters, "steps": self.steps, "seed": self.seed}

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        others = [f"{name} {value:g}" for name, value in self.parameters.items() if name != "steps"]
        return ", ".join([steps, *others, f"seed {self.seed}"])


def steps_of(model: ImageModel[Any], request: ImageRequest) -> int:
    """Steps that a request takes."""
    row = model.start(request)
    try:
        steps: int = row.steps
        return steps
    finally:
        model.release(row)


def choose_records(records: Sequence[Emoji], count: int) -> list[Emoji]:
    """Up to ``count`` records, uniform over ``base``; the same ones every time."""
    groups: dict[str, list[Emoji]] = defaultdict(list)
    for record in records:
        groups[record.base].append(record)
    draw = random.Random(0)
    bases = draw.sample(sorted(groups), min(count, len(groups)))
    return [draw.choice(groups[base]) for base in bases]


def natives(spec: ModelSpec, records: Iterable[Emoji], side: int | None = None) -> list[Picture]:
    """Real images as the model would draw them, or of ``side`` pixels.

    Raises ``DataError`` if these are no squares.
    """
    width, height = spec.sizes.native
    if width != height:
        raise DataError(f"{spec.id} draws {width}x{height}, only squares can be compared")
    return [_fitted(image, side or width, spec.channels) for image in read_pictures(records)]


def _fitted(image: Image.Image, side: int, channels: int) -> Picture:
    """As training would see it."""
    pixels = PictureFormat(side, 4 if channels == 4 else 3).pixels(image)
    return from_premultiplied(pixels.transpose(1, 2, 0) / 255.0)


def from_premultiplied(values: Floats) -> Picture:
    """[H, W, C], 0…1."""
    return to_picture(torch.from_numpy(values.transpose(2, 0, 1) * 2 - 1).float())
