"""The networks of a folder, each loaded by its own library, and only whole ones.

Where a file lacks weights, or has some of another shape, the libraries put random numbers or
nothing in their place and warn. A server would draw noise.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import CheckpointError
from model.loading import is_shortage
from model.pipelines.components import LIBRARIES, Component

NOT_READ = ("lm_head.",)
"""Weights that only continue a text: pipelines read the layers before."""

_SHAPES = re.compile(r"(\S+) expected shape torch\.Size\((.*?)\), but got torch\.Size\((.*?)\)")


def load_networks(
    folder: Path, components: Mapping[str, Component], dtype: torch.dtype, quantized: dict[str, Any]
) -> dict[str, Any]:
    """Those that are one library's own class, by component, on the CPU.

    ``quantized`` are configurations of the library, by component. Raises `CheckpointError`.
    """
    found = {}
    for name, component in components.items():
        cls = _class(component)
        if cls is None:
            continue
        options = {"quantization_config": quantized[name]} if name in quantized else {}
        try:
            found[name] = _load(folder / name, component, cls, dtype, options)
        except CheckpointError:
            raise
        except Exception as error:  # the libraries raise whatever they meet
            if is_shortage(error):
                raise
            raise CheckpointError(f"{folder / name}: {in_a_line(error)}") from error
    return found


def networks_of(pipeline: Any) -> dict[str, torch.nn.Module]:
    """The components of a pipeline that are networks, by name."""
    components = pipeline.components.items()
    return {name: one for name, one in components if isinstance(one, torch.nn.Module)}


def in_a_line(error: Exception) -> str:
    """What went wrong, in one line, without advice for other callers."""
    text = " ".join(str(error).split()) or type(error).__name__
    if found := _SHAPES.search(text):
        return _wrong(*found.groups())
    return text if len(text) < 400 else f"{text[:400]} …"


def _class(component: Component) -> Any:
    """The class of a component with weights; None where the pipeline knows how to load it."""
    if component.library not in LIBRARIES:
        return None
    if not any(file.endswith(".safetensors") for file in component.files):
        return None
    return getattr(importlib.import_module(component.library), component.class_name, None)


def _load(
    path: Path, component: Component, cls: Any, dtype: torch.dtype, options: dict[str, Any]
) -> Any:
    if component.library == "transformers":  # else it raises without a name
        options["ignore_mismatched_sizes"] = True
    network, report = cls.from_pretrained(
        path,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=component.variant or None,
        output_loading_info=True,
        **options,
    )
    for problem in _problems(report):
        raise CheckpointError(f"{path}: {problem}")
    return network


def _problems(report: Mapping[str, Any]) -> Iterator[str]:
    for key, there, wanted in sorted(report["mismatched_keys"], key=str):
        yield _wrong(key, wanted, there)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(NOT_READ))
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        yield f"{missing[0]}{more} is missing"


def _wrong(key: str, wanted: Any, there: Any) -> str:
    wanted, there = (
        str(shape).removeprefix("torch.Size").strip("()[]") for shape in (wanted, there)
    )
    return f"{key} is [{there}], config.json makes it [{wanted}]"
