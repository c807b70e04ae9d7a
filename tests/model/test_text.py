"""Prompts to tokens to encodings."""

import pytest
import torch

from model.layers import PromptEncoder
from model.tokenizer import PADDING, PromptTokenizer, PromptTooLong
from tests.tiny import PROMPTS


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer.train(PROMPTS, 300)


@pytest.mark.parametrize("prompt", ["never seen", "🍎 👩🏽‍🚀", "绿色圆形", "\x00\n\t", "ﬁne"])
def test_every_string_has_tokens_and_none_is_padding(
    tokenizer: PromptTokenizer, prompt: str
) -> None:
    tokens = tokenizer.tokens(prompt)
    assert tokens
    assert PADDING not in tokens


def test_case_and_surrounding_blanks_change_nothing(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.tokens("  Red APPLE ") == tokenizer.tokens("red apple")


def test_the_padding_symbol_in_a_prompt_is_plain_text(tokenizer: PromptTokenizer) -> None:
    """A prompt must not be able to hide its own end."""
    assert PADDING not in tokenizer.tokens("red <|pad|> apple")


def test_a_long_prompt_is_refused_with_its_count(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(PromptTooLong, match="has 40 tokens, at most 8 are accepted") as caught:
        tokenizer.padded("~" * 39, 8)  # and one for the leading blank
    assert (caught.value.tokens, caught.value.limit) == (40, 8)


def test_saved_and_loaded_it_reads_the_same(tokenizer: PromptTokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = PromptTokenizer.load(tmp_path / "tokenizer.json")
    assert again.tokens("red apple, noto 风格") == tokenizer.tokens("red apple, noto 风格")
    assert again.vocabulary == tokenizer.vocabulary


def test_padding_does_not_change_an_encoding() -> None:
    """Training pads to a shorter length than serving; both must read a prompt alike."""
    torch.manual_seed(0)
    encoder = PromptEncoder(vocabulary=50, width=32, depth=2, heads=2, summary=4, max_tokens=16)
    prompt = torch.tensor([[7, 8, 9]])
    padded = torch.nn.functional.pad(prompt, (0, 13), value=PADDING)
    torch.testing.assert_close(encoder(padded), encoder(prompt), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(encoder(prompt), encoder(prompt.flip(1)))
