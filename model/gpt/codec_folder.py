"""A trained codec in a folder of its own: what a gpt is trained on, before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from model.checkpoint import CheckpointError, read_weights, save_weights
from model.config import CodecConfig
from model.gpt.codec import Codec


class CodecFile(BaseModel):
    """``config.json`` of a codec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    family: Literal["codec"] = "codec"
    description: str
    licence: str
    network: CodecConfig


def save_codec(folder: Path, file: CodecFile, weights: Mapping[str, Tensor]) -> None:
    """Writes ``config.json`` and ``model.safetensors`` into ``folder``, made if missing."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(file.model_dump_json(indent=2) + "\n", encoding="utf-8")
    save_weights(folder / "model.safetensors", weights)


def load_codec(folder: Path) -> Codec:
    """A codec in fp32 on the CPU. Raises `CheckpointError`."""
    path = folder / "config.json"
    try:
        file = CodecFile.model_validate_json(path.read_bytes())
        codec = Codec(file.network)
        codec.load_state_dict(read_weights(folder / "model.safetensors", codec.state_dict()))
    except OSError as error:
        raise CheckpointError(f"{folder}: no codec: {error}") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: no codec: {error.errors()[0]['msg']}") from error
    return codec.eval().requires_grad_(False)
