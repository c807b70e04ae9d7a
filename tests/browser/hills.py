"""A fake family that takes all that a pipeline may: hills under a sun, in any of many sizes.

It has a negative prompt, adapters, a fixed parameter, edits of up to three pictures, and steps that
take as long as they are asked to. A server loads it as a package from elsewhere, see `install`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import CONFIG, Checkpoint, CheckpointConfig, Placement, digest, read_config
from model.protocol import Pass
from model.request import ImageRequest, InvalidField, Picture
from model.runtime.rungs import Rungs
from model.sizes import Sizes
from model.spec import ModelSpec, Parameter

MOST_WORDS = 20
MOST_PIXELS = 160 * 160
EXAMPLES = (
    "an early morning over blue hills, with a low sun and mist in the valleys between them",
    "red desert at noon",
    "green hills",
)
LORAS = ("engraving", "pastel")

Pixels = NDArray[np.float64]  # [H, W, 3], 0…1


def install(folder: Path) -> Path:
    """Makes this file a package in the folder, which belongs on ``PYTHONPATH``, with a checkpoint.

    Returns the checkpoint's folder.
    """
    information = folder / "hills-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hills\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[tessera.families]\nhills = hills:HillsCheckpoint\n"
    )
    (folder / "hills.py").write_bytes(Path(__file__).read_bytes())
    checkpoint = folder / "hills"
    checkpoint.mkdir()
    config = {"family": "hills", "description": "Hills under a sun.", "license": "CC0-1.0"}
    (checkpoint / CONFIG).write_text(json.dumps(config))
    return checkpoint


class HillsCheckpoint(Checkpoint):
    """See `Checkpoint`."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        config = read_config(folder / CONFIG, CheckpointConfig)
        spec = ModelSpec(
            id=folder.name,
            family=config.family,
            sizes=Sizes(128, 128, multiple=16, low=64, high=256, pixels=MOST_PIXELS),
            channels=3,
            parameters=(
                Parameter("steps", 1, 60, 6, 1, "How often the hills are looked at."),
                Parameter("pause", 0, 5, 0, 0.01, "Seconds that each step takes."),
                Parameter("layers", 4, 4, 4, 1, "Rows of hills, one behind the other."),
                Parameter("strength", 0.05, 1, 0.6, 0.05, "How far to go.", ("vary", "inpaint")),
                Parameter("lora_scale", 0, 2, 1, 0.05, "How much of the adapter is used."),
            ),
            operations=("generate", "vary", "inpaint", "edit"),
            max_prompt_tokens=MOST_WORDS,
            digest=digest(folder, [CONFIG]),
            license=config.license,
            description=config.description,
            negative_prompt=True,
            images=3,
            loras=LORAS,
            examples=EXAMPLES,
        )
        return cls(folder, spec)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def check_prompt(self, text: str, field: str) -> None:
        if "labyrinth" in text:
            raise InvalidField(field, "there is no labyrinth in these hills", code="invalid_value")
        super().check_prompt(text, field)

    def build(self, placement: Placement) -> Hills:
        return Hills(self.spec, placement.tile)


@dataclass(slots=True, eq=False)
class Row:
    """One image in the making."""

    request: ImageRequest
    aim: Pixels
    step: int = 0
    kind: str = "look"
    evaluations: int = 1

    @property
    def steps(self) -> int:
        return int(self.request.value("steps"))

    @property
    def done(self) -> bool:
        return self.step == self.steps


class Hills:
    """See `model.protocol.ImageModel`."""

    def __init__(self, spec: ModelSpec, tile: int) -> None:
        self.spec = spec
        self.tile = tile
        self.slots = tile
        self.rungs = Rungs(tile, smaller=False)

    def cost(self, request: ImageRequest) -> int:
        return 1

    def capacity(self, kind: str) -> int:
        return self.tile

    def start(self, request: ImageRequest) -> Row:
        self.spec.check(request)
        return Row(request, aim_of(request))

    def step(self, rows: Sequence[Row]) -> list[Pass]:
        time.sleep(max(row.request.value("pause") for row in rows))
        for row in rows:
            row.step += 1
        return [Pass("look", len(rows), self.tile)]

    def preview(self, row: Row) -> None:
        """Nothing to do: `result` needs no pass."""

    def result(self, row: Row) -> Picture:
        request = row.request
        left = 1 - row.step / row.steps
        noise = np.random.default_rng(request.seed).random(row.aim.shape)
        pixels = (255 * (left * noise + (1 - left) * row.aim)).round().astype(np.uint8)
        return Picture(request.width, request.height, 3, pixels.tobytes())

    def release(self, row: Row) -> None:
        """A row holds nothing but its own memory."""


def aim_of(request: ImageRequest) -> Pixels:
    """What the request comes to after its last step."""
    pixels = landscape(request)
    source = request.source
    if source is not None and request.operation == "edit":
        return _styled(_side_by_side((source.picture, *source.others), request) * 0.9, request)
    pixels = _styled(pixels, request)
    if source is not None:
        kept = _opened(source.picture, request.width, request.height)
        share = np.full((request.height, request.width, 1), request.value("strength"))
        if source.mask is not None:
            mask = np.frombuffer(source.mask, np.uint8).reshape(request.height, request.width, 1)
            share = share * (mask != 0)
        pixels = share * pixels + (1 - share) * kept
    return pixels


def landscape(request: ImageRequest) -> Pixels:
    """A sky with a sun, and layers of hills, of colours that the prompt decides."""
    width, height = request.width, request.height
    random = np.random.default_rng(request.seed)
    sky, land = (np.array(colour) for colour in _colours(request.prompt))
    down = np.linspace(0, 1, height)[:, None, None]
    pixels: Pixels = np.broadcast_to(sky + down * (1 - sky) * 0.8, (height, width, 3)).copy()
    y, x = np.mgrid[:height, :width]
    side = min(width, height)
    if "sun" not in request.negative_prompt:
        across, up = random.uniform(0.15, 0.85), random.uniform(0.15, 0.4)
        away = np.hypot(x - across * width, y - up * height) / side
        pixels[away < 0.09] = (1, 0.93, 0.75)
    layers = int(request.value("layers"))
    for layer in range(1, layers + 1):
        phase = random.uniform(0, 2 * np.pi, 3)
        waves = sum(
            np.sin(2 * np.pi * times * x / side + at) / times
            for times, at in zip((0.7, 1.6, 3.1), phase, strict=True)
        )
        top = height * (0.35 + 0.6 * layer / (layers + 1)) + 0.06 * side * waves
        nearer = layer / layers
        pixels[y > top] = land * (1 - 0.55 * nearer) + sky * (1 - nearer) * 0.45
    return pixels.clip(0, 1)


def _colours(prompt: str) -> tuple[Pixels, Pixels]:
    values = np.frombuffer(hashlib.sha256(prompt.encode()).digest()[:6], np.uint8) / 255
    return 0.35 + 0.5 * values[:3], 0.2 + 0.6 * values[3:]


def _styled(pixels: Pixels, request: ImageRequest) -> Pixels:
    share = request.value("lora_scale", 0) / 2
    if request.lora == "engraving":
        grey = pixels.mean(axis=2, keepdims=True)
        return np.asarray(pixels + share * (grey - pixels))
    if request.lora == "pastel":
        return np.asarray(pixels + share * 0.6 * (1 - pixels))
    return pixels


def _opened(picture: Picture, width: int, height: int) -> Pixels:
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.pixels)
    return np.asarray(image.resize((width, height)), np.float64) / 255


def _side_by_side(pictures: Sequence[Picture], request: ImageRequest) -> Any:
    """The first picture on the left, each in a part of the width."""
    edges = [request.width * k // len(pictures) for k in range(len(pictures) + 1)]
    parts = [
        _opened(picture, right - left, request.height)
        for picture, (left, right) in zip(pictures, pairwise(edges), strict=True)
    ]
    return np.concatenate(parts, axis=1)
