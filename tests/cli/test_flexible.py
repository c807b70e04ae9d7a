"""A model of many sizes, with a negative prompt, adapters, and edits of several images. If these
fail, the command line cannot ask it for what the service can.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.hills import install
from tests.cli.conftest import Refusal, Run
from tests.generation.corpus import drawing, noise


@pytest.fixture
def hills(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint's folder; its family is a package from elsewhere."""
    folder = tmp_path_factory.mktemp("hills")
    checkpoint = install(folder)
    monkeypatch.syspath_prepend(folder)
    return checkpoint


def pixels(path: Path) -> tuple[tuple[int, int], bytes]:
    with Image.open(path) as image:
        return image.size, image.tobytes()


def test_sizes_negative_prompts_and_adapters(run: Run, hills: Path, tmp_path: Path) -> None:
    seen = set()
    for out, options in {
        "plain": "",
        "scale": "--lora-scale 0.5",
        "ink": "--lora engraving",
        "some": "--lora engraving --lora-scale 0.5",
        "night": "--negative-prompt sun",
        "wide": "--size 256x64",
    }.items():
        run(f"generate red --model {hills} -o {out} {options}")
        size, image = pixels(tmp_path / out / "0.png")
        assert size == ((256, 64) if out == "wide" else (128, 128))
        seen.add(image)
    assert len(seen) == 5, "the scale of no adapter changes nothing"


def test_an_edit_of_several_images(run: Run, hills: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        noise(60, 30, number).save(tmp_path / f"{number}.png")
    asked = f"--model {hills} -p hills -n 2 --dtype fp32"
    result = run(f"transform edit 1.png 2.png {asked}")
    assert result.stdout.split() == ["out/1-edit-0.png", "out/1-edit-1.png"]
    size, both = pixels(tmp_path / "out/1-edit-0.png")
    assert size == (192, 96)
    run(f"transform edit 2.png 1.png {asked} -o turned")
    run(f"transform edit 1.png {asked} -o alone --size 64x128")
    assert pixels(tmp_path / "turned/2-edit-0.png")[1] != both
    assert pixels(tmp_path / "alone/1-edit-0.png")[0] == (64, 128)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("generate x --lora tin", "--lora hills has no adapter 'tin'; it has engraving, pastel"),
        ("generate x --lora-scale 3", "--lora-scale 3 was given, 0 to 2 is accepted"),
        ("generate x --layers 3", "--layers 3 was given, 4 is accepted"),
        ("generate x --size 256", "--size 256x256 was given, hills draws 128x128, or multiples"),
        ("generate labyrinth", "PROMPT there is no labyrinth in these hills"),
        ("generate x --negative-prompt labyrinth", "--negative-prompt there is no labyrinth in"),
        ("transform edit a.png", "--prompt is required: edit needs to know what to make"),
        ("transform edit a.png a.png a.png a.png -p x", "IMAGE 4 were given, hills takes at most"),
        ("transform edit a.png b.png -p x", "IMAGE 2 of 2 is text, not a picture"),
        ("transform edit b.png -p x", "b.png is text, not a picture"),
        ("transform edit long.png -p x", "long.png has 90 x 9 pixels; at most 4 times as long"),
        ("transform edit a.png -p x --strength 0.5", "--strength means nothing to edit, only to"),
        ("transform edit a.png -p x --mask a.png", "--mask means nothing to edit, only to inpaint"),
    ],
)
def test_what_cannot_be_is_one_line(
    refused: Refusal, hills: Path, tmp_path: Path, arguments: str, line: str
) -> None:
    drawing(40, 24).save(tmp_path / "a.png")
    drawing(90, 9).save(tmp_path / "long.png")
    (tmp_path / "b.png").write_text("notes")
    assert refused(f"{arguments} --model {hills}").startswith(line)


def test_help_shows_what_it_takes(run: Run, hills: Path) -> None:
    said = run(f"transform --help --model {hills}").stdout
    assert "--lora-scale" in said
    said = run(f"generate --help --model {hills}").stdout
    assert "Always 4." in said
