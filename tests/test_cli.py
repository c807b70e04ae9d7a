"""The command line: what a person types, and what they read when it is wrong."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from app.api.signing import Signer
from app.cli import cli
from tests.model.data.test_emoji import make_set
from tests.tiny import tiny_flow, tiny_gpt

run = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flow(tmp_path_factory.mktemp("cli") / "tiny-flow"))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gpt(tmp_path_factory.mktemp("cli") / "tiny-gpt"))


def test_describe_chooses_from_what_is_given(gpt: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    labels = ["--label", "red", "-l", "blue"]
    result = run.invoke(cli, ["describe", str(tmp_path / "red.png"), "--model", gpt, *labels])
    assert result.exit_code == 0, result.output
    shares = re.findall(r"(red|blue) +│ +([\d.]+)%", result.output)
    assert sorted(name for name, _ in shares) == ["blue", "red"]
    assert sum(float(share) for _, share in shares) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("describe {picture} --model {flow}", "tiny-flow cannot describe"),
        ("describe {text} --model {gpt}", "is text, not a picture"),
        ("describe {picture} --model {gpt} -l " + "many" * 60, "--label: the prompt has"),
        ("generate x --model {gpt} --steps 3", "--steps is 3, tiny-gpt takes 16 to 16"),
        ("generate x --model {gpt} --top-k 99", "--top-k 99 was given, tiny-gpt takes 0 to 12"),
        ("generate x --model {flow} --top-p 0.5", "--top-p means nothing to tiny-flow, which"),
    ],
)
def test_what_a_family_cannot_is_said_in_one_line(
    model: str, gpt: str, tmp_path: Path, arguments: str, said: str
) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    (tmp_path / "text.txt").write_text("hello")
    names = {"picture": tmp_path / "red.png", "text": tmp_path / "text.txt"}
    words = [word.format(flow=model, gpt=gpt, **names) for word in arguments.split()]
    result = run.invoke(cli, words)
    assert result.exit_code == 1
    assert said in result.output


def test_generate_takes_token_settings(gpt: str, tmp_path: Path) -> None:
    for name, settings in [("cold", "--temperature 0"), ("warm", "--temperature 1.5 --top-k 9")]:
        result = run.invoke(cli, f"generate x --model {gpt} -o {tmp_path / name} {settings}")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "cold" / "0.png").read_bytes() != (tmp_path / "warm" / "0.png").read_bytes()


def test_generate_writes_a_picture_for_each_seed(model: str, tmp_path: Path) -> None:
    result = run.invoke(
        cli,
        ["generate", "red apple", "--seed", "7", "-n", "2", "-o", str(tmp_path), "--model", model],
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "7.png") as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")
    assert (tmp_path / "7.png").read_bytes() != (tmp_path / "8.png").read_bytes()


def test_picture_k_is_what_its_seed_gives_alone(model: str, tmp_path: Path) -> None:
    for seed, n, out in (("7", "3", "many"), ("9", "1", "one")):
        run.invoke(
            cli,
            f"generate rocket --seed {seed} -n {n} -o {tmp_path / out} --model {model} "
            "--background transparent",
        )
    assert (tmp_path / "many" / "9.png").read_bytes() == (tmp_path / "one" / "9.png").read_bytes()
    with Image.open(tmp_path / "one" / "9.png") as picture:
        assert picture.mode == "RGBA"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "1000"], "--steps is 1000, tiny-flow takes 1 to 100"),
        (["--model", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    model: str, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = run.invoke(cli, ["generate", "x", "--model", model, "-o", str(tmp_path), *arguments])
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_walk_is_an_animated_file_for_each_seed(model: str, tmp_path: Path) -> None:
    command = f"generate apple --seed 7 -n 2 --walk 5 --steps 2 -o {tmp_path} --model {model}"
    result = run.invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"7.webp", "8.webp"}
    with Image.open(tmp_path / "7.webp") as picture:
        assert getattr(picture, "n_frames", 1) == 5


def test_a_model_that_cannot_walk_says_so_in_a_line(tmp_path: Path) -> None:
    gpt = tiny_gpt(tmp_path / "tiny-gpt")
    result = run.invoke(cli, f"generate apple --walk 5 -o {tmp_path / 'out'} --model {gpt}")
    assert result.exit_code == 1
    assert "tiny-gpt cannot walk" in result.output


@pytest.mark.parametrize("seed", ["-1", "9007199254740992", "ada"])
def test_a_seed_out_of_range_is_refused_by_name(model: str, seed: str) -> None:
    result = run.invoke(cli, ["generate", "x", "--model", model, "--seed", seed])
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_a_sheet_holds_a_picture_for_each_prompt(model: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    result = run.invoke(
        cli, f"sheet apple rocket dog --scale 1 --columns 2 -o {path} --model {model}"
    )
    assert result.exit_code == 0, result.output
    with Image.open(path) as picture:
        assert picture.size == (2 * (16 + 8) + 8, 2 * (16 + 22 + 8) + 8)


def test_a_long_prompt_is_refused_with_its_count(model: str, tmp_path: Path) -> None:
    result = run.invoke(cli, ["generate", "~" * 99, "--model", model, "-o", str(tmp_path)])
    assert result.exit_code == 1
    assert "the prompt has 100 tokens, at most 48 are accepted" in result.output


def test_models_lists_what_ships() -> None:
    result = run.invoke(cli, ["models"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert "emoji-flow" in result.output


def test_a_folder_without_pictures_cannot_train(tmp_path: Path) -> None:
    result = run.invoke(cli, ["train", str(tmp_path), "-o", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "no usable picture" in result.output


def test_evaluate_writes_a_report(model: str, tmp_path: Path) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    out = tmp_path / "report"
    result = run.invoke(cli, f"evaluate {data} --model {model} -o {out} -n 8 --steps 2")
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "samples.png"}


def test_evaluate_transform_writes_a_report(model: str, tmp_path: Path) -> None:
    """By sha256, 1f305 is one of the symbols whose Fluent picture is held out."""
    out = tmp_path / "report"
    seen = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    command = f"evaluate transform --model {model} -o {out} -n 2 --steps 2"
    result = run.invoke(cli, f"{command} {seen}")
    assert result.exit_code == 1
    assert "none of these pictures is held out" in result.output
    unseen = make_set(tmp_path / "fluent", "fluent 3d", {"1f305": "a thing"})
    result = run.invoke(cli, f"{command} {seen} {unseen}")
    assert result.exit_code == 0, result.output
    names = {path.name for path in out.iterdir()}
    assert names == {"transform.json", "transform.md", "transform.png"}


def test_bench_measures_tiles_and_recommends_one(model: str) -> None:
    result = run.invoke(cli, f"bench tile 2 4 --seconds 0.02 --model {model}")
    assert result.exit_code == 0, result.output
    assert "Recommended: TESSERA_TILE=" in result.output


def test_bench_measures_a_start(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_MODELS", model)
    monkeypatch.setenv("TESSERA_DEVICES", "cpu")
    result = run.invoke(cli, "bench start --runs 1")
    assert result.exit_code == 0, result.output
    assert re.search(r"\b1 +│ +\d+\.\d +│ +\d+\.\d", result.output)


def test_a_start_that_fails_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TESSERA_MODELS", str(tmp_path / "nothing"))
    result = run.invoke(cli, "bench start --runs 1")
    assert result.exit_code == 1
    assert "the service ended: " in result.output
    assert "nothing: no such folder" in result.output


def test_a_signed_address_is_one_that_the_service_accepts() -> None:
    result = run.invoke(
        cli,
        ["sign", "/v1/images/7.png?prompt=red%20apple", "--hours", "1"],
        env={"TESSERA_URL_SECRET": "a-secret-of-the-right-length-0123456789"},
    )
    assert result.exit_code == 0, result.output
    path, _, query = result.output.strip().partition("?")
    expiry = Signer("a-secret-of-the-right-length-0123456789").expiry(path, query)
    assert expiry is not None
    assert expiry > time.time() + 3500


def test_without_a_secret_nothing_is_signed() -> None:
    result = run.invoke(cli, ["sign", "/v1/images/7.png"], env={"TESSERA_URL_SECRET": ""})
    assert result.exit_code == 1
    assert "set TESSERA_URL_SECRET" in result.output


def test_help_does_not_load_torch() -> None:
    """`tessera serve` goes through this module; its process stays free of torch."""
    code = "import sys, app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
