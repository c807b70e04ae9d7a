"""Training a codec and a gpt, from images to a checkpoint that draws and describes them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import CheckpointError
from model.data import load
from model.data.pictures import PictureFormat, PictureSet
from model.gpt.codec_training import load_codec
from model.gpt.config import GptCheckpoint, GptConfig
from model.gpt.network import GptTransformer
from model.gpt.sampler import GptSampler
from model.gpt.sequence import NOTHING, image_to_text, join, text_to_image
from model.gpt.training import GptLoss, GptRecipe, GptTraining, encode_all
from model.loading import load_model
from model.protocol import Description
from model.registry import open_checkpoint
from model.request import Picture, Source
from model.runtime.generate import generate, run
from model.runtime.pixels import moved, to_picture, to_values
from model.training.optimizer import OptimizerConfig
from model.training.recipe import Start, TrainingError, TrainingOptions
from model.training.start import start_training
from tests.emoji_sets import make_set
from tests.training import Listener, tiny_training

NAMES = {
    "1f34e": "red apple",
    "1f680": "rocket",
    "1f436": "dog",
    "1f419": "octopus",
    "1f335": "cactus",
    "1f511": "key",
    "1f3a9": "top hat",
    "1f982": "scorpion",
}
FORM = PictureFormat(16, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpt")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return make_set(folder / "noto", "noto", NAMES)


@pytest.fixture(scope="module")
def pictures(data: Path) -> PictureSet:
    return load([data], FORM)


def options(data: Path, out: Path, **changes: object) -> TrainingOptions:
    usual = {"family": "codec", "steps": 150, "batch": 16, "learning_rate": 4e-3, "cooldown": 0.3}
    return tiny_training(data, out, **{**usual, **changes})


@pytest.fixture(scope="module")
def codec(folder: Path, data: Path) -> Path:
    """A trained codec's folder."""
    return start_training(options(data, folder / "codec"), Listener())


@pytest.fixture(scope="module")
def gpt(folder: Path, data: Path, codec: Path) -> Path:
    """A checkpoint trained over it."""
    out = folder / "tiny-gpt"
    changes = {"family": "gpt", "codec": codec, "width": 64, "depth": 2, "steps": 220}
    return start_training(options(data, out, **changes), Listener())


@pytest.fixture(scope="module")
def model(gpt: Path) -> GptSampler:
    model = load_model(open_checkpoint(gpt), device="cpu", dtype="fp32", tile=16)
    assert isinstance(model, GptSampler)
    return model


def test_a_codec_gives_back_what_it_was_trained_on(codec: Path, pictures: PictureSet) -> None:
    network = load_codec(codec)
    given = pictures.tensor(range(len(pictures)))
    with torch.no_grad():
        error = (network.decode(network.encode(given)) - given).square().mean().item()
        spread = (given - given.mean(0)).square().mean().item()
    assert error < 0.1 * spread


def test_a_codecs_run_leaves_pairs_to_look_at(codec: Path) -> None:
    run = codec.parent
    assert (run / "samples" / "0000150.png").stat().st_size > 500
    assert json.loads((codec / "config.json").read_text())["family"] == "codec"


def test_a_gpt_draws_what_it_was_trained_on(model: GptSampler, pictures: PictureSet) -> None:
    """Each prompt's image is nearer to its own than to any other."""
    requests = [model.spec.request(text, temperature=0) for text in pictures.captions]
    drawn = torch.stack([to_values(made) for made in generate(model, requests)])
    real = pictures.tensor(range(len(pictures)))
    distance = (drawn[:, None] - real).square().flatten(2).mean(2)
    assert distance.argmin(1).tolist() == list(range(len(pictures)))


def test_a_gpt_names_what_it_was_trained_on(model: GptSampler, pictures: PictureSet) -> None:
    """The same weights, the other way round: labels are right, captions are one of its prompts."""
    sources = [Source(to_picture(one)) for one in pictures.tensor(range(len(pictures)))]
    requests = [model.spec.request(operation="describe", source=source) for source in sources]
    given = tuple(NAMES.values())
    requests += [replace(request, labels=given) for request in requests]
    found = [each for each in run(model, requests) if isinstance(each, Description)]
    own, chosen = found[: len(pictures)], found[len(pictures) :]
    assert [each.labels[0].text for each in own] == list(pictures.captions)
    assert [each.labels[0].text for each in chosen] == list(NAMES.values())
    assert all(each.caption for each in own)


def test_a_gpt_completes_a_picture_that_it_knows(model: GptSampler, pictures: PictureSet) -> None:
    row = 3
    whole = pictures.tensor([row])[0]
    source = Source(to_picture(whole), bytes(16 * 8) + b"\xff" * (16 * 8))
    request = model.spec.request(operation="inpaint", source=source, guidance=1, temperature=0)
    [made] = run(model, [request])
    assert isinstance(made, Picture)
    error = (to_values(made) - whole).square().mean()
    others = (pictures.tensor(range(len(pictures))) - whole).square().flatten(1).mean(1)
    assert error < others[others > 0].min()


def test_the_checkpoint_holds_the_codec_and_the_captions(
    gpt: Path, codec: Path, pictures: PictureSet
) -> None:
    weights, own = load_file(gpt / "model.safetensors"), load_file(codec / "model.safetensors")
    for name, weight in own.items():
        assert torch.equal(weights[f"codec.{name}"], weight)
    lines = (gpt / "captions.txt").read_text(encoding="utf-8").splitlines()
    assert lines == sorted(pictures.captions)
    assert open_checkpoint(gpt).spec.description == "squares"


def test_an_interrupted_gpt_goes_on_to_the_same_place(
    data: Path, codec: Path, tmp_path: Path
) -> None:
    usual = options(data, tmp_path / "whole", family="gpt", codec=codec, steps=4, batch=4)
    whole = start_training(usual, Listener())
    start_training(replace(usual, out=tmp_path / "part"), Listener(interrupt_after=2))
    again = start_training(replace(usual, out=tmp_path / "part"), Listener())
    expected = load_file(whole / "model.safetensors")
    for name, weight in load_file(again / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name


def test_beginning_from_another_gpt_takes_its_transformer(
    data: Path, codec: Path, gpt: Path, tmp_path: Path
) -> None:
    listener = Listener()
    changes = {"family": "gpt", "codec": codec, "width": 64, "depth": 2, "init": gpt}
    start_training(options(data, tmp_path / "more", steps=1, **changes), listener)
    [note] = [note for note in listener.notes if note.startswith("took over")]
    assert note.endswith("new ones: none")


def test_a_gpt_needs_a_codec(data: Path, gpt: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="train a codec first"):
        start_training(options(data, tmp_path / "gpt", family="gpt"), Listener())
    nowhere = tmp_path / "nowhere"
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        start_training(options(data, tmp_path / "gpt", family="gpt", codec=nowhere), Listener())
    with pytest.raises(CheckpointError, match="family: Input should be 'codec'"):
        start_training(options(data, tmp_path / "gpt", family="gpt", codec=gpt), Listener())


def test_the_first_loss_is_that_of_knowing_nothing(codec: Path, pictures: PictureSet) -> None:
    """ln of the number of values: every code of every place is asked for, once."""
    network = load_codec(codec)
    codes = encode_all(network, pictures)
    transformer = GptTransformer(GptConfig(network.config, vocabulary=50, width=32, depth=1))
    batch = join(
        [
            text_to_image(transformer.layout, [5, 6], codes[0], 4),
            image_to_text(transformer.layout, [5, 6], codes[1], 4),
        ]
    )
    loss = GptLoss(transformer, text_weight=2.0)
    value = loss(batch.ids, batch.first, batch.image, batch.codes, batch.text)
    expected = torch.tensor(network.config.values).log() + 2 * torch.tensor(50).log()
    torch.testing.assert_close(value, expected)


def test_some_places_are_hidden_and_pictures_to_be_read_are_moved(
    codec: Path, gpt: Path, pictures: PictureSet
) -> None:
    """What is hidden stands nowhere in the sequence, and is a target all the same."""
    network = load_codec(codec)
    checkpoint = GptCheckpoint.open(gpt)
    shape, start = checkpoint.config.network, Start(checkpoint.tokenizer)
    config = GptTraining(shape, captioning=1.0, forgetful=1.0, versions=1, shift=2)
    recipe = GptRecipe(pictures, network, config, OptimizerConfig(), start)
    generator = torch.Generator().manual_seed(0)
    ids, _, image, codes, _ = recipe.batch(64, random.Random(0), generator)

    layout, plain = recipe._layout, encode_all(network, pictures)
    assert image.unique().tolist() == [0]
    shown = ids[:, 1 : layout.places + 1]
    hidden = (shown[..., 1:] == NOTHING).all(2)
    assert torch.equal(shown[~hidden], layout.image(codes)[:, 1:][~hidden])
    assert (shown[..., 0] == layout.first_place + 1 + torch.arange(layout.places)).all()
    assert 0.6 < hidden.float().mean() < 0.9
    assert hidden.float().mean(1).min() < 0.4
    assert codes.min() >= 0
    as_it_is = (codes[:, None] == plain).all((2, 3)).any(1)
    assert 0.2 < as_it_is.float().mean() < 0.8

    config = replace(config, captioning=0.0, forgetful=0.0)
    recipe = GptRecipe(pictures, network, config, OptimizerConfig(), start)
    ids, _, image, codes, _ = recipe.batch(16, random.Random(0), generator)
    [begin] = image.unique().tolist()
    assert torch.equal(ids[:, begin:], layout.image(codes))
    assert (codes[:, None] == plain).all((2, 3)).any(1).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_moved_leaves_nothing_behind(channels: int) -> None:
    picture = torch.rand(channels, 8, 8)
    there = moved(picture, 2, -3)
    assert torch.equal(there[:, 2:, :-3], picture[:, :-2, 3:])
    nothing = 1.0 if channels == 3 else -1.0
    assert (there[:, :2] == nothing).all()
    assert (there[:, :, -3:] == nothing).all()
    assert torch.equal(moved(picture, 0, 0), picture)
