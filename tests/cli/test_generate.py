"""`tessera generate` and `tessera sheet`: if these fail, files differ from the service's, or errors
are noticed only when images have been drawn.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli import cli
from app.generation.output import Metadata, encode, encode_animation
from app.generation.resolve import Limits, Wanted, resolve
from app.metrics import installed_version
from model.loading import load_model, resolve_dtype
from model.registry import open_checkpoint
from model.runtime.fixed_pass import mode_on
from model.runtime.generate import generate
from model.runtime.numerics import numerics
from tests.cli.conftest import Refusal, Run
from tests.files import read_metadata

Models = dict[str, Path]


def test_an_image_for_each_seed(run: Run, models: Models, tmp_path: Path) -> None:
    result = run(["generate", "red apple", "--seed", "7", "-n", "2", f"--model={models['flow']}"])
    assert result.stdout.split() == ["out/7.png", "out/8.png"]
    with Image.open(tmp_path / "out" / "7.png") as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")
    assert (tmp_path / "out/7.png").read_bytes() != (tmp_path / "out/8.png").read_bytes()


def test_image_k_is_what_its_seed_gives_alone(run: Run, models: Models, tmp_path: Path) -> None:
    for seed, n, out in ((7, 3, "many"), (9, 1, "alone")):
        run(
            f"generate rocket --seed {seed} -n {n} -o {out} --model {models['flow']} "
            "--background transparent"
        )
    assert (tmp_path / "many/9.png").read_bytes() == (tmp_path / "alone/9.png").read_bytes()
    with Image.open(tmp_path / "alone/9.png") as image:
        assert image.mode == "RGBA"


@pytest.mark.parametrize(
    ("family", "options", "wanted"),
    [
        ("flow", "", Wanted(prompt="apple", seed=7)),
        (
            "flow",
            "--steps 3 --guidance 1.5 --solver-order 2 --size 24 --background #123",
            Wanted(
                prompt="apple",
                seed=7,
                size=24,
                background="#123",
                parameters={"steps": 3, "guidance": 1.5, "solver_order": 2},
            ),
        ),
        ("flow", "--walk 3", Wanted(prompt="apple", seed=7, walk=3, format="webp")),
        (
            "gpt",
            "--temperature 1.5 --top-k 9 --top-p 0.9",
            Wanted(
                prompt="apple",
                seed=7,
                parameters={"temperature": 1.5, "top_k": 9, "top_p": 0.9},
            ),
        ),
        ("gan", "--size 32x32", Wanted(prompt="apple", seed=7, size=(32, 32))),
    ],
)
def test_a_file_is_what_the_service_answers(
    run: Run, models: Models, tmp_path: Path, family: str, options: str, wanted: Wanted
) -> None:
    run(f"generate apple --seed 7 --model {models[family]} {options}")
    checkpoint = open_checkpoint(models[family])
    generation = resolve(wanted, checkpoint, Limits())
    model = load_model(checkpoint, device="cpu", dtype="auto")
    pictures = list(generate(model, generation.requests))
    names = numerics(
        digest=checkpoint.spec.digest,
        device="cpu",
        dtype=resolve_dtype("auto", "cpu"),
        tile=model.tile,
        mode=mode_on("cpu"),
    )
    caption = Metadata("apple", 7, f"tiny-{family}", names, generation.operation)
    if generation.walk:
        expected = encode_animation(pictures, generation.output, caption)
    else:
        expected = encode(pictures[0], generation.output, caption)
    file = (tmp_path / "out" / f"7.{wanted.format}").read_bytes()
    assert file == expected
    assert read_metadata(file) == caption


def test_a_file_that_is_there_is_not_written_over(
    run: Run, refused: Refusal, models: Models, tmp_path: Path
) -> None:
    model = f"--model {models['gan']}"
    run(f"generate apple --seed 7 -n 2 {model}")
    before = (tmp_path / "out/8.png").read_bytes()
    for command, said in (
        ("generate rocket --seed 6 -n 2", "out/7.png is there already; --overwrite, or another"),
        ("generate rocket --seed 7 -n 2", "out/7.png and 1 more are there already; --overwrite"),
    ):
        assert refused(f"{command} {model}").startswith(said)
    assert (tmp_path / "out/8.png").read_bytes() == before
    run(f"generate rocket --seed 7 -n 2 --overwrite {model}")
    assert (tmp_path / "out/8.png").read_bytes() != before
    run(f"sheet apple {model}")
    assert refused(f"sheet apple {model}").startswith("sheet.png is there already; --overwrite")
    run(f"sheet apple {model} --overwrite")
    (tmp_path / "a.png").mkdir()
    assert refused(f"sheet apple {model} -o a.png") == "a.png is there, and is no file"


def test_no_path_is_markup_or_broken(
    run: Run, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = "[red]a b[1]" + "/long" * 30 + "/:apple:"
    monkeypatch.setenv("COLUMNS", "40")
    result = run(["generate", "x", "-o", out, f"--model={models['gan']}"])
    assert result.stdout == f"{out}/0.png\n"
    assert (tmp_path / out / "0.png").is_file()
    name = os.fsdecode(b"caf\xe9")
    result = run(["generate", "x", "-o", name, f"--model={models['gan']}"])
    assert result.stdout_bytes == b"caf\xe9/0.png\n"


def test_files_say_as_much_as_is_wanted(run: Run, models: Models, tmp_path: Path) -> None:
    for metadata, marked in (("none", False), ("source", True), ("full", True)):
        run(f"generate secret -o {metadata} --metadata {metadata} --model {models['gan']}")
        file = (tmp_path / metadata / "0.png").read_bytes()
        assert (b"digitalsourcetype/trainedAlgorithmicMedia" in file) == marked
        assert (b"secret" in file) == (metadata == "full")
    run(f"sheet secret --model {models['gan']}")
    file = (tmp_path / "sheet.png").read_bytes()
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in file
    assert b"secret" not in file


def test_the_version_is_said(run: Run) -> None:
    assert run("--version").stdout == f"tessera {installed_version()}\n"


def test_parameters_change_the_image(run: Run, models: Models, tmp_path: Path) -> None:
    for out, options in (("cold", "--temperature 0"), ("warm", "--temperature 1.5 --top-k 9")):
        run(f"generate x --model {models['gpt']} -o {out} {options}")
    assert (tmp_path / "cold/0.png").read_bytes() != (tmp_path / "warm/0.png").read_bytes()


def test_a_walk_is_an_animated_file_for_each_seed(run: Run, models: Models, tmp_path: Path) -> None:
    run(f"generate apple --seed 7 -n 2 --walk 5 --steps 2 --model {models['flow']}")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"7.webp", "8.webp"}
    with Image.open(tmp_path / "out/7.webp") as image:
        assert getattr(image, "n_frames", 1) == 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--model {flow} --steps 1000", "--steps 1000 was given, 1 to 100 is accepted"),
        ("--model {gpt} --steps 3", "--steps 3 was given, 16 is accepted"),
        ("--model {gpt} --guidance 0", "--guidance 0 was given, 1 to 10 is accepted"),
        ("--model {gan} --guidance 2", "--guidance 2 was given, 1 is accepted"),
        ("--model {flow} --guidance nan", "--guidance nan was given, 0 to 10 is accepted"),
        ("--model {gpt} --top-p 3", "--top-p 3 was given, 0 to 1 is accepted"),
        ("--model {gpt} --top-k 99", "--top-k 99 was given, 0 to 12 is accepted"),
        ("--model {gpt} --walk 5", "--walk 5 was given, tiny-gpt cannot walk: no image is"),
        ("--model {flow} --walk 9999", "--walk 9999 was given, at most 1000 frames are accepted"),
        ("--model {flow} --background nocolour", "--background 'nocolour' was given, accepted: "),
        ("--model {opaque} --background transparent", "--background tiny-opaque draws opaque"),
        ("--model {flow} --size 12y", "--size '12y' was given, expected pixels such as"),
        ("--model {flow} --size 32x16", "--size 32x16 was given, tiny-flow draws 16x16"),
        ("--model {flow} --size 9000", "--size 9000 was given, at most 8192 is accepted"),
        ("--model {flow} --negative-prompt y", "--negative-prompt means nothing to tiny-flow"),
        ("--model {flow} --lora ink", "--lora tiny-flow has no adapter 'ink'; it has none"),
        ("--model {flow} --device cuda:99", "--device cuda:99 was given, there is cpu"),
        ("--model {flow} -o {file}", "--out {file}: {file} is a file"),
        ("--model {flow} -o {file}/out", "--out {file}/out: {file} is a file"),
        ("--model {flow} -o " + "a" * 300, "--out " + "a" * 300 + ": File name too long"),
        ("--model nowhere", "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    refused: Refusal, models: Models, opaque: Path, tmp_path: Path, arguments: str, line: str
) -> None:
    names = {**models, "opaque": opaque, "file": tmp_path / "file"}
    names["file"].write_text("")
    assert refused(f"generate x {arguments.format(**names)}").startswith(line.format(**names))


def test_a_long_prompt_is_refused_with_its_count(refused: Refusal, models: Models) -> None:
    said = refused(["generate", "~" * 99, f"--model={models['flow']}"])
    assert said == "PROMPT has 100 tokens, tiny-flow takes at most 48"


@pytest.mark.parametrize("seed", ["-1", "9007199254740992", "ada"])
def test_a_seed_out_of_range_is_refused_by_name(models: Models, seed: str) -> None:
    result = CliRunner().invoke(cli, ["generate", "x", "--seed", seed, f"--model={models['flow']}"])
    assert result.exit_code == 2
    assert "--seed" in result.output


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("generate x --model {flow} --top-p 0.5", "--top-p"),  # a gpt's
        ("generate x --model {gpt} --strength 0.5", "--strength"),  # of operations on an image
        ("sheet x --model {gan} --temperature 1", "--temperature"),
    ],
)
def test_another_models_parameter_is_no_option(models: Models, command: str, option: str) -> None:
    result = CliRunner().invoke(cli, command.format(**models))
    assert result.exit_code == 2
    assert f"No such option: {option}" in result.output


def test_help_shows_the_parameters_of_the_model(run: Run, models: Models) -> None:
    of_flow = run("generate --help").stdout  # the default model's
    assert "Parameters of emoji-flow" in of_flow
    assert "--solver-order" in of_flow
    assert "0 to 10 (1 by default)" in of_flow
    assert "1 to 100 (2 by default)" in " ".join(of_flow.split())
    of_gpt = run(f"generate --help --model {models['gpt']}").stdout
    assert "Parameters of tiny-gpt" in of_gpt
    assert "--top-p" in of_gpt
    assert "--solver-order" not in of_gpt


def test_help_is_there_without_a_model(run: Run) -> None:
    assert "--walk" in run("generate --model nowhere --help").stdout


def test_a_sheet_holds_an_image_for_each_prompt(run: Run, models: Models, tmp_path: Path) -> None:
    run(f"sheet apple rocket dog --scale 1 --columns 2 --model {models['flow']} --steps 2")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2 * (16 + 8) + 8, 2 * (16 + 22 + 8) + 8)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--model {gpt} --guidance 0", "--guidance 0 was given, 1 to 10 is accepted"),
        ("--model {gan} --guidance 2", "--guidance 2 was given, 1 is accepted"),
        ("--model {flow} -o sheet.txt", "--out sheet.txt was given, a sheet is written as .png"),
        ("--model {flow} -o sheet", "--out sheet was given, a sheet is written as .png"),
        ("--model {gpt} " + "~" * 99, "--prompt has 100 tokens, tiny-gpt takes at most 48"),
    ],
)
def test_a_sheet_that_cannot_be_is_one_line(
    refused: Refusal, models: Models, arguments: str, line: str
) -> None:
    assert refused(f"sheet x {arguments.format(**models)}") == line
