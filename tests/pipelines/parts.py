"""What tiny pipelines are made of: tokenizers made here, small encoders, an autoencoder.

Everything is random and the same for the same seed, and nothing is downloaded. `randomise` fills
all parameters, also those that a library leaves uninitialised, with numbers large enough that
prompts, seeds, steps and guidance show in the pixels of two steps.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import sentencepiece
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

M = TypeVar("M", bound=nn.Module)

library: Any = diffusers  # whose classes mypy takes for the stand-ins it has where torch is not

WORDS = (
    *("a", "an", "and", "the", "of", "in", "on", "with", "by", "at", "to", "make", "it"),
    *("photo", "picture", "painting", "red", "green", "blue", "yellow", "white", "black"),
    *("apple", "horse", "house", "tree", "cat", "dog", "face", "sky", "sea", "light", "night"),
    *("small", "large", "old", "new"),
)
"""Those that are one token. All others are spelt, so every text has tokens."""

START, END = "<|startoftext|>", "<|endoftext|>"


def randomise(
    module: M, seed: int = 0, gain: float = 1.0, louder: Mapping[str, float] | None = None
) -> M:
    """Fills all parameters: weights keep the size of what they multiply, times ``gain``.

    Those with a key of ``louder`` in their names are multiplied once more.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                noise = torch.randn(parameter.shape, generator=generator)
                if isinstance(part, nn.Embedding):
                    filled = noise
                elif parameter.ndim >= 2:
                    filled = gain * noise / math.sqrt(parameter[0].numel())
                elif name in ("weight", "gamma"):  # of a norm
                    filled = 1 + 0.1 * noise
                else:
                    filled = 0.1 * noise
                parameter.copy_(filled)
        for name, parameter in module.named_parameters():
            for part_of_name, factor in (louder or {}).items():
                if part_of_name in name:
                    parameter.mul_(factor)
    return module.eval()


def spelling(
    words: Iterable[str] = WORDS, prefix: str = "", suffix: str = ""
) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges of a BPE over bytes in which each of ``words`` is one token.

    ``prefix`` is what begins a word ("Ġ" for GPT's way), ``suffix`` what ends it ("</w>" for
    CLIP's): the words are known with and without the one, and only with the other.
    """
    letters = sorted(ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*letters, *(letter + suffix for letter in letters)])
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for start in dict.fromkeys(("", prefix)):
            symbols = [*start, *word[:-1], word[-1] + suffix]
            while len(symbols) > 1:
                pair = symbols[0], symbols[1]
                merges[pair] = None
                symbols[:2] = ["".join(pair)]
                vocabulary[symbols[0]] = None
    return {token: number for number, token in enumerate(vocabulary)}, list(merges)


def clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """77 tokens of which two are the start and the end. SDXL's second one pads with "!"."""
    vocabulary, merges = spelling(suffix="</w>")
    for token in (START, END):
        vocabulary[token] = len(vocabulary)
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=pad,
        model_max_length=77,
    )


def as_older_clip(folder: Path) -> None:
    """Makes a saved CLIP tokenizer what most published ones are: ``vocab.json`` and
    ``merges.txt`` in place of ``tokenizer.json``."""
    saved = folder / "tokenizer.json"
    model = json.loads(saved.read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    saved.unlink()


def t5_tokenizer(longest: int = 512) -> T5Tokenizer:
    """Letters and `WORDS`, as T5 has them: pad 0, end 1, unknown 2, the sentinels at the end."""
    characters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(character, -6.0) for character in characters]
    pieces += [("▁" + word, -3.0) for word in WORDS]
    pieces += [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    return T5Tokenizer(vocab=pieces, model_max_length=longest)


def sentencepiece_model(**options: Any) -> bytes:
    """A ``spiece.model`` of the same words, for folders that have no ``tokenizer.json``."""
    sentences = [" ".join(WORDS), *(" ".join(chr(code) for code in range(33, 127)),) * 2]
    file = io.BytesIO()
    given: dict[str, Any] = {
        "vocab_size": 180,
        "pad_id": 0,
        "eos_id": 1,
        "unk_id": 2,
        "bos_id": -1,
        "character_coverage": 1.0,
        "hard_vocab_limit": False,
        "num_threads": 1,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=file, **given | options
    )
    return file.getvalue()


def as_older_t5(folder: Path) -> None:
    """Makes a saved T5 tokenizer what PixArt's is: ``spiece.model``, no ``tokenizer.json``."""
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(sentencepiece_model())


def clip_config(tokenizer: CLIPTokenizer, width: int = 32, **options: Any) -> CLIPTextConfig:
    given: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_act": "quick_gelu",
    }
    return CLIPTextConfig(**given | options)


def clip(tokenizer: CLIPTokenizer, seed: int = 1, **options: Any) -> CLIPTextModel:
    """32 wide, two layers."""
    return randomise(CLIPTextModel(clip_config(tokenizer, **options)), seed)


def clip_projected(
    tokenizer: CLIPTokenizer, seed: int = 2, **options: Any
) -> CLIPTextModelWithProjection:
    """32 wide, two layers, projected to 32."""
    return randomise(CLIPTextModelWithProjection(clip_config(tokenizer, **options)), seed)


def t5_config(width: int = 32, **options: Any) -> T5Config:
    given: dict[str, Any] = {
        "vocab_size": 320,  # of the tokenizer, rounded up as T5's is
        "d_model": width,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 32,
        "feed_forward_proj": "gated-gelu",
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return T5Config(**given | options)


def t5(seed: int = 3, **options: Any) -> T5EncoderModel:
    """32 wide, two layers."""
    return randomise(T5EncoderModel(t5_config(**options)), seed)


def kl(latent: int = 4, seed: int = 4, **options: Any) -> Any:
    """An ``AutoencoderKL`` of two pixels along a side for each of the latent."""
    given: dict[str, Any] = {
        "sample_size": 32,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "latent_channels": latent,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,  # slow at native sizes, and nothing to test here
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.5035,
        "shift_factor": 0.0609,
    }
    return randomise(library.AutoencoderKL(**given | options), seed)
