"""What is downloaded of a repository, and when what the cache has is enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.pipelines.download import HubFile, Plan, locate, size_text
from model.pipelines.hub import HubError, HubName, cached_pipelines, find_cached, select
from model.registry import SHIPPED, open_checkpoint
from tests.hub import COMMIT, hub
from tests.model.pipelines.folders import flux, in_hub_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import huggingface_hub.constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:a/b", HubName("a/b", "main")),
        ("hf:black-forest-labs/FLUX.1-dev", HubName("black-forest-labs/FLUX.1-dev")),
        ("hf:a/b@v1.0", HubName("a/b", "v1.0")),
        ("hf:a/b@refs/pr/1", HubName("a/b", "refs/pr/1")),
    ],
)
def test_a_name_has_a_repository_and_a_revision(text: str, expected: HubName) -> None:
    assert HubName.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["hf:a", "hf:a/b/c", "hf:", "hf:a/b@", "hf:../..@x y"])
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(HubError, match="expected hf:owner/name or hf:owner/name@revision"):
        HubName.parse(text)


INDEX = {
    "_class_name": "FluxPipeline",
    "feature_extractor": [None, None],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
}
WANTED = {
    *("README.md", "model_index.json", "text_encoder/config.json", "tokenizer/spiece.model"),
    *("text_encoder/model-00001-of-00002.safetensors", "tokenizer/tokenizer.json"),
    *("text_encoder/model.safetensors.index.json", "tokenizer/chat_template.jinja"),
    *("transformer/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"),
}
LEFT = {
    *("flux1-dev.safetensors", "picture.png", "pipeline.py", ".gitattributes", "setup.cfg"),
    *("text_encoder/pytorch_model.bin", "text_encoder/model.fp16.safetensors"),
    *("text_encoder/model.safetensors.index.fp16.json", "text_encoder/flax_model.msgpack"),
    *("transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "vae/code.py"),
    *("transformer/model.onnx", "another/diffusion_pytorch_model.safetensors"),
    *("feature_extractor/preprocessor_config.json", "tokenizer/deeper/vocab.json"),
}


def test_only_what_serving_needs_is_downloaded() -> None:
    assert {*select(WANTED | LEFT, INDEX)} == WANTED


def test_a_variant_is_downloaded_where_there_is_nothing_else() -> None:
    only = {
        *("transformer/diffusion_pytorch_model.bf16.safetensors", "text_encoder/config.json"),
        *("text_encoder/model.bf16-00001-of-00001.safetensors", "transformer/config.json"),
        "text_encoder/model.safetensors.index.bf16.json",
    }
    other = {
        *("transformer/diffusion_pytorch_model.fp16.safetensors", "vae/model.safetensors"),
        *("text_encoder/model.safetensors", "text_encoder/model.safetensors.index.json"),
    }
    assert {*select(only | other, INDEX)} == only


def test_a_model_of_our_own_is_what_lies_at_the_top() -> None:
    ours = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "captions.txt"}
    assert {*select(ours | {"resume.pt", "runs/model.safetensors"}, {})} == ours


def test_sizes_are_shown_as_the_hub_shows_them() -> None:
    shown = [size_text(size) for size in (0, 999, 1500, 24_100_000_000)]
    assert shown == ["0 B", "999 B", "1.5 kB", "24.1 GB"]


def test_a_download_that_does_not_fit_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    files = (
        HubFile("a", 6_000_000, 6_000_000, whole=True, plain=True),
        HubFile("b", 8_000_000, 2_000_000, whole=False, plain=True),
    )
    plan = Plan(HubName("a/b"), COMMIT, files, tmp_path, free=5_000_000)
    assert (plan.size, plan.here, plan.needed) == (14_000_000, 8_000_000, 6_000_000)
    with pytest.raises(HubError, match=r"hf:a/b: 6.0 MB are to come, .* has 5.0 MB free; HF_HOME"):
        plan.check_room()
    Plan(HubName("a/b"), COMMIT, files, tmp_path, free=6_000_000).check_room()


def test_what_the_cache_has_is_found(cache: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(flux(tmp_path / "flux"), cache, "owner/flux")
    assert find_cached(HubName("owner/flux")) == snapshot
    assert find_cached(HubName("owner/flux", "a" * 40)) == snapshot
    assert find_cached(HubName("owner/flux", "v2")) is None
    assert find_cached(HubName("owner/other")) is None
    assert cached_pipelines() == [(HubName("owner/flux"), snapshot)]
    assert open_checkpoint(Path("hf:owner/flux")).spec.id == "flux"


def test_a_commit_without_a_branch_is_listed_by_itself(cache: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(flux(tmp_path / "flux"), cache, "owner/flux")
    (cache / "models--owner--flux" / "refs" / "main").write_text("b" * 40)
    assert cached_pipelines() == [(HubName("owner/flux", "a" * 40), snapshot)]


def test_a_model_of_another_family_is_called_by_its_repository_too(cache: Path) -> None:
    in_hub_cache(SHIPPED / "emoji-gan", cache, "owner/emoji-cat")
    checkpoint = open_checkpoint(Path("hf:owner/emoji-cat"))
    assert (checkpoint.spec.id, checkpoint.spec.family) == ("emoji-cat", "gan")
    assert cached_pipelines() == []


def test_half_a_model_is_not_taken_for_one(cache: Path, tmp_path: Path) -> None:
    """An interrupted download leaves a folder, too."""
    snapshot = in_hub_cache(flux(tmp_path / "flux"), cache, "owner/flux")
    shutil.rmtree(snapshot / "vae")
    assert find_cached(HubName("owner/flux")) is None
    assert cached_pipelines() == []
    (snapshot / "model_index.json").unlink()
    assert find_cached(HubName("owner/flux")) is None


def test_where_the_hubs_listing_is_known_every_file_counts(cache: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(flux(tmp_path / "flux"), cache, "owner/flux", commit="b" * 40)
    files = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")]
    listing = {name: {"size": 1, "blob_id": "0"} for name in files if (snapshot / name).is_file()}
    trees = cache / "models--owner--flux" / "trees"
    trees.mkdir()
    content = {"format_version": 1, "files": listing}
    (trees / f"{'b' * 40}.json").write_text(json.dumps(content))
    assert find_cached(HubName("owner/flux")) == snapshot
    (snapshot / "tokenizer" / "tokenizer_config.json").unlink()
    assert find_cached(HubName("owner/flux")) is None


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"need huggingface_hub: pip install 'tessera-serve\["):
        locate(Path("hf:a/b"))
    assert cached_pipelines() == []


OPEN = """
import logging, sys
from pathlib import Path
from model.registry import open_checkpoint
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
print(open_checkpoint(Path("hf:owner/flux")).spec.digest)
assert not {"torch", "transformers"} & {*sys.modules}
"""


def test_a_start_downloads_what_is_missing_and_needs_no_network_afterwards(
    tmp_path: Path,
) -> None:
    folder = flux(tmp_path / "flux")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment["HF_HOME"] = str(tmp_path / "home")

    def start(endpoint: str, **more: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", OPEN],
            env={**environment, "HF_ENDPOINT": endpoint, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if not line.startswith("HTTP Request")]

    with hub() as served:
        served.add("owner/flux", folder)
        first = start(served.endpoint)
    assert first[0].startswith("downloading hf:owner/flux: ")
    assert first[-2:] == ["downloaded hf:owner/flux", open_checkpoint(folder).spec.digest]
    assert start("http://127.0.0.1:9") == first[-1:]
    assert start("http://127.0.0.1:9", HF_HUB_OFFLINE="1") == first[-1:]
