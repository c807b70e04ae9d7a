"""`tessera transform`: if these fail, an image is changed where it must not be, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.generation.editing import prepare
from app.generation.editing.operations import EDITS, EditName, EditRequest
from app.generation.output import Metadata, encode
from app.generation.resolve import Limits, Wanted, resolve
from model.image_files.decode import decode
from model.loading import load_model
from model.registry import open_checkpoint
from model.runtime.generate import generate
from tests.cli.conftest import Refusal, Run
from tests.files import read_metadata
from tests.generation.corpus import drawing

Models = dict[str, Path]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disc.png"
    drawing(40, 24).save(path)
    return path


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


SIZES: dict[EditName, tuple[int, int]] = {
    "vary": (16, 10),
    "restyle": (16, 10),
    "inpaint": (40, 24),
    "outpaint": (60, 36),
    "upscale": (16, 10),
    "colorize": (16, 10),
    "denoise": (16, 10),
}


@pytest.mark.parametrize("operation", SIZES)
def test_every_operation_writes_an_image_for_each_seed(
    run: Run, models: Models, image: Path, tmp_path: Path, operation: EditName
) -> None:
    if operation == "upscale":
        drawing(8, 5).save(image)
    prompt = "--prompt apple" if EDITS[operation].needs_prompt else ""
    run(f"transform {operation} {image} {prompt} --seed 7 -n 2 --model {models['flow']}")
    made = [opened(tmp_path / f"out/disc-{operation}-{seed}.png") for seed in (7, 8)]
    assert {one.size for one in made} == {SIZES[operation]}
    assert made[0].mode == "RGBA"
    if operation != "denoise":  # what noise it has does not depend on the seed
        assert made[0].tobytes() != made[1].tobytes()


def test_a_larger_image_is_upscaled_too(
    run: Run, models: Models, image: Path, tmp_path: Path
) -> None:
    """Larger than the model's own, in windows of it."""
    run(f"transform upscale {image} --steps 1 --model {models['flow']}")
    assert opened(tmp_path / "out/disc-upscale-0.png").size == (80, 48)


def test_what_a_mask_keeps_is_kept_exactly(
    run: Run, models: Models, image: Path, tmp_path: Path
) -> None:
    mask = Image.new("L", (40, 24), 0)
    mask.paste(255, (10, 5, 20, 15))
    mask.save(tmp_path / "mask.png")
    run(f"transform inpaint {image} --mask mask.png --model {models['flow']}")
    after = np.asarray(opened(tmp_path / "out/disc-inpaint-0.png"))
    before, regenerated = np.asarray(drawing(40, 24)), np.asarray(mask) == 255
    assert (after[~regenerated] == before[~regenerated]).all()
    assert (after[regenerated] != before[regenerated]).any()


def test_a_size_and_a_background(run: Run, models: Models, image: Path, tmp_path: Path) -> None:
    for size in ("80", "80x48"):
        run(
            f"transform vary {image} --size {size} --background #ffd700 -o {size} "
            f"--model {models['flow']}"
        )
        made = opened(tmp_path / size / "disc-vary-0.png")
        assert (made.size, made.mode) == ((80, 48), "RGB")


def test_a_file_is_what_the_service_answers(
    run: Run, models: Models, image: Path, tmp_path: Path
) -> None:
    run(f"transform vary {image} --strength 0.4 --steps 3 --seed 7 --model {models['flow']}")
    checkpoint = open_checkpoint(models["flow"])
    wanted = Wanted(
        seed=7,
        parameters={"strength": 0.4, "steps": 3},
        edit=EditRequest(operation="vary", images=(image.read_bytes(),)),
    )
    generation = resolve(wanted, checkpoint, Limits())
    model = load_model(checkpoint, device="cpu", dtype="auto")
    [picture] = generate(model, generation.requests)
    file = (tmp_path / "out/disc-vary-7.png").read_bytes()
    caption = read_metadata(file)
    assert caption is not None
    assert caption == Metadata("", 7, "tiny-flow", caption.numerics, "vary")
    assert generation.edit is not None
    assert file == encode(picture, generation.output, caption, generation.edit.framing)


def test_an_upload_is_decoded_once_for_all_seeds(
    run: Run, models: Models, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counting(file: bytes, most_pixels: int) -> Image.Image:
        decoded.append(len(file))
        return decode(file, most_pixels)

    monkeypatch.setattr(prepare, "decode", counting)
    run(f"transform vary {image} --seed 9007199254740990 -n 3 --model {models['flow']}")
    assert len(decoded) == 1
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    seeds = (0, 9007199254740990, 9007199254740991)
    assert made == [f"disc-vary-{seed}.png" for seed in seeds]
    files = [(tmp_path / "out" / name).read_bytes() for name in made]
    assert len(set(files)) == 3
    run(f"transform vary {image} --seed 0 -o alone --model {models['flow']}")
    assert (tmp_path / "alone/disc-vary-0.png").read_bytes() == files[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("restyle {image}", "--prompt is required: restyle needs to know what to make"),
        ("vary {image} --factor 2", "--factor means nothing to vary, only to upscale"),
        ("vary {image} --mask {image}", "--mask means nothing to vary, only to inpaint"),
        ("vary {image} {image}", "IMAGE 2 were given, vary takes one"),
        ("edit {image} -p a", "OPERATION tiny-flow cannot edit; it can generate, walk, vary"),
        ("vary {image} --lora ink", "--lora tiny-flow has no adapter 'ink'; it has none"),
        ("upscale {image} --factor 3", "--factor 3 was given, 2 and 4 are accepted"),
        ("upscale {wide}", "{wide} has 300 x 2 pixels; at most 256 x 256 by 2 and 128 x 128 by 4"),
        ("outpaint {image} --strength 0.5", "--strength means nothing to outpaint"),
        ("vary {image} --noise 0.1", "--noise means nothing to vary, only to denoise"),
        ("vary {image} --strength 0", "--strength 0 was given, 0.01 to 1 is accepted"),
        ("vary {image} --background nocolour", "--background 'nocolour' was given, accepted: "),
        ("vary {image} --steps 1000", "--steps 1000 was given, 1 to 100 is accepted"),
        ("vary {image} --guidance 11", "--guidance 11 was given, 0 to 10 is accepted"),
        ("vary {image} --size 32x32", "--size 32x32 was given, an image of this aspect"),
        ("vary {image} --size x", "--size 'x' was given, expected pixels such as"),
        ("vary {image} --model {gan}", "OPERATION tiny-gan cannot vary; it can generate, walk"),
        ("inpaint {image} --model {gpt} --guidance 0", "--guidance 0 was given, 1 to 10 is"),
        ("vary {notes}", "{notes} is text, not a picture"),
        ("inpaint {image} --mask {notes}", "{notes} is text, not a picture"),
        ("vary {image} --device cuda:99", "--device cuda:99 was given, there is cpu"),
    ],
)
def test_what_cannot_be_is_one_line(
    refused: Refusal, models: Models, image: Path, tmp_path: Path, arguments: str, line: str
) -> None:
    notes = tmp_path / "notes.png"
    notes.write_text(json.dumps("notes"))
    wide = tmp_path / "wide.png"
    Image.new("RGB", (300, 2)).save(wide)
    names = {**models, "image": image, "notes": notes, "wide": wide}
    model = "" if "--model" in arguments else f" --model {models['flow']}"
    said = refused(f"transform {arguments.format(**names)}{model}")
    assert said.startswith(line.format(**names))


def test_pictures_of_one_name_are_not_written_over_each_other(
    run: Run, refused: Refusal, models: Models, tmp_path: Path
) -> None:
    for name in ("a[1].png", "a[1].jpg"):
        drawing(40, 24).convert("RGB").save(tmp_path / name)
    result = run(["transform", "vary", "a[1].png", f"--model={models['flow']}"])
    assert result.stdout == "out/a[1]-vary-0.png\n"
    again = ["transform", "vary", "a[1].jpg", f"--model={models['flow']}"]
    assert refused(again).startswith("out/a[1]-vary-0.png is there already; --overwrite")
    run([*again, "--overwrite"])


def test_help_shows_what_each_operation_does_by_default(run: Run, models: Models) -> None:
    said = " ".join(run("transform --help").stdout.replace("│", " ").split())
    assert "0.7 by default for vary; 0.8 by default for restyle; 1 by default for inpaint" in said
    assert (
        "1 to 100 (2 by default for vary, restyle; 6 by default for inpaint, outpaint, upscale, "
        "colorize; 1 by default for denoise)" in said
    )
