"""What a request means for a pipeline's call. The only place that knows the names of both."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from PIL import Image

from model.pipelines.catalogue import TRUE
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.labels import class_for
from model.request import ImageRequest, InvalidField, Picture

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def call_arguments(
    request: ImageRequest, checkpoint: PipelineCheckpoint, pipeline: Any
) -> dict[str, Any]:
    """Keyword arguments for ``pipeline(...)``, whose own components are set as requested.

    Raises `InvalidField` for what does not make a call: a label that is none, no step at all.
    """
    entry = checkpoint.entry
    takes = inspect.signature(type(pipeline).__call__).parameters
    arguments = dict(entry.options)
    if entry.text is None:
        label = class_for(request.prompt, request.seed, checkpoint.id2label)
        arguments["class_labels"] = [label]
    else:
        arguments["prompt"] = request.prompt
    values = dict(request.parameters)
    for name, argument in entry.arguments.items():
        if name not in values:
            continue
        component, _, attribute = argument.rpartition(".")
        if component:
            setattr(getattr(pipeline, component), attribute, values[name])
        else:
            arguments[argument] = int(values[name]) if name == "steps" else values[name]
    # Left out where it is empty: some pipelines have zeros in place of an empty one. But true
    # guidance is off without one.
    if entry.negative_prompt and (request.negative_prompt or arguments.get(TRUE, 0) > 1):
        arguments["negative_prompt"] = request.negative_prompt
    if request.source is not None:
        arguments |= _source(request, takes, checkpoint)
    arguments |= {
        "width": request.width,
        "height": request.height,
        "max_area": request.width * request.height,  # else the size is only an aspect
        "generator": torch.Generator("cpu").manual_seed(request.seed),
        "output_type": "pil",
    }
    return {name: value for name, value in arguments.items() if name in takes}


def to_image(picture: Picture) -> Image.Image:
    return Image.frombytes(MODES[picture.channels], (picture.width, picture.height), picture.pixels)


def to_picture(image: Image.Image) -> Picture:
    """Without transparency, as these pipelines make it."""
    opaque = image.convert("RGB")
    return Picture(opaque.width, opaque.height, 3, opaque.tobytes())


def _source(
    request: ImageRequest, takes: Mapping[str, Any], checkpoint: PipelineCheckpoint
) -> dict[str, Any]:
    source = request.source
    assert source is not None
    images = [to_image(picture) for picture in (source.picture, *source.others)]
    if "_auto_resize" in checkpoint.entry.options:  # then sides are rounded down, also to nothing
        shortest = checkpoint.entry.area.patch * checkpoint.scale
        for image in images:
            if min(image.size) < shortest:
                size = f"{image.width} x {image.height} pixels"
                raise InvalidField("image", f"an image of {size}, a side has at least {shortest}")
    arguments: dict[str, Any] = {"image": images if len(images) > 1 else images[0]}
    if source.mask is not None:
        arguments["mask_image"] = Image.frombytes("L", images[0].size, source.mask)
    strength, steps = request.value("strength", 0.0), int(request.value("steps", 1))
    if strength and "strength" in takes:
        if int(steps * strength) < 1:
            least = ceil(100 / steps) / 100
            message = f"strength {strength:g} of {steps} steps is none, {least:g} is one"
            raise InvalidField("strength", message)
        arguments["strength"] = strength
        if request.operation == "vary" and strength < 1:  # most classes round up to all steps,
            arguments["strength"] = min(strength, 1 - 1 / steps)  # and would not see the image
    return arguments
