"""A pipeline that nobody described is described by its call, or refused with what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import CheckpointError
from model.pipelines.catalogue import Entry, Text
from model.pipelines.inspection import inspect_class, pipeline_class
from model.registry import open_checkpoint
from tests.model.pipelines.folders import edit_json, flux

INDEX: dict[str, Any] = {
    "_class_name": "MadeUpPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [1, 2, 3, 4]}
CONFIGS: dict[str, Mapping[str, Any]] = {
    "": INDEX,
    "vae": VAE,
    "transformer": {"_class_name": "FluxTransformer2DModel", "patch_size": 1},
    "tokenizer": {"model_max_length": 120},
}


def made_up(signature: str) -> type[Any]:
    """A pipeline whose call takes these."""
    found: dict[str, Any] = {}
    exec(f"class MadeUpPipeline:\n  def __call__(self, {signature}): ...", found)  # noqa: S102
    return found["MadeUpPipeline"]


FULL = (
    "prompt=None, negative_prompt=None, height=None, width=None, num_inference_steps=40, "
    "guidance_scale=6.5, generator=None, output_type='pil', max_sequence_length=256"
)
PLAIN = "prompt=None, num_inference_steps=40, generator=None, output_type='pil'"


def inspected(signature: str, **configs: Mapping[str, Any]) -> Entry:
    return inspect_class(made_up(signature), CONFIGS | configs)


def test_an_entry_follows_from_the_call() -> None:
    entry = inspected(FULL)
    assert (entry.title, entry.pipeline, entry.network) == (
        "Made Up",
        "MadeUpPipeline",
        "transformer",
    )
    assert entry.text == Text("tokenizer", 256)
    values = [(one.name, one.default, one.maximum) for one in entry.parameters]
    assert values == [("steps", 40, 100), ("guidance", 6.5, 20)]
    assert entry.arguments == {"steps": "num_inference_steps", "guidance": "guidance_scale"}
    assert (entry.batched, entry.negative_prompt, entry.area.fixed) == ("guidance", True, False)
    assert (entry.area.side, entry.area.patch) == (128, 2)  # 1024 pixels, of 8 for a latent one
    assert {"img_ids", "txt_ids"} <= entry.shared  # which the network's forward has
    assert not entry.operations


def test_an_entry_has_no_more_than_the_call_takes() -> None:
    entry = inspected(PLAIN)
    assert [one.name for one in entry.parameters] == ["steps"]
    assert (entry.batched, entry.negative_prompt, entry.area.fixed) == (None, False, True)
    assert entry.text == Text("tokenizer", 120)


def test_embedded_guidance_does_not_double_a_call() -> None:
    network = {"guidance_embeds": True}
    assert inspected(FULL, transformer=network).batched is None
    both = inspected(f"{FULL}, true_cfg_scale=4.0", transformer=network)
    assert (both.batched, both.arguments["true_guidance"]) == ("true_guidance", "true_cfg_scale")


@pytest.mark.parametrize(
    ("signature", "configs", "side"),
    [
        (FULL, {"transformer": {"sample_size": 64}}, "transformer.sample_size"),
        (FULL, {"transformer": {"sample_size": [60, 90]}}, "transformer.sample_size"),
        (FULL.replace("height=None", "height=512"), {}, 64),
    ],
)
def test_the_native_size_is_looked_for(
    signature: str, configs: dict[str, Any], side: int | str
) -> None:
    assert inspected(signature, **configs).area.side == side


def test_labels_are_prompts() -> None:
    labelled = {**INDEX, "id2label": {"0": "tench"}}
    signature = PLAIN.replace("prompt=None", "class_labels")
    assert inspected(signature, **{"": labelled}).text is None
    with pytest.raises(CheckpointError, match=r"its model_index\.json has no id2label"):
        inspected(signature)


def _without(part: str) -> dict[str, Any]:
    return {"": {key: value for key, value in INDEX.items() if key != part}}


@pytest.mark.parametrize(
    ("signature", "configs", "says"),
    [
        (f"{PLAIN}, num_frames=16", {}, "it draws videos"),
        (f"{PLAIN}, audio_length_in_s=1.0", {}, "it makes sound"),
        (PLAIN, _without("transformer"), "it has no transformer or unet"),
        (PLAIN, _without("vae"), "it has no vae"),
        (PLAIN, _without("scheduler"), "it has no scheduler"),
        (PLAIN, _without("tokenizer"), "it has no tokenizer"),
        (PLAIN.replace("prompt=None, ", ""), {}, "it takes no prompt and no class_labels"),
        (PLAIN.replace("generator=None, ", ""), {}, "it takes no generator"),
        (PLAIN.replace("num_inference_steps=40, ", ""), {}, "it takes no num_inference_steps"),
        (PLAIN.replace(", output_type='pil'", ""), {}, "it takes no output_type"),
        (f"control, {PLAIN}", {}, "it needs control"),
        (f"image=None, {PLAIN}", {}, "it starts from an image"),
    ],
)
def test_what_cannot_be_served_says_what_it_lacks(
    signature: str, configs: dict[str, Any], says: str
) -> None:
    with pytest.raises(CheckpointError, match=f"MadeUpPipeline cannot be served: {says}"):
        inspected(signature, **configs)


PACKAGE = """
from diffusers import FluxPipeline


class MadeUpPipeline(FluxPipeline):
    def __call__(self, prompt=None, height=None, width=None, num_inference_steps=3,
                 generator=None, output_type="pil", max_sequence_length=64):
        return super().__call__(prompt=prompt)


class NoPipeline:
    pass
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that registers pipelines; on the path of this process and of others."""
    folder = tmp_path / "packages"
    info = folder / "made_up-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "made_up.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    lines = [
        "[tessera.pipelines]",
        "MadeUpPipeline = made_up:MadeUpPipeline",
        "NoPipeline = made_up:NoPipeline",
        "LostPipeline = lost:LostPipeline",
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def of_class(folder: Path, name: str) -> Path:
    flux(folder)
    edit_json(folder / "model_index.json", _class_name=name)
    return folder


OPEN = """
import json, sys
from pathlib import Path
from model.checkpoint import CheckpointError
from model.registry import open_checkpoint
try:
    checkpoint = open_checkpoint(Path(sys.argv[1]))
except CheckpointError as error:
    print(json.dumps({"error": str(error)}))
else:
    entry, spec = checkpoint.entry, checkpoint.spec
    steps = spec.parameter("steps")
    print(json.dumps({"title": entry.title, "tokens": spec.max_prompt_tokens,
                      "steps": steps.default, "shared": sorted(entry.shared)}))
assert not {"torch", "diffusers", "transformers"} & {*sys.modules}
"""


@pytest.fixture
def elsewhere() -> Callable[[Path], dict[str, Any]]:
    """Opens a folder in a process that must stay free of torch."""

    def opens(folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return opens


@pytest.mark.slow
def test_a_registered_class_is_served_without_torch_in_this_process(
    packages: Path, tmp_path: Path, elsewhere: Callable[[Path], dict[str, Any]]
) -> None:
    found = elsewhere(of_class(tmp_path / "mine", "MadeUpPipeline"))
    assert found == {"title": "Made Up", "tokens": 64, "steps": 3, "shared": ["img_ids", "txt_ids"]}


@pytest.mark.slow
def test_a_refusal_comes_from_the_other_process_in_one_line(
    tmp_path: Path, elsewhere: Callable[[Path], dict[str, Any]]
) -> None:
    found = elsewhere(of_class(tmp_path / "video", "WanPipeline"))
    path = tmp_path / "video" / "model_index.json"
    assert found["error"] == f"{path}: WanPipeline cannot be served: it draws videos"


def test_a_process_that_has_torch_inspects_by_itself(packages: Path, tmp_path: Path) -> None:
    pipeline_class("FluxPipeline")
    checkpoint: Any = open_checkpoint(of_class(tmp_path / "mine", "MadeUpPipeline"))
    assert checkpoint.entry.title == "Made Up"
    assert pipeline_class("MadeUpPipeline").__name__ == "MadeUpPipeline"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NoPipeline", r"NoPipeline \(made_up:NoPipeline\) is no DiffusionPipeline"),
        ("LostPipeline", r"LostPipeline \(lost:LostPipeline\) cannot be imported: No module named"),
    ],
)
def test_a_registered_class_that_is_none_is_refused(
    packages: Path, tmp_path: Path, name: str, says: str
) -> None:
    pipeline_class("FluxPipeline")
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(of_class(tmp_path / "mine", name))
