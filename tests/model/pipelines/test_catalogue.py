"""The catalogue: which entry a folder gets, and that what is written of it is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from model.pipelines.catalogue import CATALOGUE, find

DOCUMENT = Path(__file__).parents[3] / "docs" / "models.md"


@pytest.mark.parametrize(
    ("name", "pipeline", "configs", "title"),
    [
        ("dev", "FluxPipeline", {"transformer": {"guidance_embeds": True}}, "FLUX.1 [dev]"),
        ("x/FLUX.1-schnell", "FluxPipeline", {"transformer": {}}, "FLUX.1 [schnell]"),
        ("x/stable-diffusion-3.5-large", "StableDiffusion3Pipeline", {}, "Stable Diffusion 3.5"),
        ("stable-diffusion-3-medium", "StableDiffusion3Pipeline", {}, "Stable Diffusion 3"),
        ("x/Z-Image-Turbo", "ZImagePipeline", {}, "Z-Image-Turbo"),
        ("x/Z-Image", "ZImagePipeline", {}, "Z-Image"),
    ],
)
def test_a_folder_gets_the_entry_of_its_class_configuration_and_name(
    name: str, pipeline: str, configs: dict[str, Any], title: str
) -> None:
    entry = find({"": {"_class_name": pipeline}, **configs}, name)
    assert entry is not None
    assert entry.title == title


def test_an_unknown_class_has_none() -> None:
    assert find({"": {"_class_name": "MadeUpPipeline"}}, "flux") is None


def test_entries_with_more_conditions_come_first() -> None:
    """Else they would never be found."""
    for number, entry in enumerate(CATALOGUE):
        earlier = [one for one in CATALOGUE[:number] if one.pipeline == entry.pipeline]
        assert not any(one.when.items() <= entry.when.items() for one in earlier), entry.title


def test_every_entry_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in text.splitlines() if re.match(r"\| .*`", line)}
    assert {entry.title for entry in CATALOGUE} <= rows
