"""The pictures of a flow's card."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from model.data.emoji import read_records, select
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow, tiny_gan
from tools import sheets
from tools.sheets import SYMBOLS, UNSEEN, unseen

ARGUMENTS = ["--dtype", "fp32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two large styles and a small one, of which nothing is held out."""
    folder = tmp_path_factory.mktemp("data")
    symbols = {f"1f{number:03x}": f"thing {number}" for number in range(0x200, 0x500)}
    sets = {"noto": symbols, "twemoji": symbols, "sensa": MANY}
    return [make_set(folder / style, style, named) for style, named in sets.items()]


def run(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(sheets.main)
    result = CliRunner().invoke(app, [*map(str, arguments), *ARGUMENTS])
    return result.exit_code, result.output


def test_unseen_symbols_are_of_each_style_in_turn(data: list[Path]) -> None:
    records = read_records(data)
    chosen = unseen(records, 24)
    assert [record.style for record in chosen] == ["noto", "twemoji"] * 12
    assert len({(record.style, record.base) for record in chosen}) == 24
    assert {*map(id, chosen)} <= {id(one) for one in select(records, "held-out style")}


def test_both_pictures_are_drawn(data: list[Path], tmp_path: Path) -> None:
    model = tiny_gan(tmp_path / "gan")
    status, said = run(*data, "--model", model, "-o", tmp_path / "out")
    assert status == 0, said
    with Image.open(tmp_path / "out" / "styles.webp") as sheet:
        assert sheet.size == (len(SYMBOLS) * (16 + 8) + 8, 2 * (16 + 22 + 8) + 8)
    with Image.open(tmp_path / "out" / "unseen.webp") as sheet:
        assert sheet.size == (12 * (16 + 8) + 8, 2 * UNSEEN // 12 * (16 + 22 + 8) + 8)


def test_a_model_without_styles_is_refused(data: list[Path], tmp_path: Path) -> None:
    status, said = run(data[0], "--model", tiny_flow(tmp_path / "flow"))
    assert (status, "names no styles" in said) == (1, True)


def test_data_of_which_nothing_is_held_out_are_refused(data: list[Path], tmp_path: Path) -> None:
    status, said = run(data[2], "--model", tiny_gan(tmp_path / "gan"), "-o", tmp_path)
    assert (status, "held out" in said) == (1, True)
