"""A trained codec in a folder of its own: what a gpt is trained on, before there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from model.checkpoint import Checkpoint, CheckpointError, read_weights, save_weights
from model.config import CodecConfig
from model.families import GptCheckpointConfig
from model.gpt.codec import Codec
from model.gpt.network import Gpt


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


def codec_of(folder: Path) -> Codec:
    """The codec in its own folder, or that of a gpt's checkpoint. Raises `CheckpointError`."""
    try:
        family = json.loads((folder / "config.json").read_bytes())["family"]
    except (OSError, ValueError, KeyError):
        family = None  # `load_codec` says what is wrong
    if family != "gpt":
        return load_codec(folder)
    checkpoint = Checkpoint.open(folder)
    assert isinstance(checkpoint.config, GptCheckpointConfig)
    gpt = Gpt(checkpoint.config.network)
    gpt.load_state_dict(read_weights(folder / "model.safetensors", gpt.state_dict()))
    return gpt.codec.eval().requires_grad_(False)


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
