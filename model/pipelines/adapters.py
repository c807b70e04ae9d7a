"""LoRA adapters of a pipeline: loaded at the start, chosen by each pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from model.checkpoint import CheckpointError
from model.pipelines.networks import in_a_line, networks_of
from model.request import ImageRequest

_LAYER = re.compile(r"(\w+)\.(.+)\.(?:lora_A|lora\.down)\.weight")
"""A component, and a layer of it, in the names that the library gives to weights."""


class Adapters:
    """Those of one pipeline. Rows with the same adapter and scale share passes."""

    def __init__(self, pipeline: Any, network: str, files: Mapping[str, Path]) -> None:
        """Loads them; ``network`` is the component that takes steps.

        Raises `CheckpointError` for a file that does not fit the pipeline.
        """
        self._pipeline = pipeline
        self._names = {name: f"adapter_{index}" for index, name in enumerate(sorted(files))}
        self._selected: str | None = "" if not files else None
        for name, internal in self._names.items():
            try:
                _load(pipeline, network, files[name], internal)
            except Exception as error:  # the library raises whatever it meets
                raise CheckpointError(
                    f"{files[name]}: no adapter for {type(pipeline).__name__}: {in_a_line(error)}; "
                    "adapters of one model lie in a folder of its name"
                ) from error

    def lane(self, request: ImageRequest) -> str:
        """What keeps its row apart from rows with other adapters; "" without one."""
        return f"{request.lora}@{request.value('lora_scale', 1.0)!r}" if request.lora else ""

    def select(self, request: ImageRequest) -> None:
        """Makes the networks compute with the request's adapter."""
        lane = self.lane(request)
        if lane == self._selected:
            return
        if request.lora:
            self._pipeline.enable_lora()
            scale = request.value("lora_scale", 1.0)
            self._pipeline.set_adapters([self._names[request.lora]], [scale])
        else:
            self._pipeline.disable_lora()
        self._selected = lane


def _load(pipeline: Any, network: str, path: Path, name: str) -> None:
    """Raises whatever the library does, and ``ValueError`` for what it only warns of."""
    given = {"weight_name": path.name, "use_safetensors": True, "local_files_only": True}
    state = pipeline.lora_state_dict(path.parent, **given)
    weights = state[0] if isinstance(state, tuple) else state
    known = {layer for layer, _ in getattr(pipeline, network).named_modules()}
    for key in weights:
        found = _LAYER.fullmatch(key)
        if found and found[1] == network and found[2] not in known:
            raise ValueError(f"the {network} has no layer {found[2]}")
    before = _versions(pipeline)
    pipeline.load_lora_weights(path.parent, adapter_name=name, **given)
    if not any(name in names for names in pipeline.get_list_adapters().values()):
        raise ValueError("none of its layers is one of the pipeline's")
    after = _versions(pipeline)
    if any(after.get(weight) != version for weight, version in before.items()):
        raise ValueError("it changes weights of the networks themselves, and so every image")


def _versions(pipeline: Any) -> dict[nn.Parameter, int]:
    """All weights, each with the number of changes that were made to it."""
    networks = networks_of(pipeline).values()
    return {weight: weight._version for one in networks for weight in one.parameters()}
