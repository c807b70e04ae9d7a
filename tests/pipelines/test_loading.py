"""From a folder onto a device: as the library loads it, reduced as set, or refused in one line.

If these fail, a pipeline draws with other weights than it was published with, two networks lie on a
GPU that has room for one, or a start ends in a traceback.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import group_offloading
from safetensors.torch import load_file, save_file

from app.engine.device import no_memory
from model.checkpoint import CheckpointError, Placement
from model.loading import GIB, DeviceMemory
from model.pipelines import fitting, loading
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.components import read_components, read_index
from model.pipelines.fitting import check_room
from model.pipelines.gate import Gate
from model.pipelines.sampler import PipelineModel
from model.pipelines.settings import Offload, PipelineSettings
from model.registry import open_checkpoint
from model.runtime.numerics import numerics
from tests.pipelines.conftest import MAKERS
from tests.pipelines.lora import make_adapter
from tests.pipelines.parts import library
from tests.pipelines.test_rows import ask, finish, load, pixels
from tests.service.running import running

pytestmark = pytest.mark.timeout(300)

CPU = torch.device("cpu")


def placement(
    device: str = "cpu", dtype: Literal["fp32", "bf16"] = "fp32", **settings: Any
) -> Placement:
    return Placement(device, dtype, 4, "eager", PipelineSettings(**settings))


# --- Weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_what_the_library_loads(name: str, folders: Mapping[str, Path]) -> None:
    """Also in fewer bits, where some layers keep theirs."""
    checkpoint = PipelineCheckpoint.open(folders[name])
    ours = loading._load(checkpoint, placement(dtype="bf16"))
    theirs = library.DiffusionPipeline.from_pretrained(
        folders[name], dtype=torch.bfloat16, local_files_only=True
    )
    assert type(ours) is type(theirs)
    assert ours.components.keys() == theirs.components.keys()
    for part, network in theirs.components.items():
        if not isinstance(network, torch.nn.Module):
            continue
        mine, other = ours.components[part].state_dict(), network.state_dict()
        assert mine.keys() == other.keys()
        for key, value in other.items():
            assert mine[key].dtype == value.dtype, f"{part}: {key}"
            assert mine[key].equal(value), f"{part}: {key}"


def edit(part: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rewrite(part: str, change: Callable[[dict[str, Any], str], Any], key: str) -> Any:
    def rewritten(folder: Path) -> None:
        [path] = (folder / part).glob("*.safetensors")
        weights = load_file(path)
        change(weights, key)
        save_file(weights, path, {"format": "pt"})

    return rewritten


def cut(weights: dict[str, Any], key: str) -> None:
    weights[key] = weights[key][..., 1:].clone()


BAD: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "transformer",
        edit("transformer", attention_head_dim=16),
        r"\S+ is \[\d+\], config\.json makes it \[\d+\]",
    ),
    ("transformer", edit("transformer", num_layers=3), r"config\.json makes it"),
    ("vae", edit("vae", block_out_channels=[8, 16]), r"config\.json makes it"),
    (
        "text_encoder",
        edit("text_encoder", intermediate_size=64),
        r"\S+fc1\.bias is \[37\], config\.json makes it \[64\]",
    ),
    ("text_encoder", edit("text_encoder", num_hidden_layers=3), r"\S+ \(and \d+ more\) is missing"),
    ("text_encoder_3", edit("text_encoder_3", d_ff=64), r"config\.json makes it"),
    (
        "transformer",
        rewrite("transformer", cut, "transformer_blocks.0.attn.to_q.weight"),
        r"attn\.to_q\.weight is \[32, 31\], config\.json makes it \[32, 32\]",
    ),
    (
        "transformer",
        rewrite("transformer", dict.pop, "norm_out.linear.bias"),
        r"norm_out\.linear\.bias is missing",
    ),
    (
        "text_encoder_2",
        rewrite("text_encoder_2", dict.pop, "text_model.final_layer_norm.bias"),
        r"\S*final_layer_norm\.bias is missing",
    ),
    (
        "vae",
        rewrite("vae", dict.pop, "decoder.conv_in.weight"),
        r"decoder\.conv_in\.weight is missing",
    ),
]


@pytest.mark.parametrize(("part", "spoil", "why"), BAD)
def test_weights_of_another_shape_are_refused(
    part: str, spoil: Callable[[Path], None], why: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """The libraries would fill some of them with random numbers, and draw noise."""
    folder = tmp_path / "sd3"
    shutil.copytree(folders["sd3"], folder)
    spoil(folder)
    with pytest.raises(CheckpointError, match=why) as refused:
        load(folder)
    assert str(refused.value).startswith(f"{folder / part}: ")
    assert "\n" not in str(refused.value)


def test_a_service_ends_with_the_reason(folders: Mapping[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sd3"
    shutil.copytree(folders["sd3"], folder)
    edit("transformer", attention_head_dim=16)(folder)
    with running(folder, tmp_path / "log") as service:
        assert service.process.wait(120) == 1
        said = [line for line in service.log.splitlines() if "CRITICAL" in line]
    assert len(said) == 1
    assert f"{folder / 'transformer'}: " in said[0]
    assert "config.json makes it" in said[0]
    assert "Traceback" not in service.log


# --- Fewer bits ----------------------------------------------------------------------------------


needs_torchao = pytest.mark.skipif(
    find_spec("torchao") is None, reason="the extra quantization is not installed"
)


def numerics_of(folder: Path, **settings: Any) -> str:
    return numerics(
        digest="0",
        device="cpu",
        dtype="fp32",
        tile=4,
        mode="eager",
        libraries=open_checkpoint(folder).libraries(PipelineSettings(**settings)),
    )


@needs_torchao
@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_quantised_weights_draw_about_the_same(
    name: str, kind: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    make_adapter(tmp_path / "ink.safetensors", folders[name], 1, gain=2)
    full, reduced = load(folders[name]), load(folders[name], quantization=kind, loras=tmp_path)
    network = reduced._pipelines["generate"].transformer
    kept = {type(part.weight).__name__ for part in network.modules() if hasattr(part, "weight")}
    assert kept & {"Int8Tensor", "Float8Tensor"}
    request = ask(full, 1)
    [exact], [rough] = (finish(model, [model.start(request)]) for model in (full, reduced))
    off = np.abs(pixels(exact) - pixels(rough))
    assert 0 < off.mean() < 12
    others = [ask(reduced, seed, steps=2 + seed, lora="ink" * (seed % 2)) for seed in (1, 2, 3)]
    alone = [finish(reduced, [reduced.start(one)])[0] for one in others]
    assert finish(reduced, [reduced.start(one) for one in others]) == alone
    assert numerics_of(folders[name], quantization=kind) != numerics_of(folders[name])


@pytest.mark.parametrize(("kind", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_without_the_package_it_is_said_which(
    kind: str, package: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_spec
    monkeypatch.setattr(fitting, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(CheckpointError) as refused:
        load(folders["sd3"], quantization=kind)
    assert str(refused.value) == (
        f"{folders['sd3']}: quantization={kind} needs {package}: "
        "pip install 'tessera-serve[quantization]'"
    )


def test_four_bits_are_for_gpus(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "find_spec", lambda name: SimpleNamespace())
    with pytest.raises(CheckpointError, match="quantization=nf4 is for GPUs; int8 and fp8 are not"):
        load(folders["sd3"], quantization="nf4")


# --- Tiles of the VAE ----------------------------------------------------------------------------


def test_a_vae_in_tiles_draws_about_the_same(folders: Mapping[str, Path]) -> None:
    whole, tiled = load(folders["sd3"]), load(folders["sd3"], vae_tiling=True)
    request = ask(whole, 1, size=(64, 64))
    [image], [seamed] = (finish(model, [model.start(request)]) for model in (whole, tiled))
    off = np.abs(pixels(image) - pixels(seamed))
    assert 0 < off.mean() < 20
    assert finish(tiled, [tiled.start(ask(tiled, 1))]) == finish(
        whole, [whole.start(ask(whole, 1))]
    )
    assert numerics_of(folders["sd3"], vae_tiling=True) != numerics_of(folders["sd3"])


@pytest.mark.parametrize("name", ["flux2-klein", "qwen-image", "sana", "hunyuan-image"])
def test_every_kind_of_vae_has_tiles(name: str, folders: Mapping[str, Path]) -> None:
    model = load(folders[name], vae_tiling=True)
    assert model._pipelines["generate"].vae.use_tiling
    finish(model, [model.start(ask(model, 1, steps=4))])


# --- Networks that wait on the CPU ---------------------------------------------------------------


@pytest.mark.parametrize("offload", ["model", "group", "sequential"])
def test_there_is_nothing_to_offload_from_a_cpu(offload: str, folders: Mapping[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=f"offload={offload} is for GPUs"):
        load(folders["sd3"], offload=offload)


def offloaded(folder: Path, offload: Offload, **given: Any) -> PipelineModel:
    """As on a GPU: with the library's hooks, which move from the CPU to the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        place = fitting.place
        settings = PipelineSettings(offload=offload)

        def placed(folder: Path, pipeline: Any, network: str, *_: Any) -> None:
            if offload == "sequential":  # whose method calls it "cpu:0", which is another one
                for part in pipeline.components.values():
                    if isinstance(part, torch.nn.Module):
                        cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)
            else:
                place(folder, pipeline, network, CPU, settings)

        patch.setattr(loading, "place", placed)
        return load(folder, **given)


@pytest.mark.parametrize("offload", ["model", "group", "sequential"])
@pytest.mark.parametrize("name", ["sd3", "sdxl", "qwen-image"])
def test_hooks_and_gates_agree(
    name: str, offload: Offload, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Rows that join while others draw, with adapters and without, in passes that they share."""
    make_adapter(tmp_path / "ink.safetensors", folders[name], 1, gain=2)
    plain = load(folders[name], loras=tmp_path)
    model = offloaded(folders[name], offload, loras=tmp_path)
    requests = [
        ask(plain, seed, prompt, steps=2 + seed, lora="ink" * (seed == 2))
        for seed, prompt in enumerate(("a red apple", "an old tree", "a cat"))
    ]
    alone = [finish(model, [model.start(request)])[0] for request in requests]
    first = model.start(requests[2])
    model.step([first])
    model.step([first])
    rows = [model.start(request) for request in requests[:2]]
    for row in rows:
        model.step([row])
    assert all(row.run.waiting is not None for row in (first, *rows)), "still at their gates"
    assert finish(model, [*rows, first]) == alone
    for request, image in zip(requests, alone, strict=True):
        [wanted] = finish(plain, [plain.start(request)])
        assert np.abs(pixels(image) - pixels(wanted)).max() <= 2


class Moved(torch.nn.Module):
    """A network that says where it is, and has nothing to move."""

    def __init__(self) -> None:
        super().__init__()
        self.where = torch.device("cpu")

    def parameters(self, recurse: bool = True) -> Any:
        yield SimpleNamespace(device=self.where)

    def to(self, device: Any) -> Any:  # type: ignore[override]
        self.where = torch.device(device)
        return self

    def forward(self, number: int) -> int:
        return number


@pytest.mark.parametrize("ours", [True, False])
def test_one_network_is_on_the_device_at_a_time(ours: bool) -> None:
    """In any order; the inverse is the library's own chain, which knows one order."""
    device = torch.device("meta")
    networks = [Moved() for _ in range(4)]  # two text encoders, the transformer, the VAE
    hooks: list[Any] = []
    for network in networks:
        before = hooks[-1] if hooks else None
        hooks.append(cpu_offload_with_hook(network, device, prev_module_hook=before)[1])
    if ours:
        fitting._one_at_a_time(hooks)
    most = 0
    for index in (0, 1, 2, 2, 0, 1, 2, 3, 2, 0, 3, 1, 2):
        assert networks[index](index) == index
        assert networks[index].where == device
        most = max(most, sum(network.where == device for network in networks))
    assert most == (1 if ours else 3)


def test_a_gate_outlives_hooks_that_take_themselves_off() -> None:
    """As the library's do that find out in which order layers are called. Without the gate every
    later call would go past the engine."""

    network: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).eval()
    shared: dict[str, Any] = {"onload_device": CPU, "offload_device": CPU}
    library.hooks.apply_group_offloading(network, offload_type="leaf_level", **shared)
    config = network[0]._diffusers_hook.get_hook("group_offloading").config
    group = group_offloading.ModuleGroup(
        modules=[], offload_leader=network, onload_leader=network, onload_self=True, **shared
    )
    group_offloading._apply_lazy_group_offloading_hook(network, group, config=config)
    gate = Gate(network, "forward", "denoise")
    gated, given = network.forward, torch.ones(1, 2)
    with torch.inference_mode():
        first = gate.compute(given)
        assert network.forward is gated
        assert network._diffusers_hook.get_hook("lazy_prefetch_group_offloading") is None
        assert gate.compute(given).equal(first)
        assert network(given).equal(first)
    assert network.forward is gated


# --- Room ----------------------------------------------------------------------------------------


def room(folder: Path, free: int, **given: Any) -> None:
    components = read_components(folder, read_index(folder))
    memory = DeviceMemory(total=max(free, 1) * 4, free=free, ours=0)
    check_room(folder, components, "transformer", placement("cuda:0", **given), memory)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the weights, which are in fp32."""
    return {
        path.name: sum(file.stat().st_size for file in path.glob("*.safetensors"))
        for path in folder.iterdir()
        if path.is_dir()
    }


def test_what_cannot_fit_is_said_with_what_would(folders: Mapping[str, Path]) -> None:
    folder = folders["sd3"]
    each = sizes(folder)
    total, largest = sum(each.values()), max(each.values())
    room(folder, total)
    room(folder, int(0.6 * total), dtype="bf16")
    room(folder, largest, offload="model")
    room(folder, total - each["transformer"] // 2, quantization="int8")
    room(folder, 0, offload="group")
    with pytest.raises(CheckpointError) as refused:
        room(folder, int(0.6 * total))
    said = str(refused.value)
    assert said.startswith(f"{folder}: its weights take {total / GIB:.1f} GiB, ")
    assert "GiB are free on cuda:0" in said
    assert "what helps: TESSERA_DTYPE=bf16, or " in said
    assert "TESSERA_OFFLOAD=model, or " in said
    assert "\n" not in said
    with pytest.raises(CheckpointError) as refused:
        room(folder, 10, dtype="bf16", offload="model")
    assert str(refused.value).endswith("what helps: TESSERA_OFFLOAD=group")


def test_where_the_device_does_not_say_it_is_tried(folders: Mapping[str, Path]) -> None:
    components = read_components(folders["sd3"], read_index(folders["sd3"]))
    check_room(folders["sd3"], components, "transformer", placement("cuda:0"), None)


def test_hints_for_a_device_that_is_full() -> None:
    """The engine's own, and those for pipelines where there are any."""

    def hints(**settings: Any) -> str:
        less = PipelineSettings(**settings).less_memory()
        return no_memory(doing="…", memory=None, models=1, tile=2, dtype="bf16", more=less)

    every = "TESSERA_OFFLOAD=model, TESSERA_QUANTIZATION=int8 or nf4, TESSERA_VAE_TILING=true"
    assert hints().endswith(f"what helps: {every}")
    assert hints(offload="model", quantization="int8", vae_tiling=True).endswith(
        "what helps: TESSERA_OFFLOAD=group"
    )
    assert "helps" not in hints(offload="group", quantization="nf4", vae_tiling=True)


def test_nothing_of_it_is_imported_to_look_at_a_folder(folders: Mapping[str, Path]) -> None:
    """Settings and their texts are read by processes without torch."""
    code = (
        "import sys, model.pipelines.checkpoint; assert not {'torch', 'diffusers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
