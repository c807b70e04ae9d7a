"""Prompts that training draws for an emoji: often its caption, else what people type.

Knows names, keywords and styles of a record (`model.data.emoji.Emoji`), and no image.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from model.data.wording import CHINESE, ENGLISH, Wording, phrase, single

if TYPE_CHECKING:
    from model.data.emoji import Emoji

WITHOUT_ARTICLE = ("keycap", "a ", "an ")
"""What names begin with that take no article, or have one."""


def prompt_for(record: Emoji, draw: random.Random) -> str:
    """One of the prompts that the image is drawn for."""
    if record.wording is None:
        return _from_name(record, draw)
    return _from_words(record, record.wording, draw)


def prompt_of_meaning(record: Emoji, text: str, draw: random.Random) -> str:
    """Asks for the image by one of its `Emoji.meanings`."""
    return _styled(record, _as_asked(text, draw), draw)


def _as_asked(text: str, draw: random.Random) -> str:
    return text if " " in text else single(text, draw)


def _from_name(record: Emoji, draw: random.Random) -> str:
    """Of name, keywords and Chinese name alone."""
    kind = draw.random()
    if kind < 0.20 and record.chinese:
        return f"{record.chinese}，{record.chinese_style}"
    if kind < 0.25 and record.chinese:
        return record.chinese
    if kind < 0.37 and record.keywords:
        words = draw.sample(record.keywords, min(len(record.keywords), draw.randint(1, 4)))
        return f"{', '.join(words)}, {record.style} style"
    text = record.name
    if 0.37 <= kind < 0.44:
        text = _with_article(text)
    if 0.44 <= kind < 0.51:
        return text
    return f"{text}, {record.style} style"


def _from_words(record: Emoji, wording: Wording, draw: random.Random) -> str:
    """In any of the languages: 60 % English, 20 % Chinese, 20 % another."""
    kind = draw.random()
    if kind < 0.60:
        return _styled(record, _in_english(record, wording, kind / 0.60, draw), draw)
    if kind < 0.80:
        return _in_chinese(record, wording, draw)
    others = [language for language in wording if language not in (ENGLISH, CHINESE)]
    language = draw.choice(others) if others else ENGLISH
    words = wording[language]
    text = words.name
    if not record.toned:
        kind = draw.random()
        if kind < 0.4 and language in record.descriptions:
            text = draw.choice(record.descriptions[language])
        elif kind < 0.7 and len(words.keywords) > 1:
            text = ", ".join(words.some(draw, draw.randint(1, 3)))
    return f"{text}, {record.style} style" if draw.random() < 0.86 else text


def _in_english(record: Emoji, wording: Wording, kind: float, draw: random.Random) -> str:
    """``kind`` is uniform over 0…1."""
    words, name = wording[ENGLISH], record.name
    tone = "".join(f", {tone} skin tone" for tone in record.tones)
    if kind < 0.15 and record.meanings:
        return f"{_as_asked(draw.choice(record.meanings), draw)}{tone}"
    if kind < 0.43 and ENGLISH in record.descriptions:
        return f"{draw.choice(record.descriptions[ENGLISH])}{tone}"
    if kind < 0.59:
        return name
    if kind < 0.63:
        return words.name
    if kind < 0.69 and name.startswith("flag: "):
        place = name.removeprefix("flag: ")
        return draw.choice((f"flag of {place}", f"{place} flag", f"the flag of {place}"))
    if kind < 0.69 and not name.startswith(WITHOUT_ARTICLE):
        return _with_article(name)
    if kind < 0.75 and record.keywords:
        count = min(len(record.keywords), draw.randint(1, 4))
        among = record.keywords if count > 1 else record.telling or (name,)
        return f"{', '.join(draw.sample(among, count))}{tone}"
    if kind < 0.81 and words.keywords:
        return f"{', '.join(words.some(draw, draw.randint(1, 3)))}{tone}"
    return f"{phrase(words, draw)}{tone}"


def _styled(record: Emoji, text: str, draw: random.Random) -> str:
    """With the style where captions have it, most of the time; else elsewhere, or without."""
    kind = draw.random()
    if kind < 0.76:
        return f"{text}, {record.style} style"
    if kind < 0.81:
        return f"{text} in {record.style} style"
    if kind < 0.86:
        return f"{record.style} {text}"
    return text


def _in_chinese(record: Emoji, wording: Wording, draw: random.Random) -> str:
    words = wording.get(CHINESE)
    text = record.chinese or (words.name if words else record.name)
    if words is not None and not record.toned:
        kind = draw.random()
        if kind < 0.30 and CHINESE in record.descriptions:
            text = draw.choice(record.descriptions[CHINESE])
        elif kind < 0.45:
            text = words.name
        elif kind < 0.65 and words.keywords:
            text = "，".join(words.some(draw, draw.randint(1, 3)))
    return f"{text}，{record.chinese_style}" if draw.random() < 0.84 else text


def _with_article(name: str) -> str:
    if name.startswith(WITHOUT_ARTICLE):
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
