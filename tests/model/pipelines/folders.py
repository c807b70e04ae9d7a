"""Pipelines as folders: configurations, vocabularies and headers that fit, and weights that nobody
could draw with. Written in milliseconds, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

LABELS = {
    "1": "goldfish, Carassius auratus",
    "134": "crane",
    "207": "golden retriever",
    "208": "Labrador retriever",
    "282": "tiger cat",
    "283": "Persian cat",
    "292": "tiger, Panthera tigris",
    "517": "crane",
}

KL = {"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "latent_channels": 4}
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path: Path, **changes: Any) -> None:
    """Sets what is not None, and takes away what is."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))


def write_weights(path: Path, **shapes: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, path)


def write_model(
    folder: Path, library: str, config: Mapping[str, Any], **shapes: tuple[int, ...]
) -> None:
    """A network: its configuration and its weights."""
    stem = "model" if library == "transformers" else "diffusion_pytorch_model"
    write_json(folder / "config.json", config)
    write_weights(folder / f"{stem}.safetensors", **shapes or {"weight": (1,)})


def dit(folder: Path, labels: Mapping[str, str] = LABELS) -> Path:
    """Draws classes by their names, at 16 x 16 pixels."""
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "DiTPipeline",
            "_diffusers_version": "0.42.1",
            "id2label": labels,
            "scheduler": ["diffusers", "DDIMScheduler"],
            "transformer": ["diffusers", "DiTTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    transformer = {"_class_name": "DiTTransformer2DModel", "in_channels": 4, "sample_size": 8}
    patches = {"pos_embed.proj.weight": (16, 4, 2, 2)}
    write_model(folder / "transformer", "diffusers", transformer, **patches)
    write_model(folder / "vae", "diffusers", KL)
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler"})
    return folder


def flux(folder: Path) -> Path:
    """Two texts, embedded guidance, and classifier-free guidance beside it."""
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "FluxPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    transformer = {
        "_class_name": "FluxTransformer2DModel",
        "in_channels": 16,
        "guidance_embeds": True,
    }
    write_model(folder / "transformer", "diffusers", transformer, **{"x_embedder.weight": (32, 16)})
    write_model(folder / "vae", "diffusers", KL)
    write_model(folder / "text_encoder", "transformers", {"hidden_size": 8})
    shared = {"shared.weight": (40, 8)}
    write_model(folder / "text_encoder_2", "transformers", {"d_model": 8}, **shared)
    write_words(folder / "tokenizer")
    write_words(folder / "tokenizer_2")
    write_json(folder / "scheduler" / "scheduler_config.json", EULER)
    return folder


def sd3(folder: Path) -> Path:
    """Three texts, of which the third may be left out."""
    parts = {
        **{f"text_encoder{n}": ["transformers", "CLIPTextModelWithProjection"] for n in ("", "_2")},
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        **{f"tokenizer{n}": ["transformers", "CLIPTokenizer"] for n in ("", "_2")},
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusion3Pipeline", **parts})
    for name in ("", "_2", "_3"):
        write_model(folder / f"text_encoder{name}", "transformers", {"hidden_size": 8})
        write_words(folder / f"tokenizer{name}")
    transformer = {"_class_name": "SD3Transformer2DModel", "in_channels": 4, "sample_size": 16}
    write_model(folder / "transformer", "diffusers", transformer)
    write_model(folder / "vae", "diffusers", KL)
    write_json(folder / "scheduler" / "scheduler_config.json", EULER)
    return folder


def write_words(folder: Path) -> None:
    """A tokenizer of a few words and an end."""
    words = {"<unk>": 0, "</s>": 1, "a": 2, "red": 3, "apple": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"model_max_length": 77})


def in_hub_cache(folder: Path, cache: Path, repository: str, commit: str = "a" * 40) -> Path:
    """A copy of a folder as the Hub's cache has it: links to files named by their hashes."""
    import hashlib

    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            large = file.suffix == ".safetensors"
            hashed = hashlib.sha256(content) if large else hashlib.sha1(content)  # noqa: S324
            blob = root / "blobs" / hashed.hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = snapshot / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    return snapshot
