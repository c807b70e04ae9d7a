"""A family from another package. If these fail, docs/adding-a-family.md promises too much."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.engine.selftest import examine
from model.checkpoint import Checkpoint, CheckpointError
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import InvalidField
from model.runtime.generate import generate

EXAMPLE = Path(__file__).parents[2] / "examples" / "ripples"
FOLDER = EXAMPLE / "checkpoints" / "ripples"

ENTRY_POINTS = "[tessera.families]\nripples = tessera_ripples:RipplesCheckpoint\n"


def test_without_the_package_the_family_is_unknown() -> None:
    with pytest.raises(CheckpointError, match="family is 'ripples', there are flow, gpt, gan"):
        open_checkpoint(FOLDER)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The example's, with its package installed: a module and its metadata on ``sys.path``."""
    shutil.copy(EXAMPLE / "tessera_ripples.py", tmp_path)
    metadata = tmp_path / "tessera_ripples-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: tessera-ripples\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    assert ENTRY_POINTS.splitlines()[1].split(" = ")[1] in (EXAMPLE / "pyproject.toml").read_text()
    monkeypatch.syspath_prepend(str(tmp_path))
    return open_checkpoint(FOLDER)


def test_it_draws_any_of_its_sizes_with_a_parameter_of_its_own(checkpoint: Checkpoint) -> None:
    model = load_model(checkpoint, device="cpu", dtype="fp32")
    spec = checkpoint.spec
    requests = [
        spec.request("red apple", 1),
        spec.request("red apple", 1, waves=12),
        spec.request("red apple", 1, size=(32, 128), steps=1),
        spec.request("blue", 1),
        spec.request("red apple", 2),
    ]
    images = list(generate(model, requests))
    assert [(image.width, image.height) for image in images[:3]] == [(96, 64), (96, 64), (32, 128)]
    assert len(set(images)) == len(images)
    assert examine(model).seed_exact


def test_its_spec_refuses_what_it_does_not_take(checkpoint: Checkpoint) -> None:
    for wrong in ({"waves": 21.0}, {"guidance": 2.0}):
        with pytest.raises(InvalidField):
            checkpoint.spec.request("", 0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="33x64 was given"):
        checkpoint.spec.request("", 0, size=(33, 64))
