"""The emoji sets, above all that what is held out stays out."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from emoji import EMOJI_DATA

from model.data import emoji, load
from model.data.pictures import DataError, PictureFormat
from model.data.prompts import prompt_for
from model.data.wording import read_descriptions, read_meanings, read_wordings
from tests.emoji_sets import make_set, make_words

FOLDERS = ("emoji_noto", "emoji_fluent3d")
LOOKS = ("emoji_fluent3d", "emoji_fluent_flat", "emoji_fluent_color", "emoji_fluent_mono")


def test_pictures_captions_and_groups(tmp_path: Path) -> None:
    folder = make_set(
        tmp_path / "noto", "noto", {"1f34e": "red apple", "1f44d": "thumbs", "1f44d_1f3fb": "light"}
    )
    data = load([folder], PictureFormat(16))
    assert list(data.captions) == [
        "red apple, noto style",
        "thumbs, noto style",
        "light, noto style",
    ]
    assert [list(group) for group in data.groups] == [[0], [1, 2]]
    assert data.pictures[1, 0, 3, 3] == 90


def test_prompts_name_the_symbol_in_many_ways(tmp_path: Path) -> None:
    make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    [record] = emoji.read_records([tmp_path / "noto"])
    draw = random.Random(0)
    prompts = {prompt_for(record, draw) for _ in range(400)}
    assert {
        "red apple, noto style",
        "a red apple, noto style",
        "red apple",
        "apple, red, noto style",
        "红苹果，noto 风格",
        "红苹果",
    } <= prompts


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    (folder / "captions.jsonl").unlink()
    with pytest.raises(DataError, match=r"captions\.jsonl: missing; an emoji set has both"):
        load([folder], PictureFormat(16))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    (folder / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"images\.zip: 1f34e\.webp"):
        load([folder], PictureFormat(16))


def test_what_is_held_out_never_trains(shared_data: Path) -> None:
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    sides = {
        split: emoji.select(records, split)
        for split in ("train", "held-out style", "held-out tone")
    }
    assert sum(map(len, sides.values())) == len(records)
    style = {r.base for r in sides["held-out style"] if r.style == "fluent 3d"}
    trained = {record.base for record in sides["train"] if record.style == "fluent 3d"}
    assert not style & trained
    noto = {record.base for record in sides["train"] if record.style == "noto"}
    assert not any(emoji._bucket(f"noto:{base}", 20) == 0 for base in noto)
    own = {(record.style, record.codepoints) for record in sides["train"]}
    assert not own & {(record.style, record.codepoints) for record in sides["held-out tone"]}
    twins = [r for r in sides["train"] if r.style == "noto" and r.base in style]
    assert twins  # the other style is what makes the held-out figure meaningful


def test_equal_pictures_are_on_one_side(shared_data: Path) -> None:
    """Else a held-out image would have been seen under another name."""
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    side = {
        (record.style, record.file): split
        for split in ("train", "held-out style", "held-out tone")
        for record in emoji.select(records, split)
    }
    copies = [record for record in records if record.duplicate_of]
    assert copies
    for record in copies:
        assert record.duplicate_of is not None
        assert side[record.style, record.file] == side[record.style, record.duplicate_of]


def test_every_picture_has_a_chinese_name(shared_data: Path) -> None:
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    assert sum(record.chinese is None for record in records) / len(records) < 0.05


def test_what_is_held_out_of_one_fluent_look_is_held_out_of_all(shared_data: Path) -> None:
    """The looks are one drawing: a model that saw one of them would only have to recolour it."""
    records = emoji.read_records([shared_data / name for name in LOOKS])
    own = [record for record in records if record.duplicate_of is None]  # the rest follow these
    held_out = {record.base for record in emoji.select(own, "held-out style")}
    assert not held_out & {record.base for record in emoji.select(own, "train")}
    share = len(held_out) / len({record.base for record in records})
    assert 0.10 < share < 0.20  # a tenth and a twentieth


def test_the_styles_that_hold_symbols_out_are_the_large_ones(shared_data: Path) -> None:
    folders = sorted(path.parent for path in shared_data.glob("*/images.zip"))
    bases: dict[str, set[str]] = {}
    for record in emoji.read_records(folders):
        bases.setdefault(record.style, set()).add(record.base)
    assert {style for style, symbols in bases.items() if len(symbols) > 1000} == emoji.LARGE
    assert set(bases) == set(emoji.CHINESE_STYLE)


def test_each_symbol_of_each_style_has_the_same_chance(tmp_path: Path) -> None:
    """But for the power of `CROWD`, however many skin tones one has."""
    many = {"1f44d": "thumbs", "1f44d_1f3fb": "light", "1f44d_1f3fc": "medium", "1f680": "rocket"}
    sets = [make_set(tmp_path / style, style, many) for style in ("noto", "pixel")]
    data = load(sets, PictureFormat(16))
    seen = Counter(data.captions[row] for row in data.rows(4000, random.Random(0)))
    rockets = [seen["rocket, noto style"], seen["rocket, pixel style"]]
    assert rockets == pytest.approx([4000 / (2 + 2 * 3**0.35)] * 2, rel=0.1)


def test_words_become_prompts_in_every_language(tmp_path: Path) -> None:
    make_set(tmp_path / "pixel", "pixel", {"1f436": "dog"})
    [record] = emoji.read_records([tmp_path / "pixel", make_words(tmp_path / "words")])
    draw = random.Random(0)
    prompts = [prompt_for(record, draw) for _ in range(4000)]
    assert {
        "dog, pixel style",
        "a dog, pixel style",
        "dog in pixel style",
        "pixel dog",
        "dog",
        "woof, pixel style",
        "a picture of woof, pixel style",
        "dog face woof, pixel style",
        "狗脸，像素风格",
        "宠物，像素风格",
        "Hundegesicht, pixel style",
        "Hund, Tier, pixel style",
    } <= set(prompts)
    texts = {prompt.removesuffix(", pixel style") for prompt in prompts}
    for language in ("en", "zh", "de"):
        told = set(record.descriptions[language])
        assert told & {text.removesuffix("，像素风格") for text in texts} == told
    styled = [prompt for prompt in prompts if "pixel" in prompt or "像素" in prompt]
    assert 0.75 < len(styled) / len(prompts) < 0.95


def test_a_rare_keyword_is_drawn_more_often_than_a_shared_one(tmp_path: Path) -> None:
    words = read_wordings(make_words(tmp_path / "words") / "words.jsonl.gz")["1f436"]["en"]
    assert words.keywords == ("face", "pet", "woof")
    draw = random.Random(0)
    first = Counter(words.some(draw, 1)[0] for _ in range(3000))
    assert first["face"] < 0.9 * min(first["pet"], first["woof"])


def test_words_alone_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        load([make_words(tmp_path / "words")], PictureFormat(16))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"codepoints": "1f436", "lang": "de", "name": "Hund", "keywords": []}], "1f436 has no"),
        ([{"codepoints": "1f436", "lang": "en"}], "KeyError"),
    ],
)
def test_broken_words_are_named(
    tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "words.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with pytest.raises(DataError, match=message):
        read_wordings(path)


def test_descriptions_are_whole_and_name_one_symbol_each() -> None:
    """Two symbols that are described alike could not be told apart."""
    described = read_descriptions()
    assert sum(len(of_symbol["en"]) for of_symbol in described.values()) > 20_000
    for language in {language for of_symbol in described.values() for language in of_symbol}:
        texts = [text for each in described.values() for text in each.get(language, ())]
        assert all(text == text.strip() != "" for text in texts)
        folded = [text.casefold() for text in texts]
        assert len(folded) == len({*folded}), language


def test_what_a_word_means_by_itself_is_one_symbol() -> None:
    meanings = read_meanings()
    assert len(meanings) > 4000
    known = {"_".join(f"{ord(c):04x}" for c in text if c != "\ufe0f") for text in EMOJI_DATA}
    assert {*meanings.values()} <= known
    assert all(text == text.strip().lower() != "" for text in meanings)
    assert meanings["coffee"] == "2615"
    assert meanings["a happy puppy"] == "1f436"


def test_a_shared_word_is_asked_for_where_it_is_meant(tmp_path: Path) -> None:
    make_set(tmp_path / "noto", "noto", {"2615": "hot drink", "1f90e": "brown heart"})
    words = tmp_path / "words"
    words.mkdir()
    with gzip.open(words / "words.jsonl.gz", "wt", encoding="utf-8") as file:
        for symbol, name, keywords in (
            ("2615", "hot drink", ["cafe", "chai", "coffee", "steam", "tea", "warm"]),
            ("1f90e", "brown heart", ["coffee", "143"]),
        ):
            row = {"codepoints": symbol, "lang": "en", "name": name, "keywords": keywords}
            file.write(json.dumps(row) + "\n")
    drink, heart = emoji.read_records([tmp_path / "noto", words])
    draw = random.Random(0)
    said = [
        sum(prompt_for(record, draw) == "coffee, noto style" for _ in range(4000))
        for record in (drink, heart)
    ]
    assert "coffee" in drink.meanings
    assert "coffee" not in heart.meanings
    assert said[0] > 4 * said[1]


def test_a_keyword_that_means_another_symbol_is_not_said_alone(tmp_path: Path) -> None:
    make_set(tmp_path / "noto", "noto", {"1f90e": "unheard-of coffee"})
    [heart] = emoji.read_records([tmp_path / "noto"])
    assert heart.keywords == ("unheard-of", "coffee")
    assert heart.telling == ("unheard-of",)
