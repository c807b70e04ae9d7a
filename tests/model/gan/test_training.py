"""Training a gan: it draws what it was asked for, and goes on where it was."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.data import load
from model.data.pictures import Caption, PictureFormat, PictureSet
from model.flow.config import TextConfig
from model.gan.config import DiscriminatorConfig, GanConfig
from model.gan.training import DiscriminatorLoss, GanRecipe, GanTraining, GeneratorLoss
from model.loading import load_model
from model.registry import open_checkpoint
from model.runtime.generate import generate
from model.runtime.pixels import to_values
from model.tokenizer import PromptTokenizer
from model.training.optimizer import OptimizerConfig
from model.training.recipe import Start, TrainingOptions
from model.training.start import start_training
from tests.emoji_sets import make_set
from tests.tiny import GAN_SPEC, tiny_flow
from tests.training import Listener, tiny_training

NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog", "1f419": "octopus"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("gan") / "noto", "noto", NAMES)


def options(data: Path, out: Path, **changes: object) -> TrainingOptions:
    return tiny_training(data, out, **{"family": "gan", **changes})


def two_colours() -> GanRecipe:
    """Red images and blue ones, without prompts."""
    colours = np.array([[255, 0, 0, 255], [0, 0, 255, 255]], np.uint8)
    data = PictureSet(
        name="two colours",
        pictures=np.ascontiguousarray(np.broadcast_to(colours[:, :, None, None], (2, 4, 8, 8))),
        captions=["", ""],
        prompters=[Caption(""), Caption("")],
        groups=[[0], [1]],
    )
    tokenizer = PromptTokenizer.train(["a"], 257)
    text = TextConfig(tokenizer.vocabulary, 16, depth=1, heads=1, summary=1, max_tokens=4)
    shape: dict[str, Any] = {
        "image_size": 8,
        "layout_width": 8,
        "layout_size": 2,
        "layout_channels": 2,
    }
    training = GanTraining(
        network=GanConfig(
            patch_size=4,
            width=32,
            depth=1,
            heads=1,
            latent=16,
            text=text,
            **shape,
        ),
        discriminator=DiscriminatorConfig(width=8, text=text, **shape),
        prompt_tokens=2,
    )
    torch.manual_seed(0)
    return GanRecipe(data, training, OptimizerConfig(1e-3), Start(tokenizer))


def test_a_gan_draws_what_it_was_asked_for(data: Path, tmp_path: Path) -> None:
    """Each prompt's image is nearer to its own than to any other."""
    changes = {"steps": 150, "batch": 16, "learning_rate": 2e-3}
    folder = start_training(options(data, tmp_path / "run", **changes), Listener())
    model = load_model(open_checkpoint(folder), device="cpu", dtype="fp32", tile=4)
    pictures = load([data], PictureFormat(16, 4))
    requests = [GAN_SPEC.request(text, seed) for seed, text in enumerate(pictures.captions)]
    drawn = torch.stack([to_values(made) for made in generate(model, requests)])
    distance = (drawn[:, None] - pictures.tensor(range(4))).square().flatten(2).mean(2)
    assert distance.argmin(1).tolist() == [0, 1, 2, 3]


def test_an_interrupted_run_goes_on_to_the_same_place(data: Path, tmp_path: Path) -> None:
    """Both networks and both optimizers are kept."""
    whole = start_training(options(data, tmp_path / "whole"), Listener())
    start_training(options(data, tmp_path / "part"), Listener(interrupt_after=3))
    again = start_training(options(data, tmp_path / "part"), Listener())
    expected = load_file(whole / "model.safetensors")
    for name, weight in load_file(again / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name
    states = [
        torch.load(tmp_path / name / "resume.pt", weights_only=True) for name in ("whole", "part")
    ]
    for name, weight in states[0]["network"].items():  # the discriminator, too
        assert torch.equal(weight, states[1]["network"][name]), name
    assert len(states[0]["optimizers"]) == 2


def test_a_run_leaves_the_generator_alone_and_both_losses(data: Path, tmp_path: Path) -> None:
    folder = start_training(options(data, tmp_path / "run", steps=2), Listener())
    assert not any("discriminator" in name for name in load_file(folder / "model.safetensors"))
    spec = open_checkpoint(folder).spec
    assert spec.family == "gan"
    assert spec.request("a").parameters == (("guidance", 1), ("steps", 1))
    captions = load([data], PictureFormat(16, 4)).captions
    assert (folder / "captions.txt").read_text("utf-8").splitlines() == sorted(set(captions))
    lines = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
    assert {"loss", "generator_loss"} < set(lines[-1])
    assert (folder.parent / "samples" / "0000002.png").stat().st_size > 500


def test_each_phase_moves_one_players_weights_alone(data: Path, tmp_path: Path) -> None:
    """A discriminator that moved in the generator's phase would learn to be fooled."""
    recipe = two_colours()

    def moved(number: int) -> set[str]:
        before = {name: value.clone() for name, value in recipe.network.state_dict().items()}
        phase = recipe.phases[number]
        recipe.network.zero_grad()
        batch = recipe.batch(4, random.Random(0), torch.Generator().manual_seed(0))
        phase.loss(*batch).backward()
        phase.optimizers[0].step()
        after: dict[str, Tensor] = recipe.network.state_dict()
        return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}

    assert [moved(0), moved(1)] == [{"discriminator"}, {"generator"}]


def test_no_gradients_are_computed_for_the_other_player(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be thrown away, and are a third of the work."""
    free: list[set[str]] = []
    for loss in (DiscriminatorLoss, GeneratorLoss):
        forward = loss.forward

        def noted(
            self: DiscriminatorLoss | GeneratorLoss, *batch: Tensor, forward: Any = forward
        ) -> Tensor:
            names = {n for n, p in self.players.named_parameters() if p.requires_grad}
            free.append({name.split(".")[0] for name in names})
            answer: Tensor = forward(self, *batch)
            return answer

        monkeypatch.setattr(loss, "forward", noted)
    start_training(options(data, tmp_path / "run", steps=2), Listener())
    assert free == 2 * [{"discriminator"}, {"generator"}]


def test_it_begins_from_a_flow(data: Path, tmp_path: Path) -> None:
    """With that flow's tokenizer. Its heads differ here, and so do a few shapes."""
    flow = tiny_flow(tmp_path / "flow")
    listener = Listener()
    start_training(options(data, tmp_path / "run", init=flow, steps=1), listener)
    [note] = [note for note in listener.notes if note.startswith("took over")]
    fresh = note.split("new ones:")[1]
    assert "generator.blocks.0.feed_forward" not in fresh
    assert "generator.patch_out" not in fresh
    kept = (tmp_path / "run" / "checkpoint" / "tokenizer.json").read_bytes()
    assert kept == (flow / "tokenizer.json").read_bytes()
