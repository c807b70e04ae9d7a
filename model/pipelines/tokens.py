"""How many tokens a prompt has for the tokenizer of a folder: the numbers of transformers, without
it and without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from model.checkpoint import CheckpointError
from model.pipelines.components import INSTALL, read_json

FILE, VOCABULARY, MERGES, PIECES = "tokenizer.json", "vocab.json", "merges.txt", "spiece.model"
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
SENTINELS = 100
"""``<extra_id_…>`` that T5's tokenizer has beyond its pieces."""

_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TokenCounter:
    """Counts as a pipeline does: with the special tokens that its tokenizer adds to a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, folder: Path, class_name: str) -> TokenCounter:
        """The tokenizer of a component. Raises `CheckpointError`.

        ``tokenizer.json`` is read as it is. Older folders have a vocabulary alone; how a text is
        split is then known from the class.
        """
        config_file = folder / "tokenizer_config.json"
        config = read_json(config_file) if config_file.is_file() else {}
        name = class_name.removesuffix("Fast")
        try:
            if (folder / FILE).is_file():
                tokenizer = Tokenizer.from_file(str(folder / FILE))
                _add(tokenizer, _named(folder, config))
            elif (folder / VOCABULARY).is_file() and name == "CLIPTokenizer":
                tokenizer = _clip(folder, config)
            elif (folder / VOCABULARY).is_file() and name == "Qwen2Tokenizer":
                tokenizer = _qwen2(folder, config)
            elif (folder / PIECES).is_file() and name == "T5Tokenizer":
                tokenizer = _t5(folder, config)
            else:
                raise CheckpointError(f"{folder / FILE}: missing; without it no {name} is known")
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{folder}: no tokenizer: {error}") from error
        return cls(tokenizer)

    def __call__(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)


def _clip(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Spaces are one, case is folded, and two tokens stand around."""
    tokenizer = Tokenizer(
        BPE.from_file(
            str(folder / VOCABULARY),
            str(folder / MERGES),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=_text(config.get("unk_token")) or CLIP_END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    start = _text(config.get("bos_token")) or CLIP_START
    end = _text(config.get("eos_token")) or CLIP_END
    _add(tokenizer, [*_named(folder, config), _special(start), _special(end)])
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, _number(tokenizer, end)),
        (start, _number(tokenizer, start)),
        trim_offsets=False,
        add_prefix_space=False,
    )
    return tokenizer


def _qwen2(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Bytes, split as GPT-4 does; nothing stands around."""
    tokenizer = Tokenizer(
        BPE.from_file(
            str(folder / VOCABULARY),
            str(folder / MERGES),
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    prefix = bool(config.get("add_prefix_space"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
        ]
    )
    _add(tokenizer, [*_named(folder, config), _special("<|endoftext|>")])
    return tokenizer


def _t5(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Pieces by their scores, and an end."""
    path = folder / PIECES
    try:
        from sentencepiece import sentencepiece_model_pb2 as messages
    except ImportError as error:
        raise CheckpointError(f"{path}: is read by sentencepiece: {INSTALL}") from error
    proto: Any = messages.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(path.read_bytes())
    sentinels = int(config.get("extra_ids", SENTINELS))
    names = [f"<extra_id_{number}>" for number in range(sentinels - 1, -1, -1)]
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    pieces += [(name, 0.0) for name in names]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    if charsmap := proto.normalizer_spec.precompiled_charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    defaults = ("</s>", "<unk>", "<pad>", *names)
    _add(tokenizer, [*_named(folder, config), *map(_special, defaults)])
    end = _text(config.get("eos_token")) or "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", end], special_tokens=[(end, _number(tokenizer, end))]
    )
    return tokenizer


def _add(tokenizer: Tokenizer, tokens: Iterable[AddedToken]) -> None:
    """Those that it does not have."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for token in tokens:
        if token.content not in known:
            known.add(token.content)
            add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
            add([token])


def _named(folder: Path, config: Mapping[str, Any]) -> Iterator[AddedToken]:
    """The tokens that are named beside the vocabulary."""
    for entry in (config.get("added_tokens_decoder") or {}).values():
        yield AddedToken(**entry) if isinstance(entry, dict) else AddedToken(str(entry))
    special = folder / "special_tokens_map.json"
    for source in (config, read_json(special) if special.is_file() else {}):
        for key, value in source.items():
            if not key.endswith(("_token", "special_tokens")):
                continue
            by_use = isinstance(value, dict) and "content" not in value
            listed = [*value.values()] if by_use else value if isinstance(value, list) else [value]
            yield from (_special(text) for text in map(_text, listed) if text is not None)
    added = folder / "added_tokens.json"
    for text in read_json(added) if added.is_file() else {}:
        yield AddedToken(text, normalized=True)


def _special(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)


def _number(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None  # just added
    return int(number)


def _text(token: Any) -> str | None:
    """A token's text; configurations have it alone, or in an object with its properties."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
