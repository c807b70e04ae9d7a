"""`tessera transform`: if these fail, a picture is changed where it must not be, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli import cli
from app.operations import KINDS, Name
from tests.tiny import tiny_flow
from tests.uploads.corpus import drawing

run = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flow(tmp_path_factory.mktemp("cli") / "tiny-flow"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disc.png"
    drawing(40, 24).save(path)
    return path


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


SIZES: dict[Name, tuple[int, int]] = {
    "vary": (16, 10),
    "restyle": (16, 10),
    "inpaint": (40, 24),
    "outpaint": (60, 36),
    "upscale": (16, 10),
    "colorize": (16, 10),
    "denoise": (16, 10),
}


@pytest.mark.parametrize("operation", KINDS)
def test_every_operation_writes_a_picture_for_each_seed(
    operation: Name, model: str, image: Path, tmp_path: Path
) -> None:
    if operation == "upscale":
        drawing(8, 5).save(image)
    prompt = "--prompt apple" if KINDS[operation].needs_prompt else ""
    result = run.invoke(
        cli,
        f"transform {operation} {image} {prompt} --seed 7 -n 2 -o {tmp_path} --model {model}",
    )
    assert result.exit_code == 0, result.output
    made = [opened(tmp_path / f"disc-{operation}-{seed}.png") for seed in (7, 8)]
    assert {one.size for one in made} == {SIZES[operation]}
    assert made[0].mode == "RGBA"
    if operation != "denoise":  # what noise it has is not the seed's to decide
        assert made[0].tobytes() != made[1].tobytes()


def test_what_a_mask_keeps_is_kept_exactly(model: str, image: Path, tmp_path: Path) -> None:
    mask = Image.new("L", (40, 24), 0)
    mask.paste(255, (10, 5, 20, 15))
    mask.save(tmp_path / "mask.png")
    result = run.invoke(
        cli,
        f"transform inpaint {image} --mask {tmp_path / 'mask.png'} -o {tmp_path} --model {model}",
    )
    assert result.exit_code == 0, result.output
    after = np.asarray(opened(tmp_path / "disc-inpaint-0.png"))
    before, anew = np.asarray(drawing(40, 24)), np.asarray(mask) == 255
    assert (after[~anew] == before[~anew]).all()
    assert (after[anew] != before[anew]).any()


def test_a_size_and_a_background(model: str, image: Path, tmp_path: Path) -> None:
    result = run.invoke(
        cli,
        f"transform vary {image} --size 80 --background gold -o {tmp_path} --model {model}",
    )
    assert result.exit_code == 0, result.output
    made = opened(tmp_path / "disc-vary-0.png")
    assert (made.size, made.mode) == ((80, 48), "RGB")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restyle"], "--prompt is required: restyle needs to know what to make"),
        (["vary", "--factor", "2"], "--factor means nothing to vary, only to upscale"),
        (["upscale", "--factor", "3"], "--factor 3 was given, 2 and 4 are accepted"),
        (["upscale"], "disc.png has 40 x 24 pixels; at most 8 x 8 by 2 and 4 x 4 by 4"),
        (["vary", "--background", "nocolour"], "--background: unknown color specifier"),
        (["vary", "--steps", "1000"], "--steps is 1000, tiny-flow takes 1 to 100"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    model: str, image: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    operation, *options = arguments
    result = run.invoke(
        cli, ["transform", operation, str(image), *options, "--model", model, "-o", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert said in result.output.replace("\n", "")
    assert "Traceback" not in result.output


def test_a_file_that_is_no_picture_is_named(model: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text(json.dumps("notes"))
    result = run.invoke(cli, ["transform", "vary", str(path), "--model", model])
    assert result.exit_code == 1
    assert f"{path} is text, not a picture" in result.output.replace("\n", "")
