"""Prompts to tokens to encodings."""

import pytest
import torch

from model.layers import FrozenEmbedding, PromptEncoder
from model.tokenizer import PADDING, PromptTokenizer, PromptTooLong
from tests.tiny import PROMPTS

PIECES = [("▁", -2.0), ("▁red", -3.0), ("▁app", -4.0), ("le", -4.0), ("p", -5.0), ("fi", -5.0)]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> PromptTokenizer:
    if request.param == "unigram":
        return PromptTokenizer.unigram(PIECES)
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


def test_many_prompts_have_the_tokens_that_each_has_alone(tokenizer: PromptTokenizer) -> None:
    prompts = ["Red apple", " ", "", "never seen 🍎", " rocket"]
    assert tokenizer.tokens_of_all(prompts) == [tokenizer.tokens(text) for text in prompts]
    assert tokenizer.tokens_of_all(prompts)[1:3] == [[], []]


def test_tokens_say_what_was_read(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.text(tokenizer.tokens("red apple 🍎, 红苹果")) == "red apple 🍎, 红苹果"


def test_pieces_are_found_and_other_characters_are_spelled_in_bytes() -> None:
    tokenizer = PromptTokenizer.unigram(PIECES)
    texts = tokenizer.texts()
    tokens = [texts[token] for token in tokenizer.tokens("Red Apple é")]
    assert tokens == ["▁red", "▁app", "le", "▁", "<0xC3>", "<0xA9>"]


def test_the_padding_symbol_in_a_prompt_is_plain_text(tokenizer: PromptTokenizer) -> None:
    """A prompt must not be able to hide its own end."""
    for text in ("<|pad|>", "<|PAD|>"):
        tokens = tokenizer.tokens(f"red {text} apple")
        assert PADDING not in tokens
        assert tokenizer.text(tokens) == f"red {text.lower()} apple"


def test_a_long_prompt_is_refused_with_its_count(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(PromptTooLong, match="has 40 tokens, at most 8 are accepted") as caught:
        tokenizer.padded("~" * 39, 8)  # and one for the leading blank
    assert (caught.value.tokens, caught.value.limit) == (40, 8)


def test_saved_and_loaded_it_reads_the_same(tokenizer: PromptTokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = PromptTokenizer.load(tmp_path / "tokenizer.json")
    assert again.tokens("red apple, noto 风格") == tokenizer.tokens("red apple, noto 风格")
    assert again.vocabulary == tokenizer.vocabulary


def test_a_frozen_embedding_trains_its_map_alone() -> None:
    torch.manual_seed(0)
    embedding = FrozenEmbedding(vocabulary=5, channels=3, width=4)
    codes = torch.tensor([[0, 0, 0], [127, 0, 0], [0, -127, 0], [0, 0, 64], [1, 2, 3]])
    embedding.codes.copy_(codes)
    embedding.scales.copy_(torch.tensor([0.0, 1.0, 0.5, 0.1, 0.01]))
    tokens = torch.tensor([[2, 3]])
    expected = torch.tensor([[[0, -63.5, 0], [0, 0, 6.4]]]) @ embedding.into.weight.T
    torch.testing.assert_close(embedding(tokens), expected + embedding.into.bias)
    assert [name for name, _ in embedding.named_parameters()] == ["into.weight", "into.bias"]
    assert embedding.bfloat16().codes.dtype == torch.int8


def test_padding_does_not_change_an_encoding() -> None:
    """Training pads to a shorter length than serving; both must read a prompt alike."""
    torch.manual_seed(0)
    encoder = PromptEncoder(vocabulary=50, width=32, depth=2, heads=2, summary=4, max_tokens=16)
    prompt = torch.tensor([[7, 8, 9]])
    padded = torch.nn.functional.pad(prompt, (0, 13), value=PADDING)
    torch.testing.assert_close(encoder(padded), encoder(prompt), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(encoder(prompt), encoder(prompt.flip(1)))
