"""A prompt has as many tokens here as in the library, or prompts are refused that it takes, or cut
by it without a word."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer, T5Tokenizer

from model.checkpoint import CheckpointError
from model.pipelines.tokens import TokenCounter
from tests.model.pipelines.folders import write_json, write_words
from tests.pipelines.parts import (
    as_older_clip,
    as_older_t5,
    clip_tokenizer,
    spelling,
    t5_tokenizer,
)

TEXTS = (
    *("", " ", "a red apple", "A  Red\n\tAPPLE!!", "don't we'll", "naïve café 東京 🦊", "½ ﬁne Å"),
    *("123 4567", "red" * 100, "  before", "after  ", "\u200bhidden\u00a0space", "ends </s> a"),
    *("<|endoftext|>", "<|ENDOFTEXT|> x", "<extra_id_3> red <extra_id_99>x", "<pad><unk>"),
    "a <|im_start|>user\nhi<|im_end|>\n",
)
"""Spaces, case, other scripts, composed letters, and what looks like the tokenizer's own tokens."""


def qwen2(folder: Path) -> None:
    vocabulary, merges = spelling(prefix="Ġ")
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocabulary[token] = len(vocabulary)
    special = ["<|im_start|>", "<|im_end|>"]
    Qwen2Tokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=special).save_pretrained(
        folder
    )


def clip(folder: Path) -> None:
    clip_tokenizer().save_pretrained(folder)


def t5(folder: Path) -> None:
    t5_tokenizer().save_pretrained(folder)


def older(make: Callable[[Path], None], change: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        make(folder)
        change(folder)

    return both


MAKERS: dict[str, tuple[Callable[[Path], None], Any, str]] = {
    "CLIP, tokenizer.json": (clip, CLIPTokenizer, "CLIPTokenizer"),
    "CLIP, vocab.json": (older(clip, as_older_clip), CLIPTokenizer, "CLIPTokenizer"),
    "T5, tokenizer.json": (t5, T5Tokenizer, "T5Tokenizer"),
    "T5, spiece.model": (older(t5, as_older_t5), T5Tokenizer, "T5TokenizerFast"),
    "Qwen2, tokenizer.json": (qwen2, Qwen2Tokenizer, "Qwen2Tokenizer"),
    "Qwen2, vocab.json": (older(qwen2, as_older_clip), Qwen2Tokenizer, "Qwen2TokenizerFast"),
    "words": (write_words, PreTrainedTokenizerFast, "PreTrainedTokenizerFast"),
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("transformers").setLevel("ERROR")  # "longer than the maximum" is the point


@pytest.mark.parametrize("name", MAKERS)
def test_a_text_has_the_librarys_number_of_tokens(name: str, tmp_path: Path) -> None:
    make, library, class_name = MAKERS[name]
    make(tmp_path)
    theirs, ours = library.from_pretrained(tmp_path), TokenCounter.open(tmp_path, class_name)
    drawn = random.Random(1)
    alphabet = "ab e\u0301\u2581\u4e00🦊\n'!0é"
    noise = ("".join(drawn.choices(alphabet, k=30)) for _ in range(100))
    for text in (*TEXTS, *noise):
        assert ours(text) == len(theirs(text).input_ids), repr(text)


def test_the_counts_differ_between_tokenizers(tmp_path: Path) -> None:
    """The inverse: texts that all tokenizers cut alike would show nothing."""
    counts = set()
    for name, (make, _, class_name) in MAKERS.items():
        make(tmp_path / name)
        counter = TokenCounter.open(tmp_path / name, class_name)
        counts.add(tuple(map(counter, TEXTS)))
    assert len(counts) == 5  # of T5's two vocabularies each its own


def test_a_text_is_neither_cut_nor_filled_up(tmp_path: Path) -> None:
    clip(tmp_path)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counter = TokenCounter.open(tmp_path, "CLIPTokenizer")
    assert counter("red") == 3
    assert counter("red " * 20) == 22


def test_tokens_that_only_the_configuration_names_are_known(tmp_path: Path) -> None:
    write_words(tmp_path)
    added = {"7": {"content": "<image>", "special": True}}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": added})
    counter = TokenCounter.open(tmp_path, "PreTrainedTokenizerFast")
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert counter("a <image> a") == len(theirs("a <image> a").input_ids) == 4


@pytest.mark.parametrize(
    ("files", "class_name", "says"),
    [
        ({}, "GemmaTokenizer", "tokenizer.json: missing; without it no GemmaTokenizer is known"),
        ({"tokenizer.json": "[]"}, "CLIPTokenizer", "no tokenizer: "),
        ({"vocab.json": "{}", "merges.txt": "a"}, "CLIPTokenizer", "no tokenizer: "),
        ({"spiece.model": "no pieces"}, "T5Tokenizer", "no tokenizer: "),
        ({"tokenizer_config.json": "{"}, "T5Tokenizer", "tokenizer_config.json: no JSON"),
    ],
)
def test_a_broken_tokenizer_is_refused(
    files: dict[str, str], class_name: str, says: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=says):
        TokenCounter.open(tmp_path, class_name)
