"""Adapters (LoRA) that requests may name: files in a folder, looked at, not loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from model.checkpoint import PICKLES, CheckpointError
from model.pipelines.components import diffusers_root
from model.pipelines.hashing import sha256
from model.spec import Parameter

SUFFIX = ".safetensors"
WEIGHTS = f"pytorch_lora_weights{SUFFIX}"
"""What diffusers calls them in a folder of their own."""

SCALE = Parameter(
    *("lora_scale", 0, 2, 1, 0.05),
    "How strongly the adapter of `lora` counts: 0 not at all, 1 as it was trained.",
)


def find_loras(folder: Path, model: str) -> dict[str, Path]:
    """The adapters of a model, by name: NAME.safetensors, or NAME/pytorch_lora_weights.safetensors.

    Those directly in ``folder`` are every model's; those in its sub-folder ``model`` are of this
    one alone and come first. Raises `CheckpointError` for files that are no safetensors.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder of adapters")
    found = dict(_in(folder, model))
    if (own := folder / model).is_dir():
        found |= _in(own, "")
    return dict(sorted(found.items()))


def digest_with(digest: str, loras: Mapping[str, Path]) -> str:
    """A model's digest that takes in its adapters."""
    total = hashlib.sha256(f"{digest}\n".encode())
    for name, path in loras.items():
        total.update(f"lora {name} {sha256(path)}\n".encode())
    return total.hexdigest()


@lru_cache(64)
def takes_loras(class_name: str) -> bool:
    """Whether a pipeline's class can load adapters. Also where it is not one of diffusers'."""
    root = diffusers_root()
    head = re.compile(rf"^class {class_name}\(([^)]*)\)", re.MULTILINE)
    for path in sorted(root.glob("pipelines/**/pipeline_*.py")) if root else ():
        if found := head.search(path.read_text(encoding="utf-8")):
            bases = [base.strip() for base in found[1].split(",")]
            return any(
                "LoraLoader" in base
                or (base.endswith("Pipeline") and base != "DiffusionPipeline" and takes_loras(base))
                for base in bases
            )
    return True


def _in(folder: Path, model: str) -> Iterator[tuple[str, Path]]:
    names: set[str] = set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.is_dir() and path.name == model):
            continue
        if any(file.match(pattern) for file in _weights(path) for pattern in PICKLES):
            message = "pickled weights are never opened, as they can run code; save them as"
            raise CheckpointError(f"{path}: {message} {path.with_suffix(SUFFIX).name}")
        file = path / WEIGHTS if path.is_dir() else path
        if file.suffix != SUFFIX or not file.is_file():
            continue
        name = path.name.removesuffix(SUFFIX)
        if name in names:
            raise CheckpointError(f"{path}: there are two adapters {name}")
        names.add(name)
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: not in safetensors format: {error}") from error
        yield name, file


def _weights(path: Path) -> Iterator[Path]:
    """A file itself; of a folder, what would be its adapter."""
    if path.is_file():
        yield path
    elif not (path / WEIGHTS).is_file():
        yield from path.glob("pytorch_lora_weights.*")
