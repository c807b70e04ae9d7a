"""A folder becomes a model: ``config.json``, ``model.safetensors``, ``tokenizer.json``.

`Checkpoint.open` imports no torch and finds all that can be wrong without building the network;
`load_model` builds it. Both say which file is at fault and why. Only safetensors are read: a
pickle can run code when it is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from model.families import FAMILIES, CheckpointConfig, parse_config
from model.protocol import ImageModel, ModelSpec
from model.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from model.passes import Mode

    N = TypeVar("N", bound=nn.Module)

SHIPPED = Path(__file__).parent / "checkpoints"
"""Where the trained models that ship lie, one folder each."""

FILES = ("config.json", "model.safetensors", "tokenizer.json")
PICKLES = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.pkl")

Dtype = Literal["auto", "fp32", "bf16"]


class CheckpointError(Exception):
    """A checkpoint cannot be used. ``str()`` names the file and says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that has been looked at, not loaded."""

    folder: Path
    config: CheckpointConfig
    spec: ModelSpec
    tokenizer: PromptTokenizer

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Reads a folder. Raises `CheckpointError`."""
        folder = folder.resolve()
        _check_files(folder)
        config = _read_config(folder / "config.json")
        files = (*FILES, *config.more_files)
        if missing := [name for name in files if not (folder / name).is_file()]:
            raise CheckpointError(f"{folder / missing[0]}: missing; a {config.family} has it")
        try:
            tokenizer = PromptTokenizer.load(folder / "tokenizer.json")
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{folder / 'tokenizer.json'}: no tokenizer: {error}") from error
        if tokenizer.vocabulary > config.vocabulary:
            raise CheckpointError(
                f"{folder / 'tokenizer.json'}: has {tokenizer.vocabulary} tokens, "
                f"config.json has room for {config.vocabulary}"
            )
        spec = config.spec(folder.name, _digest(folder, files))
        return cls(folder, config, spec, tokenizer)


def shipped() -> list[Path]:
    """The checkpoint folders in the tree, by family (they are called NAME-FAMILY), flow first.

    The first one is the default model.
    """
    order: dict[str, int] = {family: place for place, family in enumerate(FAMILIES)}
    folders = [path.parent for path in SHIPPED.glob("*/config.json")]
    families = {folder: folder.name.rpartition("-")[2] for folder in folders}
    return sorted(folders, key=lambda each: (order.get(families[each], len(order)), each.name))


def resolve_dtype(dtype: Dtype, device: str) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 where the device multiplies it natively, else fp32. Imports torch."""
    import torch

    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def load_model(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: Dtype,
    tile: int | None = None,
    mode: Mode | None = None,
) -> ImageModel[Any]:
    """The checkpoint on a device ("cpu", "cuda:0"). Imports torch. Raises `CheckpointError`.

    ``mode`` is how its passes run. Where it or ``tile`` is None, the device and the family decide.
    """
    import torch

    from model.passes import mode_on

    precision = torch.bfloat16 if resolve_dtype(dtype, device) == "bf16" else torch.float32

    def place(network: N) -> N:
        path = checkpoint.folder / "model.safetensors"
        network.load_state_dict(read_weights(path, network.state_dict()))
        return network.to(device=device, dtype=precision)

    config = checkpoint.config
    tile = tile or config.tiles[torch.device(device).type]
    return config.model(checkpoint, place, tile, mode or mode_on(device))


def save_checkpoint(
    folder: Path,
    config: CheckpointConfig,
    weights: Mapping[str, torch.Tensor],
    tokenizer: PromptTokenizer,
) -> None:
    """Writes the three files into ``folder``, made if missing. Imports torch."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    save_weights(folder / "model.safetensors", weights)
    tokenizer.save(folder / "tokenizer.json")


def save_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Writes fp16 safetensors. Raises ``ValueError`` for a value that fp16 cannot hold."""
    import torch
    from safetensors.torch import save_file

    for name, tensor in state.items():
        if not torch.isfinite(tensor.half()).all():
            raise ValueError(f"{name} has values beyond fp16")
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, path)
    path.chmod(0o644)  # written for its owner alone, it could not be read in a container


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    missing = [name for name in FILES if not (folder / name).is_file()]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if "model.safetensors" in missing and pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: pickled weights are never opened, as they can run code; "
            "save them as model.safetensors"
        )
    if missing:
        raise CheckpointError(
            f"{folder / missing[0]}: missing; a checkpoint has {', '.join(FILES)}"
        )
    try:
        with safe_open(folder / "model.safetensors", framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / 'model.safetensors'}: not in safetensors format: {error}"
        ) from error


def _read_config(path: Path) -> CheckpointConfig:
    try:
        return parse_config(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path}: {place}: {first['msg']}") from error


def read_weights(path: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loads to fp32 and compares names and shapes with what the network has."""
    from safetensors.torch import load_file

    weights = load_file(path)
    problems = [
        *(f"{name} is missing" for name in expected if name not in weights),
        *(f"{name} is not part of this network" for name in weights if name not in expected),
        *(
            f"{name} is {list(weights[name].shape)}, config.json makes it {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ),
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointError(f"{path}: {problems[0]}{more}")
    return {name: tensor.float() for name, tensor in weights.items()}


def _digest(folder: Path, files: Iterable[str]) -> str:
    """SHA-256 over names and contents of the files."""
    total = hashlib.sha256()
    for name in files:
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
