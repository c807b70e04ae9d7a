"""`tessera models`, and what holds for all commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Refusal, Run
from tests.model.pipelines.folders import dit, edit_json, flux, in_hub_cache, write_weights


def words(text: str) -> str:
    """Without the lines of tables."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache of this test alone."""
    import huggingface_hub.constants

    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def test_models_lists_what_ships(run: Run) -> None:
    said = words(run("models").stdout)
    assert "emoji-flow flow 39.9 MB 128x128 generate, walk, vary, inpaint, upscale," in said
    assert "emoji-gan gan 19.8 MB 64x64 generate, walk Apache-2.0 emoji-gan" in said


def test_models_lists_what_the_hubs_cache_has(run: Run, empty_cache: Path, tmp_path: Path) -> None:
    folder = flux(tmp_path / "folder")
    in_hub_cache(folder, empty_cache, "owner/FLUX.1-dev")
    edit_json(folder / "model_index.json", _class_name="OvisImagePipeline")
    in_hub_cache(folder, empty_cache, "owner/other")
    in_hub_cache(tmp_path / "folder" / "vae", empty_cache, "owner/no-pipeline")
    said = words(run("models").stdout)
    assert "FLUX.1-dev diffusers" in said
    assert "generate, vary, inpaint unknown hf:owner/FLUX.1-dev" in said
    assert "hf:owner/other: not in the catalogue; try: tessera models hf:owner/other" in said
    assert "no-pipeline" not in said


def test_models_lists_folders_beside_what_ships(run: Run, tmp_path: Path) -> None:
    first, second = flux(tmp_path / "one"), dit(tmp_path / "two")
    said = words(run(["models", str(first), str(second)]).stdout)
    assert "emoji-flow flow" in said
    assert "one diffusers" in said
    assert "two diffusers" in said
    assert "16x16 generate unknown" in said


def test_one_folder_is_explained(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = flux(tmp_path / "folder")
    write_weights(tmp_path / "loras" / "ink.safetensors", x=(1,))
    monkeypatch.setenv("TESSERA_LORAS", str(tmp_path / "loras"))
    said = words(run(["models", str(folder)]).stdout)
    assert f"served by tessera serve {folder}" in said
    assert "pipeline FluxPipeline (FLUX.1 [dev])" in said
    assert "tokenizer_2 T5TokenizerFast" in said
    assert "sizes 256x256, or multiples of 4 from 64 to 1024" in said
    assert "prompt at most 512 tokens, and a negative one" in said
    assert "adapters ink" in said
    assert "guidance 1 to 20 3.5 generate, vary, inpaint How closely" in said
    assert "lora_scale 0 to 2 1" in said
    classes = words(run(["models", str(dit(tmp_path / "classes"))]).stdout)
    assert "prompt the name of one of 8 classes, such as goldfish, " in classes
    assert "styles fluent 3d, noto digest" in words(run("models emoji-gpt").stdout)
    shipped = words(run("models emoji-flow").stdout)
    assert "served by tessera serve emoji-flow family flow description" in shipped
    assert "noise 0 to 1 denoise" in shipped
    assert "steps 1 to 100 2, or 6 to inpaint, upscale or colorize generate" in shipped


def test_a_folder_that_cannot_be_served_is_one_line(refused: Refusal, tmp_path: Path) -> None:
    assert "nowhere: no such folder, and no model that ships (emoji-flow" in refused(
        "models nowhere"
    )
    folder = flux(tmp_path / "folder")
    (folder / "vae" / "config.json").unlink()
    assert "vae/config.json: missing" in refused(["models", str(folder)])
    said = refused("models hf:nobody")
    assert said == "hf:nobody: expected hf:owner/name or hf:owner/name@revision"


@pytest.mark.parametrize("copied", ["black-forest-labs/FLUX.1-dev", "https://huggingface.co/a/b-1"])
def test_a_model_of_the_hub_without_hf_is_told_its_name(refused: Refusal, copied: str) -> None:
    name = "/".join(copied.split("/")[-2:])
    said = refused(["models", copied])
    assert said.endswith(f": no such folder; if a model of the Hub is meant, it is hf:{name}")


@pytest.mark.parametrize("path", ["/nowhere/model", "../model", "a/b/c"])
def test_a_path_is_not_taken_for_a_model_of_the_hub(refused: Refusal, path: str) -> None:
    assert refused(["models", path]) == f"{path}: no such folder"


def test_adapters_are_those_that_the_service_has(
    refused: Refusal, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = flux(tmp_path / "folder")
    monkeypatch.setenv("TESSERA_LORAS", str(tmp_path / "none"))
    assert refused(["models", str(folder)]) == f"{tmp_path / 'none'}: no such folder of adapters"
    monkeypatch.setenv("TESSERA_OFFLOAD", "everything")
    assert refused(["models", str(folder)]).startswith("TESSERA_OFFLOAD: Input should be 'none',")


def test_generate_knows_the_parameters_of_a_pipeline(refused: Refusal, tmp_path: Path) -> None:
    folder = flux(tmp_path / "folder")
    arguments = ["generate", "a red apple", "--model", str(folder), "--true-guidance", "30"]
    assert refused(arguments) == "--true-guidance 30 was given, 1 to 20 is accepted"
    arguments = ["generate", "a " * 600, "--model", str(folder)]
    assert refused(arguments) == "PROMPT has 601 tokens, folder takes at most 512"


def test_help_does_not_load_torch() -> None:
    """`tessera serve` goes through this package; its process stays free of torch."""
    code = "import sys, app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_options_of_a_model_are_found_without_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom app.cli import cli\n"
        "result = CliRunner().invoke(cli, 'generate x --model emoji-gpt --guidance 0')\n"
        "sys.exit(result.exit_code != 1 or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_programs_read_json(run: Run, tmp_path: Path) -> None:
    names = [each["name"] for each in json.loads(run("models --json").stdout)]
    assert "emoji-flow" in names
    (one,) = json.loads(run(["models", "emoji-gpt", "--json"]).stdout)
    assert (one["model"], "describe" in one["operations"]) == ("emoji-gpt", True)
    assert [each["defaults"] for each in one["parameters"]] == [{}] * len(one["parameters"])
    (flow,) = json.loads(run(["models", "emoji-flow", "--json"]).stdout)
    steps = flow["parameters"][0]
    assert (steps["name"], steps["default"]) == ("steps", 2)
    assert steps["defaults"] == {"inpaint": 6, "upscale": 6, "colorize": 6}
    assert one["styles"] == ["fluent 3d", "noto"]
    assert "temperature" in [parameter["name"] for parameter in one["parameters"]]


def test_no_cell_is_folded_in_a_pipe(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    """And what was trained here is listed."""
    shutil.copytree(models["flow"], tmp_path / "runs" / "mine" / "checkpoint")
    (tmp_path / "runs" / "broken" / "checkpoint").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "checkpoint" / "config.json").write_text("{}")
    said = run("models").stdout
    assert any("mine" in line and "runs/mine" in line for line in said.splitlines())
    assert "runs/broken/checkpoint/config.json: no JSON object with a family" in said
    there = json.loads(run("models --json").stdout)
    assert "runs/mine" in [one["name"] for one in there]
