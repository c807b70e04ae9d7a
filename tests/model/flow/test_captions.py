"""Without a prompt, a flow with captions.txt draws one of them, by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import Checkpoint, save_captions
from model.loading import load_model
from model.protocol import ImageModel
from model.registry import open_checkpoint
from model.request import Picture
from model.runtime.generate import generate
from tests.tiny import tiny_flow

CAPTIONS = ["a cat", "a dog", "red apple"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tiny_flow(tmp_path_factory.mktemp("flow"))
    save_captions(folder, [*CAPTIONS, "far too long " * 100])
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> ImageModel[Any]:
    return load_model(checkpoint, device="cpu", dtype="fp32", tile=2)


def drawn(model: ImageModel[Any], prompt: str, seed: int, guidance: float = 1.0) -> Picture:
    request = model.spec.request(prompt, seed, steps=2, guidance=guidance)
    (picture,) = generate(model, [request])
    assert isinstance(picture, Picture)
    return picture


def test_each_seed_has_its_caption(model: ImageModel[Any]) -> None:
    chosen = set()
    for seed in range(12):
        found = [text for text in CAPTIONS if drawn(model, text, seed) == drawn(model, "", seed)]
        assert len(found) == 1
        chosen.update(found)
    assert chosen == set(CAPTIONS)


def test_guidance_needs_a_prompt_of_the_request(model: ImageModel[Any]) -> None:
    assert model.cost(model.spec.request("", 3, guidance=2)) == 1
    assert drawn(model, "", 3, guidance=2.0) == drawn(model, "", 3)


def test_the_digest_is_of_captions_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert open_checkpoint(tiny_flow(tmp_path / "flow")).spec.digest != checkpoint.spec.digest
    (tmp_path / "copy").mkdir()
    assert checkpoint.copied(tmp_path / "copy").spec.digest == checkpoint.spec.digest
