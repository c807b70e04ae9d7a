"""A folder of diffusers that cannot be served says which file is at fault and why, at the start;
one that can says what it takes. Nothing that lies in it is run, and torch is not loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.checkpoint import CheckpointError, hash_of
from model.pipelines import hashing
from model.pipelines.catalogue import Area
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.settings import PipelineSettings
from model.pipelines.sizes import scale_of, sizes_of
from model.registry import open_checkpoint
from model.request import InvalidField
from tests.model.pipelines.folders import (
    dit,
    edit_json,
    flux,
    in_hub_cache,
    sd3,
    write_json,
    write_model,
    write_weights,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return flux(tmp_path / "FLUX.1-dev")


def opened(folder: Path) -> PipelineCheckpoint:
    checkpoint = open_checkpoint(folder)
    assert isinstance(checkpoint, PipelineCheckpoint)
    return checkpoint


def test_a_folder_says_what_it_takes(folder: Path) -> None:
    spec = opened(folder).spec
    assert (spec.id, spec.family, spec.channels) == ("FLUX.1-dev", "diffusers", 3)
    assert spec.operations == ("generate", "vary", "inpaint")
    names = [parameter.name for parameter in spec.parameters]
    assert names == ["steps", "guidance", "true_guidance", "strength"]
    # 128 latent pixels of 2 pixels each, patches of 2 latent pixels, two native areas at the most.
    assert str(spec.sizes).startswith("256x256, or multiples of 4 from 64 to 1024 with at most 131")
    assert (spec.max_prompt_tokens, spec.negative_prompt, spec.examples) == (512, True, ())
    assert (spec.license, spec.description, spec.loras) == ("unknown", "FLUX.1 [dev]", ())


def test_a_pipeline_without_an_operation_has_no_parameter_of_it(tmp_path: Path) -> None:
    spec = opened(dit(tmp_path / "DiT")).spec
    assert spec.operations == ("generate",)
    assert [parameter.name for parameter in spec.parameters] == ["steps", "guidance"]
    assert str(spec.sizes) == "16x16, resampled for other squares"


def test_license_and_description_are_the_cards(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(
        '---\nlicense: apache-2.0\ndescription: "Draws: all."\nx:\n  license: no\n---\n'
    )
    spec = opened(folder).spec
    assert (spec.license, spec.description) == ("apache-2.0", "Draws: all.")
    card.write_text("---\nlicense: other\nlicense_name: flux-1-dev-non-commercial\n---\nlicense: a")
    assert opened(folder).spec.license == "flux-1-dev-non-commercial"
    card.write_text("# no front matter\nlicense: mit\n")
    assert opened(folder).spec.license == "unknown"


def _pickle_instead(path: Path) -> None:
    path.unlink()
    (path.parent / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def _in_variant(folder: Path, variant: str, component: str = "vae") -> None:
    path = folder / component / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))


def _in_two_variants(folder: Path) -> None:
    _in_variant(folder, "fp16")
    _in_variant(folder, "ema", "transformer")


def _shards(folder: Path, *names: str) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    weights = {f"w{index}": name for index, name in enumerate(names)}
    write_json(path.with_name(f"{path.name}.index.json"), {"weight_map": weights})


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _auto_map(folder: Path) -> None:
    edit_json(folder / INDEX, text_encoder=["transformers", "AutoModel"])
    edit_json(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "x.Y"})


Break = Callable[[Path], object]
INDEX = "model_index.json"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            lambda f: _pickle_instead(f / "text_encoder_2" / "model.safetensors"),
            "text_encoder_2/pytorch_model.bin: pickled weights are never opened",
        ),
        (
            _in_two_variants,
            r"r/diffusion_pytorch_model.safetensors: missing; diffusion_pytorch_model.ema.safetens",
        ),
        (lambda f: shutil.rmtree(f / "vae"), "/vae: missing; model_index.json lists it as AutoenK"),
        (lambda f: (f / "vae" / "config.json").unlink(), "vae/config.json: missing; vae is a Auto"),
        (
            lambda f: (f / "scheduler" / "scheduler_config.json").unlink(),
            "scheduler/scheduler_config.json: missing; scheduler is a FlowMatchEuler",
        ),
        (lambda f: shutil.rmtree(f / "tokenizer"), "/tokenizer: missing; model_index.json lists"),
        (
            lambda f: (f / "tokenizer_2" / "tokenizer.json").unlink(),
            "tokenizer_2/tokenizer.json: missing; without it no T5Tokenizer is known",
        ),
        (
            lambda f: (f / "tokenizer_2" / "tokenizer.json").write_text("{}"),
            "tokenizer_2: no tokenizer: ",
        ),
        (
            lambda f: _shards(f, "a-00001-of-00002.safetensors"),
            "transformer/a-00001-of-00002.safetensors: missing; .*index.json lists it",
        ),
        (lambda f: _shards(f, "../a.safetensors"), "'../a.safetensors' is no safetensors file"),
        (lambda f: _shards(f, "a.bin"), "'a.bin' is no safetensors file beside it"),
        (_shards, "index.json: has no weight_map"),
        (
            lambda f: _cut(f / "vae" / "diffusion_pytorch_model.safetensors"),
            "vae/diffusion_pytorch_model.safetensors: not in safetensors format",
        ),
        (
            lambda f: write_weights(
                f / "transformer" / "diffusion_pytorch_model.safetensors",
                **{"x_embedder.weight": (32, 12)},
            ),
            r"x_embedder.weight is \[32, 12\], config.json has in_channels 16",
        ),
        (
            lambda f: write_weights(
                f / "text_encoder_2" / "model.safetensors", **{"shared.weight": (40, 6)}
            ),
            r"shared.weight is \[40, 6\], config.json has a width of 8",
        ),
        (lambda f: (f / INDEX).write_text("{"), "model_index.json: no JSON: "),
        (lambda f: (f / INDEX).write_text("[]"), "model_index.json: no JSON object"),
        (lambda f: (f / "vae" / "config.json").write_text("no"), "vae/config.json: no JSON: "),
        (
            lambda f: edit_json(f / "vae" / "config.json", block_out_channels=None),
            "AutoencoderKL does not say what it scales by",
        ),
        (lambda f: edit_json(f / INDEX, _class_name=None), "_class_name is None, not a pipeline"),
        (
            lambda f: edit_json(f / INDEX, _class_name=["pipeline", "Mine"]),
            r"_class_name is \['pipeline', 'Mine'\]: code in the folder is never run",
        ),
        (
            lambda f: edit_json(f / INDEX, _class_name="MadeUpPipeline"),
            "MadeUpPipeline is no pipeline of diffusers, and no installed package registers it",
        ),
        (
            lambda f: edit_json(f / INDEX, transformer=["my_module", "Network"]),
            "model_index.json: transformer is my_module.Network: only diffusers and transformers",
        ),
        (
            lambda f: edit_json(f / INDEX, vae=["os", "system"]),
            "vae is os.system: only diffusers and transformers are loaded",
        ),
        (
            lambda f: edit_json(f / INDEX, vae=["diffusers", "AutoencoderMine"]),
            "vae is AutoencoderMine, which diffusers does not have",
        ),
        (
            lambda f: (f / "vae" / "diffusers.py").write_text("raise SystemExit"),
            "vae/diffusers.py: code in the folder is never run",
        ),
        (
            _auto_map,
            "text_encoder/config.json: auto_map names code in the folder; it is never run",
        ),
        (
            lambda f: edit_json(f / INDEX, **{"..": ["diffusers", "AutoencoderKL"]}),
            "'..' is no component's name",
        ),
        (
            lambda f: edit_json(f / INDEX, vae=[None, None]),
            "vae is left out; FluxPipeline needs it",
        ),
        (
            lambda f: edit_json(f / INDEX, text_encoder=[None, None], tokenizer=[None, None]),
            "text_encoder is left out; FluxPipeline needs it",
        ),
        (
            lambda f: edit_json(f / INDEX, scheduler=None),
            "scheduler is missing; FluxPipeline needs",
        ),
    ],
)
def test_a_broken_folder_is_refused(folder: Path, break_it: Break, says: str) -> None:
    break_it(folder)
    with pytest.raises(CheckpointError, match=says.replace("AutoenK", "AutoencoderKL")):
        open_checkpoint(folder)


def test_a_folder_that_is_neither_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither config\.json nor model_index\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("package", ["diffusers", "greenlet"])
def test_without_the_extra_it_says_how_to_install_it(
    folder: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.util import find_spec

    def found(name: str) -> object:
        return None if name == package else find_spec(name)

    monkeypatch.setattr("model.pipelines.components.find_spec", found)
    with pytest.raises(CheckpointError, match=rf"need {package}: pip install 'tessera-serve\["):
        open_checkpoint(folder)


def test_shards_are_read_where_an_index_lists_them(folder: Path) -> None:
    before = opened(folder)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    _shards(folder, *names)
    for name in names:
        write_weights(path.with_name(name), weight=(4,))
    after = opened(folder)
    assert after.spec.digest != before.spec.digest
    assert after.bytes != before.bytes


def test_a_variant_is_read_where_there_is_nothing_else(folder: Path) -> None:
    plain = opened(folder)
    assert plain.variant is None
    extra = folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors"
    write_weights(extra, weight=(8,))
    assert opened(folder).spec.digest == plain.spec.digest  # all have weights without a variant
    _in_variant(folder, "fp16")
    only = opened(folder)
    assert only.variant == "fp16"
    write_weights(extra, weight=(9,))  # as the library then reads all that have it
    assert opened(folder).spec.digest != only.spec.digest


def test_quantized_weights_have_shapes_of_their_own(folder: Path) -> None:
    edit_json(folder / "transformer" / "config.json", quantization_config={"quant_method": "x"})
    packed = {"x_embedder.weight": (256, 1)}
    write_weights(folder / "transformer" / "diffusion_pytorch_model.safetensors", **packed)
    open_checkpoint(folder)


def test_a_text_encoder_may_be_left_out_where_the_pipeline_does_without(tmp_path: Path) -> None:
    folder = sd3(tmp_path / "sd3")
    assert opened(folder).spec.max_prompt_tokens == 256
    edit_json(folder / INDEX, text_encoder_3=[None, None])
    with pytest.raises(CheckpointError, match="text_encoder_3 is left out"):
        open_checkpoint(folder)
    edit_json(folder / INDEX, tokenizer_3=[None, None])
    assert opened(folder).spec.max_prompt_tokens == 77  # CLIP's


def test_what_the_index_says_beside_components_is_no_component(folder: Path) -> None:
    edit_json(folder / INDEX, is_distilled=True, layers=[9, 18], name="x")
    open_checkpoint(folder)


def test_looking_at_a_folder_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from model.registry import open_checkpoint;"
        f"c = open_checkpoint(Path({str(folder)!r})); c.count_tokens('a red apple');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- prompts and costs ---------------------------------------------------------------------------


def test_prompts_are_counted_with_the_end_that_is_added(folder: Path) -> None:
    checkpoint = opened(folder)
    assert checkpoint.count_tokens("a red apple") == 4
    checkpoint.check_prompt("a " * 511, "prompt")
    with pytest.raises(
        InvalidField, match=r"has 513 tokens, FLUX\.1-dev takes at most 512"
    ) as info:
        checkpoint.check_prompt("a " * 512, "negative_prompt")
    assert (info.value.field, info.value.code) == ("negative_prompt", "prompt_too_long")


def test_prompts_of_a_class_model_are_its_names(tmp_path: Path) -> None:
    checkpoint = opened(dit(tmp_path / "DiT"))
    checkpoint.check_prompt("Golden_Retriever", "prompt")
    checkpoint.check_prompt(" ", "prompt")
    for example in checkpoint.spec.examples:
        checkpoint.check_prompt(example, "prompt")
    assert len(checkpoint.spec.examples) > 1
    with pytest.raises(InvalidField, match="names none of 8 classes; nearest: golden ret") as info:
        checkpoint.check_prompt("golden retreiver", "text")
    assert info.value.field == "text"
    edit_json(checkpoint.folder / INDEX, id2label=None)
    with pytest.raises(CheckpointError, match="id2label is missing; it names the classes"):
        open_checkpoint(checkpoint.folder)


def test_guidance_costs_twice_where_it_is_batched(tmp_path: Path) -> None:
    def costs(checkpoint: PipelineCheckpoint, **given: Any) -> tuple[int, int]:
        request = checkpoint.spec.request(**given)
        return checkpoint.cost(request), checkpoint.evaluations(request)

    labels, texts = opened(dit(tmp_path / "DiT")), opened(flux(tmp_path / "flux"))
    assert costs(labels, steps=10) == (2, 20)
    assert costs(labels, steps=10, guidance=1) == (1, 10)
    assert costs(texts, steps=10) == (1, 10)  # embedded: a number that the network reads
    assert costs(texts, steps=10, true_guidance=2) == (1, 20)  # two calls


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vae", "scale"),
    [
        ({"block_out_channels": [128, 256, 512, 512]}, 8),
        ({"encoder_block_out_channels": [1, 2, 3, 4, 5, 6], "block_out_channels": [1]}, 32),
        ({"temperal_downsample": [False, True, True]}, 8),
        ({"temperal_downsample": [False, True, True, True], "scale_factor_spatial": 16}, 16),
        ({"spatial_compression_ratio": 32, "block_out_channels": [1, 2]}, 32),
    ],
)
def test_a_vae_says_what_it_scales_by(vae: dict[str, object], scale: int) -> None:
    assert scale_of(vae) == scale


def test_sizes_are_those_of_the_area() -> None:
    flux = sizes_of(Area(side=128, budget=2.0), {}, 8)
    assert (flux.native, flux.multiple, flux.low, flux.high) == ((1024, 1024), 16, 256, 4096)
    assert flux.allow(2048, 1024)
    assert not flux.allow(2048, 1040)
    within = sizes_of(Area(side=128, longest=1.0), {}, 8)
    assert (within.low, within.high) == (256, 1024)
    small = sizes_of(Area(side=4, patch=2), {}, 8)
    assert (small.low, small.multiple) == (16, 16)
    oblong = sizes_of(Area(side="unet.sample_size"), {"unet": {"sample_size": [96, 64]}}, 8)
    assert oblong.native == (512, 768)
    otherwise = sizes_of(Area(side="unet.sample_size", otherwise=8), {"unet": {}}, 8)
    assert otherwise.native == (64, 64)
    with pytest.raises(CheckpointError, match=r"unet\.sample_size is 0, not the side of an image"):
        sizes_of(Area(side="unet.sample_size"), {"unet": {}}, 8)
    with pytest.raises(CheckpointError, match="24x24, is no multiple of 16"):
        sizes_of(Area(side=3), {}, 8)


# --- the digest ----------------------------------------------------------------------------------


def test_the_digest_is_of_what_is_used(folder: Path) -> None:
    digest = opened(folder).spec.digest
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    assert opened(copy).spec.digest == digest
    (copy / "README.md").write_text("# other words\n")
    write_weights(copy / "vae" / "diffusion_pytorch_model.fp16.safetensors", weight=(1,))
    (copy / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    write_json(copy / "vae" / "diffusion_pytorch_model.safetensors.index.fp16.json", {})
    assert opened(copy).spec.digest == digest
    for file in (
        *("model_index.json", "scheduler/scheduler_config.json", "vae/config.json"),
        *("tokenizer/tokenizer.json", "tokenizer_2/tokenizer_config.json"),
    ):
        path = copy / file
        content = path.read_text()
        path.write_text(content + " ")
        assert opened(copy).spec.digest != digest, file
        path.write_text(content)
    save_file(
        {"weight": np.ones(1, np.float16)}, copy / "vae" / "diffusion_pytorch_model.safetensors"
    )
    assert opened(copy).spec.digest != digest


def test_a_snapshot_of_the_hub_is_called_by_its_repository(folder: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(folder, tmp_path / "hub", "black-forest-labs/FLUX.1-dev")
    spec = opened(snapshot).spec
    assert spec.id == "FLUX.1-dev"
    assert spec.digest == opened(folder).spec.digest
    turbo = in_hub_cache(folder, tmp_path / "hub", "someone/FLUX.1-schnell")
    assert opened(turbo).entry.title == "FLUX.1 [schnell]"  # which is told by its name


def test_a_file_that_the_hubs_cache_names_is_not_read(folder: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(folder, tmp_path / "hub", "a/b")
    link = snapshot / "vae" / "diffusion_pytorch_model.safetensors"
    assert hashing.sha256(link) == link.resolve().name
    other = tmp_path / "elsewhere" / link.resolve().name  # a name of 64 digits alone says nothing
    other.parent.mkdir()
    other.write_bytes(b"other")
    link.unlink()
    link.symlink_to(other)
    assert hashing.sha256(link) != other.name


def _settled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a file be old, as far as the clock says."""
    now = path.stat().st_ctime + 60
    monkeypatch.setattr("model.pipelines.hashing.time.time", lambda: now)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(hashing.LARGE))
    _settled(path, monkeypatch)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    read, found = hash_of, list[Path]()

    def reading(path: Path) -> str:
        found.append(path)
        return read(path)

    monkeypatch.setattr(hashing, "hash_of", reading)
    return found


def test_a_large_file_is_read_once(large: Path, reads: list[Path]) -> None:
    first = hashing.sha256(large)
    assert hashing.sha256(large) == first
    assert reads == [large]


def test_a_change_is_never_missed(
    large: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, times = hashing.sha256(large), large.stat()
    with large.open("r+b") as file:  # as long as before, and as old as before
        file.write(b"x")
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    _settled(large, monkeypatch)
    assert hashing.sha256(large) != first
    assert reads == [large, large]


def test_a_file_that_just_changed_is_not_remembered(
    large: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next change might bear the same time."""
    monkeypatch.setattr("model.pipelines.hashing.time.time", lambda: large.stat().st_ctime)
    hashing.sha256(large)
    hashing.sha256(large)
    assert reads == [large, large]


def test_hashes_are_made_without_a_cache(
    large: Path, reads: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hashing.sha256(large)
    file = hashing.cache_file()
    assert file.is_relative_to(own_cache)
    file.write_text("{broken")
    assert hashing.sha256(large) == first
    monkeypatch.setenv("XDG_CACHE_HOME", str(large))  # a file: nothing can be written below it
    assert hashing.sha256(large) == first
    assert reads == [large] * 3


# --- adapters ------------------------------------------------------------------------------------


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    root = tmp_path / "loras"
    write_weights(root / "ink.safetensors", x=(1,))
    write_weights(root / "oil" / "pytorch_lora_weights.safetensors", x=(2,))
    write_weights(root / "FLUX.1-dev" / "ink.safetensors", x=(3,))
    write_weights(root / "FLUX.1-dev" / "own.safetensors", x=(4,))
    write_weights(root / "another-model" / "foreign.safetensors", x=(5,))
    (root / "README.md").write_text("what these are")
    return root


def test_adapters_are_offered_to_the_models_they_are_for(folder: Path, loras: Path) -> None:
    plain = opened(folder)
    checkpoint = plain.with_loras(loras)
    assert checkpoint.spec.loras == ("ink", "oil", "own")
    assert checkpoint.loras["ink"] == loras / "FLUX.1-dev" / "ink.safetensors"  # its own
    assert checkpoint.loras["oil"] == loras / "oil" / "pytorch_lora_weights.safetensors"
    scale = checkpoint.spec.parameter("lora_scale")
    assert scale is not None
    assert (scale.minimum, scale.maximum, scale.default) == (0, 2, 1)
    assert plain.with_loras(None) is plain
    assert plain.spec.parameter("lora_scale") is None
    other = opened(flux(folder.parent / "other")).with_loras(loras)
    assert other.spec.loras == ("ink", "oil")
    assert checkpoint.count_tokens("a red apple") == 4


def test_adapters_are_part_of_the_digest(folder: Path, loras: Path) -> None:
    plain, digest = opened(folder), opened(folder).with_loras(loras).spec.digest
    assert digest != plain.spec.digest
    assert plain.with_loras(loras).spec.digest == digest
    write_weights(loras / "oil" / "pytorch_lora_weights.safetensors", x=(9,))
    assert plain.with_loras(loras).spec.digest != digest


def test_a_class_that_loads_no_adapters_is_offered_none(tmp_path: Path, loras: Path) -> None:
    checkpoint = opened(dit(tmp_path / "DiT"))
    assert checkpoint.with_loras(loras) is checkpoint


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (shutil.rmtree, "loras: no such folder of adapters"),
        (lambda f: (f / "a.bin").touch(), "a.bin: pickled weights .* save them as a.safetensors"),
        (
            lambda f: (f / "oil" / "pytorch_lora_weights.safetensors").rename(
                f / "oil" / "pytorch_lora_weights.bin"
            ),
            "/oil: pickled weights are never opened",
        ),
        (lambda f: (f / "a.safetensors").write_bytes(b"no"), "a.safetensors: not in safetensors"),
        (
            lambda f: write_weights(f / "ink" / "pytorch_lora_weights.safetensors", x=(1,)),
            "there are two adapters ink",
        ),
    ],
)
def test_a_broken_adapter_is_refused(folder: Path, loras: Path, break_it: Break, says: str) -> None:
    break_it(loras)
    with pytest.raises(CheckpointError, match=says):
        opened(folder).with_loras(loras)


def test_numerics_take_in_the_libraries_and_how_it_is_loaded(folder: Path, loras: Path) -> None:
    checkpoint, settings = opened(folder), PipelineSettings()
    libraries = checkpoint.libraries(settings)
    assert {"diffusers", "transformers", "attention"} <= {*libraries}
    assert "peft" not in libraries
    assert "peft" in checkpoint.with_loras(loras).libraries(settings)
    for change in ({"offload": "model"}, {"quantization": "int8"}, {"vae_tiling": True}):
        assert checkpoint.libraries(settings.model_copy(update=change)) != libraries


def test_an_entry_that_asks_for_a_network_asks_for_it_by_its_name(folder: Path) -> None:
    edit_json(folder / INDEX, transformer=None)
    with pytest.raises(CheckpointError, match="transformer is missing; FluxPipeline needs it"):
        open_checkpoint(folder)


def test_a_module_of_diffusers_pipelines_is_no_foreign_module(folder: Path) -> None:
    edit_json(folder / INDEX, safety=["stable_diffusion", "StableDiffusionSafetyChecker"])
    write_model(folder / "safety", "diffusers", {"_class_name": "StableDiffusionSafetyChecker"})
    open_checkpoint(folder)


def test_a_checkpoint_is_copied_with_its_entry(folder: Path, loras: Path) -> None:
    checkpoint = opened(folder)
    assert checkpoint.with_loras(loras).entry == replace(checkpoint.entry)
    assert json.dumps(checkpoint.configs[""]) == json.dumps(
        json.loads((folder / INDEX).read_text())
    )
