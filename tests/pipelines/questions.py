"""Requests that a pipeline's catalogue entry accepts, and what the library draws for them."""

from __future__ import annotations

import functools
import inspect
import random
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.pipelines.catalogue import Entry
from model.pipelines.checkpoint import PipelineCheckpoint
from tests.pipelines.makers_a import SIZES as SOME
from tests.pipelines.makers_b import SIZES as OTHERS

SIZES = SOME | OTHERS

PROMPTS = ("a red apple", "a blue house by the sea at night", "an old tree", "")

library: Any = diffusers


@dataclass(frozen=True)
class Question:
    """A request as the API takes it."""

    model: str
    prompt: str
    seed: int
    size: tuple[int, int]
    negative_prompt: str = ""
    parameters: dict[str, float] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """Of POST /v1/images."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": self.prompt,
            "seed": self.seed,
            "size": "{}x{}".format(*self.size),
            **self.parameters,
        }
        return body | ({"negative_prompt": self.negative_prompt} if self.negative_prompt else {})

    @property
    def address(self) -> str:
        """Of the same image."""
        fields = {name: value for name, value in self.body.items() if name != "seed"}
        return f"/v1/images/{self.seed}.png?" + "&".join(
            f"{name}={str(value).replace(' ', '%20')}" for name, value in fields.items()
        )


def questions(folder: Path, count: int) -> list[Question]:
    """Of unequal prompts, steps and guidance."""
    checkpoint = PipelineCheckpoint.open(folder)
    spec, dice = checkpoint.spec, random.Random(folder.name)
    prompts = spec.examples or PROMPTS
    found = []
    for number in range(count):
        parameters: dict[str, float] = {}
        for parameter in spec.parameters:
            if "generate" not in parameter.operations or parameter.name == "lora_scale":
                continue
            if parameter.name == "steps":
                most = int(min(parameter.maximum, parameter.minimum + 4))
                parameters["steps"] = dice.randint(int(max(parameter.minimum, 2)), max(most, 2))
            elif parameter.maximum > parameter.minimum:
                choices = (parameter.minimum, 2.5, 4.0)
                parameters[parameter.name] = min(dice.choice(choices), parameter.maximum)
        negative = spec.negative_prompt and number % 3 == 1
        found.append(
            Question(
                folder.name,
                prompts[number % len(prompts)],
                number,
                SIZES[folder.name],
                "a dog" if negative else "",
                parameters,
            )
        )
    return found


@functools.cache
def pipeline(folder: Path) -> Any:
    """The library's own, in fp32."""
    loaded = library.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    if other := PipelineCheckpoint.open(folder).entry.operations.get("generate"):
        takes = inspect.signature(getattr(library, other).__init__).parameters
        parts = {name: part for name, part in loaded.components.items() if name in takes}
        loaded = getattr(library, other)(**parts)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn_by_the_library(folder: Path, question: Question) -> NDArray[np.int16]:
    """uint8 [height, width, 3], as signed integers."""
    checkpoint = PipelineCheckpoint.open(folder)
    entry: Entry = checkpoint.entry
    arguments: dict[str, Any] = dict(entry.options)
    for name, value in question.parameters.items():
        component, _, attribute = entry.arguments[name].rpartition(".")
        if component:
            setattr(getattr(pipeline(folder), component), attribute, float(value))
        else:
            arguments[attribute] = int(value) if name == "steps" else float(value)
    if entry.text is None:
        labels = pipeline(folder).labels
        arguments["class_labels"] = [labels[question.prompt]]
    else:
        width, height = question.size
        arguments |= {"prompt": question.prompt, "width": width, "height": height}
    if "max_area" in inspect.signature(type(pipeline(folder)).__call__).parameters:
        arguments["max_area"] = question.size[0] * question.size[1]
    if question.negative_prompt or arguments.get("true_cfg_scale", 0) > 1:
        arguments["negative_prompt"] = question.negative_prompt
    generator = torch.Generator("cpu").manual_seed(question.seed)
    scheduler = pipeline(folder).scheduler
    advance = functools.partial(type(scheduler).step, scheduler)
    if "generator" in inspect.signature(advance).parameters:  # not all pipelines pass it on
        scheduler.step = functools.partial(advance, generator=generator)
    image = pipeline(folder)(**arguments, generator=generator).images[0]
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def pixels(png: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=np.int16)
