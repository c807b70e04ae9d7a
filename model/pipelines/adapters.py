"""LoRA adapters of a pipeline: loaded at the start, chosen by each pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointError
from model.request import ImageRequest


class Adapters:
    """Those of one pipeline. Rows with the same adapter and scale share passes."""

    def __init__(self, pipeline: Any, files: Mapping[str, Path]) -> None:
        """Loads them. Raises `CheckpointError` for a file that does not fit the pipeline."""
        self._pipeline = pipeline
        self._names = {name: f"adapter_{index}" for index, name in enumerate(sorted(files))}
        self._selected: str | None = "" if not files else None
        for name, internal in self._names.items():
            path = files[name]
            try:
                pipeline.load_lora_weights(
                    path.parent,
                    weight_name=path.name,
                    adapter_name=internal,
                    use_safetensors=True,
                    local_files_only=True,
                )
                if not _has(pipeline, internal):
                    raise ValueError("none of its layers is one of the pipeline's")
            except Exception as error:  # the library raises whatever it meets
                raise CheckpointError(
                    f"{path}: no adapter for {type(pipeline).__name__}: {error}; adapters of one "
                    "model lie in a folder of its name"
                ) from error

    def lane(self, request: ImageRequest) -> str:
        """What keeps its row apart from rows with other adapters; "" without one."""
        return f"{request.lora}@{request.value('lora_scale', 1.0):g}" if request.lora else ""

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


def _has(pipeline: Any, adapter: str) -> bool:
    return any(adapter in names for names in pipeline.get_list_adapters().values())
