"""A checkpoint that cannot be used says which file is at fault and why, before anything runs."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import CheckpointError, TokenizedCheckpoint
from model.flow.config import FlowCheckpoint
from model.loading import load_model, save_weights
from model.registry import SHIPPED, open_checkpoint, shipped
from model.request import Picture, Source
from tests.tiny import tiny_flow, tiny_gan, tiny_gpt

STYLE = {
    "name": "blob",
    "label": "Blob",
    "prompt": ", blob style",
    "chinese": "，blob 风格",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_flow(tmp_path / "tiny-flow")


def _edit(path: Path, **changes: object) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | changes))


def _pickle_instead(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.pt").write_bytes(pickle.dumps({"a": 1}))


def _pickle_renamed(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _other_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"]["text"]["vocabulary"] = 10
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda f: (f / "tokenizer.json").unlink(),
            "tokenizer.json: missing; such a",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: no tokenizer"),
        (
            lambda f: (f / "config.json").write_text("{"),
            "config.json: no JSON object with",
        ),
        (
            lambda f: _edit(f / "config.json", family="rnn"),
            "family is 'rnn', there are flow, gpt",
        ),
        (lambda f: _edit(f / "config.json", colour=1), "config.json: colour: Extra inputs"),
        (
            lambda f: _edit(f / "config.json", network={"image_size": 10}),
            "image_size 10 must be a multiple of patch_size 8",
        ),
        (
            lambda f: _edit(f / "config.json", network={"patch_size": 0}),
            "network: Value error, patch_size is 0, at least 1 is needed",
        ),
        (
            lambda f: _edit(f / "config.json", network={"width": 32, "heads": 7}),
            "width 32 must be a multiple of heads 7",
        ),
        (
            lambda f: _edit(f / "config.json", sampling={"steps_for": {"enlarge": 6}}),
            "config.json: sampling.steps_for.enlarge.*: Input should be 'generate', 'walk', ",
        ),
        (
            lambda f: _edit(f / "config.json", sampling={"steps_for": {"upscale": 0}}),
            "config.json: sampling.steps_for.upscale: Input should be greater than or equal to 1",
        ),
        (
            lambda f: _edit(f / "config.json", sampling={"steps_without_prompt": 20}),
            "config.json: sampling.steps_without_prompt: Extra inputs",
        ),
        (
            lambda f: _edit(f / "config.json", styles=[STYLE, {"name": "noto"}]),
            "config.json: styles.1.label: Field required",
        ),
        (
            lambda f: _edit(f / "config.json", styles=[STYLE | {"color": "red"}]),
            "config.json: styles.0.color: Unexpected keyword argument",
        ),
        (
            lambda f: _edit(f / "config.json", styles=[STYLE | {"prompt": " "}]),
            "config.json: styles.0: Value error, prompt is empty",
        ),
        (
            lambda f: _edit(f / "config.json", styles=[STYLE, STYLE | {"name": "noto"}]),
            "config.json: styles: Value error, two have the prompt ', blob style'",
        ),
        (
            lambda f: _edit(f / "config.json", examples=["cat", "cat " * 99]),
            r"config.json: examples: 'cat cat .*' has \d+ tokens, tiny-flow takes at most 48",
        ),
        (
            lambda f: _edit(f / "config.json", family="codec"),
            "config.json: is a codec, for tessera train --codec; it draws nothing",
        ),
        (_pickle_instead, "model.pt: pickled weights are never opened"),
        (_pickle_renamed, "model.safetensors: not in safetensors format"),
        (_cut, "model.safetensors: not in safetensors format"),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/…"),
            "model.safetensors: is a pointer of Git LFS",
        ),
        (_other_tokenizer, r"tokenizer.json: has \d+ tokens, config.json has room for 10"),
    ],
)
def test_a_broken_folder_is_refused(
    folder: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(folder)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_a_model_that_ships_is_opened_by_its_name_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_checkpoint(Path("emoji-gan")).folder == SHIPPED / "emoji-gan"
    monkeypatch.chdir(folder.parent)
    folder.rename("emoji-gan")  # a folder of that name comes first
    assert open_checkpoint(Path("emoji-gan")).spec.family == "flow"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("patch_embed.weight"), "patch_embed.weight is missing"),
        (lambda w: w.update(more=torch.zeros(1)), "more is not part of this network"),
        (
            lambda w: w.update({"patch_embed.bias": torch.zeros(3)}),
            r"patch_embed.bias is \[3\], config.json makes it \[32\]",
        ),
        (
            lambda w: w["patch_embed.bias"].fill_(torch.nan),
            "patch_embed.bias has values that are not finite",
        ),
        (
            lambda w: w.update({"patch_embed.bias": torch.zeros(32, dtype=torch.int32)}),
            "patch_embed.bias is of int32, float32 is needed",
        ),
        (
            lambda w: w.update({"patch_embed.bias": torch.zeros(32).to(torch.float8_e4m3fn)}),
            "patch_embed.bias is of float8_e4m3fn, float32 is needed",
        ),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_model(open_checkpoint(folder), device="cpu", dtype="fp32", tile=4)


def test_the_digest_is_of_the_contents_not_the_place(folder: Path, tmp_path: Path) -> None:
    digest = open_checkpoint(folder).spec.digest
    assert open_checkpoint(tiny_flow(tmp_path / "other")).spec.digest == digest
    assert open_checkpoint(tiny_flow(tmp_path / "third", seed=1)).spec.digest != digest


def test_values_beyond_half_precision_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weight has values beyond fp16"):
        save_weights(tmp_path / "model.safetensors", {"weight": torch.tensor([1e6])})


def test_looking_at_a_checkpoint_does_not_load_torch(folder: Path) -> None:
    """The process that speaks HTTP opens checkpoints, and must stay small."""
    code = (
        "import sys; from pathlib import Path; from model.registry import open_checkpoint;"
        f"open_checkpoint(Path({str(folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_config_written_again_is_the_same_text() -> None:
    """Else a resumed run, or a checkpoint saved by a newer version, would change its digest."""
    for folder in shipped():
        checkpoint = open_checkpoint(folder)
        assert isinstance(checkpoint, TokenizedCheckpoint)
        text = (folder / "config.json").read_text()
        text = text.replace('"licence"', '"license"')  # as emoji-gpt and emoji-gan have it
        assert checkpoint.config.model_dump_json(indent=2) + "\n" == text


@pytest.mark.parametrize("tiny", [tiny_flow, tiny_gpt, tiny_gan])
@pytest.mark.parametrize(
    "known", [{}, {"styles": [STYLE]}, {"styles": [STYLE], "examples": ["red apple", "红苹果"]}]
)
def test_styles_and_examples_are_in_the_config_only_where_there_are_some(
    tmp_path: Path, tiny: Callable[[Path], Path], known: dict[str, list[object]]
) -> None:
    path = tiny(tmp_path / "tiny") / "config.json"
    config = json.loads(path.read_text())
    order = [name for name in config if name not in ("styles", "examples")]
    order[4:4] = known  # after the license
    text = json.dumps(
        {name: (config | known)[name] for name in order}, indent=2, ensure_ascii=False
    )
    path.write_text(text)
    checkpoint = open_checkpoint(path.parent)
    assert isinstance(checkpoint, TokenizedCheckpoint)
    assert checkpoint.config.model_dump_json(indent=2) == text
    assert [asdict(style) for style in checkpoint.spec.styles] == known.get("styles", [])
    assert list(checkpoint.spec.examples) == known.get("examples", [])


def test_what_ships_can_be_opened() -> None:
    specs = [open_checkpoint(folder).spec for folder in shipped()]
    assert specs
    assert specs[0].family == "flow"
    assert all(spec.license and spec.description for spec in specs)


def test_what_ships_is_in_the_order_of_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("emoji-gan", "other", "emoji-gpt", "emoji-flow", "cifar-flow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    monkeypatch.setattr("model.registry.SHIPPED", tmp_path)
    names = [folder.name for folder in shipped()]
    assert names == ["cifar-flow", "emoji-flow", "emoji-gpt", "emoji-gan", "other"]


def test_device_and_family_decide_the_tile_where_nothing_is_said(tmp_path: Path) -> None:
    """A gpt's steps are so small that half empty passes would be most of what it does."""
    flow, gpt = (
        open_checkpoint(tiny_flow(tmp_path / "a")),
        open_checkpoint(tiny_gpt(tmp_path / "b")),
    )
    tiles = [load_model(one, device="cpu", dtype="fp32").tile for one in (flow, gpt)]
    assert tiles == [8, 16]
    assert load_model(gpt, device="cpu", dtype="fp32", tile=5).tile == 5


@pytest.mark.parametrize("name", ["license", "licence"])
def test_a_license_has_two_spellings_and_is_written_with_one(folder: Path, name: str) -> None:
    """The checkpoints that ship have the second, and must keep their digests."""
    config = json.loads((folder / "config.json").read_text())
    config[name] = config.pop("license")
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = FlowCheckpoint.open(folder)
    assert checkpoint.spec.license == "Apache-2.0"
    assert '"license"' in checkpoint.config.model_dump_json()


def larger(width: int, height: int, **given: Any) -> dict[str, Any]:
    """To be upscaled to this size."""
    source = Source(Picture(width // 2, height // 2, 4, bytes(width * height)))
    return {"operation": "upscale", "size": (width, height), "source": source, "steps": 4} | given


def test_what_a_request_costs_is_known_without_the_network(tmp_path: Path) -> None:
    """Evaluations of a pass, and in all: what the engine packs by, and rate limits count."""
    flow, gpt, gan = (
        open_checkpoint(tiny(tmp_path / tiny.__name__)) for tiny in (tiny_flow, tiny_gpt, tiny_gan)
    )
    for checkpoint, given, costs in (
        (flow, {"prompt": "a", "steps": 4}, (2, 8)),
        (flow, {"prompt": "a", "steps": 4, "solver_order": 2}, (2, 16)),
        (flow, {"prompt": " ", "steps": 4}, (1, 4)),
        (flow, {"prompt": "a", "steps": 4, "guidance": 1}, (1, 4)),
        (flow, larger(16, 16), (1, 4)),
        (flow, larger(32, 16), (2, 12)),
        (flow, larger(32, 40), (2, 36)),
        (flow, larger(32, 40, prompt="a", solver_order=2), (2, 144)),
        (gpt, {"prompt": "a"}, (2, 32)),
        (gpt, {"prompt": "", "guidance": 3}, (1, 16)),
        (gpt, {"operation": "describe", "labels": ("a", "b", "c")}, (2, 19)),
        (gan, {"prompt": "a"}, (1, 1)),
    ):
        request = checkpoint.spec.request(**given)
        assert (checkpoint.cost(request), checkpoint.evaluations(request)) == costs
        model = load_model(checkpoint, device="meta", dtype="fp32", tile=2)
        assert model.cost(request) == costs[0]


def test_a_model_may_be_given_a_name(folder: Path, tmp_path: Path) -> None:
    """So that two folders of one name serve side by side, wherever their files are copied to."""
    named = open_checkpoint(Path(f"best-1.5={folder}"))
    assert named.spec.id == "best-1.5"
    (copies := tmp_path / "copies").mkdir()
    copied = named.copied(copies)
    for one in (named, copied):
        again = open_checkpoint(one.address)
        assert (again.spec, again.folder) == (one.spec, one.folder)
        assert load_model(again, device="cpu", dtype="fp32", tile=4).spec.id == "best-1.5"
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        open_checkpoint(Path("best=nowhere"))


def test_a_folder_may_have_an_equals_sign(folder: Path) -> None:
    renamed = folder.rename(folder.with_name("lr=1e-3"))
    assert open_checkpoint(renamed).spec.id == "lr=1e-3"


def test_a_link_gives_its_name(folder: Path) -> None:
    (link := folder.with_name("best")).symlink_to(folder)
    assert open_checkpoint(link).spec.id == "best"


def test_captions_that_are_no_text_are_named(tmp_path: Path) -> None:
    folder = tiny_gan(tmp_path / "gan")
    (folder / "captions.txt").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"captions\.txt: not text in UTF-8"):
        load_model(open_checkpoint(folder), device="cpu", dtype="fp32", tile=4)
