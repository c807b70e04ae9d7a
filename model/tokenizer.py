"""Prompts to tokens: byte-level BPE, or a unigram model whose tokens have known vectors.

Imports no torch, so that prompts can be refused early.

Any string has tokens (bytes are never unknown), and a prompt which is too long is refused with the
count rather than cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PADDING = 0
_PADDING_TEXT = "<|pad|>"
_NEVER = -1000.0  # the log probability of a piece that others spell


class PromptTooLong(ValueError):
    """A prompt has more tokens than the model was built for."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt has {tokens} tokens, at most {limit} are accepted")
        self.tokens = tokens
        self.limit = limit


class PromptTokenizer:
    """Byte-level BPE (Sennrich et al. 2016 on bytes, as in GPT-2), case folded, NFKC.

    Or a unigram model (Kudo 2018), see `unigram`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # as text: a prompt must not hide its own end

    @classmethod
    def train(cls, prompts: Iterable[str], vocabulary: int) -> PromptTokenizer:
        """Learns merges from prompts; the vocabulary includes the 256 bytes and the padding."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = _folded()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[_PADDING_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(prompts, trainer)
        return cls(tokenizer)

    @classmethod
    def unigram(cls, pieces: Iterable[tuple[str, float]]) -> PromptTokenizer:
        """Of pieces in lower case (a word's first begins with ▁) and their log probabilities.

        The padding comes before them, and the 256 bytes after, for characters that no piece has.
        """
        # No text is taken for the padding: it is read in lower case.
        bytes_ = [(f"<0x{value:02X}>", _NEVER) for value in range(256)]
        vocabulary = [(_PADDING_TEXT.upper(), _NEVER), *pieces, *bytes_]
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=PADDING, byte_fallback=True))
        tokenizer.normalizer = _folded()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> PromptTokenizer:
        return cls(Tokenizer.from_file(str(path)))

    @classmethod
    def from_json(cls, text: str) -> PromptTokenizer:
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """What ``tokenizer.json`` has."""
        return str(self._tokenizer.to_str(pretty=False))

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path), pretty=False)

    @property
    def vocabulary(self) -> int:
        """The number of distinct tokens."""
        return int(self._tokenizer.get_vocab_size())

    def texts(self) -> list[str]:
        """Each token in the alphabet that stands for bytes, in the tokens' order."""
        vocabulary = self._tokenizer.get_vocab()
        return sorted(vocabulary, key=lambda text: int(vocabulary[text]))

    def spell(self, text: str) -> list[int]:
        """The tokens that make up one of another tokenizer's `texts`."""
        if text == _PADDING_TEXT:
            return [PADDING]
        return [int(token.id) for token in self._tokenizer.model.tokenize(text)]

    def tokens(self, prompt: str) -> list[int]:
        """The prompt's tokens, without padding; none for an empty or blank prompt."""
        prompt = prompt.strip()
        return list(self._tokenizer.encode(prompt).ids) if prompt else []

    def tokens_of_all(self, prompts: Sequence[str]) -> list[list[int]]:
        """The `tokens` of each, faster than one by one."""
        stripped = [prompt.strip() for prompt in prompts]
        encodings = self._tokenizer.encode_batch(stripped)
        return [
            list(encoding.ids) if prompt else []
            for prompt, encoding in zip(stripped, encodings, strict=True)
        ]

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say; bytes that are no UTF-8 become the replacement character."""
        return str(self._tokenizer.decode(list(tokens))).strip()

    def shortened(self, prompt: str, limit: int) -> str:
        """The prompt, or as much of its beginning as has at most ``limit`` tokens."""
        while (count := len(self.tokens(prompt))) > limit:
            words = prompt.split()
            kept = len(words) * limit // count
            if 0 < kept < len(words):
                prompt = " ".join(words[:kept])
            else:
                prompt = prompt[: min(len(prompt) * limit // count, len(prompt) - 1)]
        return prompt

    def within(self, prompt: str, limit: int) -> list[int]:
        """The prompt's tokens, at most ``limit``. Raises `PromptTooLong`."""
        tokens = self.tokens(prompt)
        if len(tokens) > limit:
            raise PromptTooLong(len(tokens), limit)
        return tokens

    def by_tokens(self, prompts: Sequence[str], limit: int) -> dict[tuple[int, ...], str]:
        """Those that have at most ``limit`` tokens, by them; of some with the same, the last."""
        tokens = map(tuple, self.tokens_of_all(prompts))
        found = dict(zip(tokens, prompts, strict=True))
        return {its: prompt for its, prompt in found.items() if len(its) <= limit}

    def usable(self, prompts: Sequence[str], limit: int) -> list[str]:
        """Those that have tokens, and at most ``limit``."""
        tokens = zip(prompts, self.tokens_of_all(prompts), strict=True)
        return [prompt for prompt, its in tokens if 0 < len(its) <= limit]

    def padded(self, prompt: str, length: int) -> list[int]:
        """The prompt's tokens, filled up to ``length``. Raises `PromptTooLong`."""
        tokens = self.within(prompt, length)
        return tokens + [PADDING] * (length - len(tokens))


def _folded() -> normalizers.Normalizer:
    """What both kinds read a prompt through: NFKC, in lower case."""
    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
