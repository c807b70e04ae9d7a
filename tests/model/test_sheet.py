"""If these fail, captions on contact sheets have boxes or question marks in place of words."""

import pytest
from PIL import ImageFont

from model.training import sheet
from model.training.sheet import render_caption


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("red apple", "red apple"),
        ("woman’s hat", "woman’s hat"),
        ("piñata", "pinata"),
        ("upscale ×2", "upscale x2"),
        ("", ""),
    ],
)
def test_what_every_machine_can_write(given: str, written: str) -> None:
    words, font = render_caption(given, 10, 500)
    assert words == written
    assert font.getlength("wide") == ImageFont.load_default(10).getlength("wide")


def test_chinese_is_written_where_the_system_has_a_font() -> None:
    try:
        ImageFont.truetype(sheet.WIDE[0], 10)
    except OSError:
        pytest.skip(f"{sheet.WIDE[0]} is not installed")
    words, font = render_caption("红苹果，noto 风格", 10, 500)
    assert words == "红苹果,noto 风格"
    assert bytes(font.getmask("红")) != bytes(font.getmask("苹"))


def test_without_such_a_font_each_letter_is_a_question_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sheet, "WIDE", ())
    sheet._wide.cache_clear()
    try:
        assert render_caption("红apple", 10, 500)[0] == "?apple"
    finally:
        sheet._wide.cache_clear()


def test_what_does_not_fit_is_cut() -> None:
    words, font = render_caption("a very long caption, indeed", 10, 60)
    assert words.endswith("…")
    assert font.getlength(words) <= 60
