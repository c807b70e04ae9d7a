"""The page of the families: filled in with what was measured, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow, tiny_gan, tiny_gpt
from tools import families
from tools.families import PROMPTS, SHOWN, PageError, code, filled
from tools.unpaired import draw, learn

pytestmark = pytest.mark.usefixtures("measured_briefly")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


def test_only_what_lies_between_the_marks_is_regenerated() -> None:
    page = "ours <!-- begin a -->old<!-- end a --> and <!-- begin b --><!-- end b --> ours"
    once = filled(page, {"a": "new \\1", "b": "more"})
    assert once == (
        "ours <!-- begin a -->\n\nnew \\1\n\n<!-- end a --> and "
        "<!-- begin b -->\n\nmore\n\n<!-- end b --> ours"
    )
    assert filled(once, {"a": "new \\1", "b": "more"}) == once


@pytest.mark.parametrize(
    "page",
    [
        "none",
        "<!-- begin a -->",
        "<!-- end a --> <!-- begin a -->",
        2 * "<!-- begin a --><!-- end a -->",
    ],
)
def test_a_page_without_a_place_is_refused(page: str) -> None:
    with pytest.raises(PageError, match="one place from <!-- begin a --> to <!-- end a -->"):
        filled(page, {"a": ""})


def test_noise_without_a_way_learns_the_mean_and_with_one_the_pictures() -> None:
    """The experiment of the page, on two pictures of eight numbers."""
    pictures = torch.tensor([[1.0, -1.0] * 4, [-1.0, 1.0] * 4])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = learn(pictures, 300, on_the_way=False)
        flow = learn(pictures, 300, on_the_way=True)
        z = torch.randn(32, 8)
    mean = draw(alone, z, 1)
    assert mean.abs().mean() < 0.3
    drawn = draw(flow, z, 20)
    distance = torch.cdist(drawn, pictures) / 8**0.5
    assert distance.min(1).values.mean() < 0.3
    assert distance.argmin(1).bincount(minlength=2).min() >= 8
    assert draw(flow, z, 1).abs().mean() < 0.6  # in one step, it says the mean too


def test_the_page_shows_the_code_as_it_is() -> None:
    assert code() in PAGE.read_text(encoding="utf-8")


@pytest.mark.timeout(600)
def test_one_command_fills_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And prints the tables that are in it."""
    monkeypatch.setattr("tools.unpaired.STEPS", 3)
    app = typer.Typer()
    app.command()(families.main)
    data = make_set(tmp_path / "noto", "noto", MANY)
    page = tmp_path / "families.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    models = [
        f"--model {make(tmp_path / name)}"
        for make, name in ((tiny_flow, "flow"), (tiny_gpt, "gpt"), (tiny_gan, "gan"))
    ]
    command = f"{data} -n 16 --dtype fp32 --page {page} {' '.join(models)}"
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    table = text.split("<!-- begin figures -->")[1].split("<!-- end figures -->")[0].strip()
    assert table.startswith("| noto, 16 pictures | better | flow | gpt | gan | real |")
    assert "| coverage | high |" in table
    assert table in result.output
    assert "z = torch.randn_like(x)  # belongs to no picture" in text
    assert "| gan | 1 |" in text
    with Image.open(tmp_path / "pictures" / "families.png") as sheet:
        assert sheet.width == 7 * (SHOWN + 8) + 8
        assert sheet.height == len(PROMPTS) * (SHOWN + 22 + 8) + 8
    assert (tmp_path / "pictures" / "unpaired.png").stat().st_size > 500
