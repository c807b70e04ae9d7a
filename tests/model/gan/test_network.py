"""Generator and discriminator: shapes, what reaches what, and how a gan begins from a flow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.flow.config import TextConfig
from model.flow.network import FlowTransformer
from model.gan.config import DiscriminatorConfig, GanConfig
from model.gan.discriminator import Discriminator
from model.gan.network import Generator
from model.gan.training import warm_start
from tests.tiny import tiny_flow, tiny_gan

TEXT = TextConfig(vocabulary=300, width=32, depth=1, heads=2, summary=2, max_tokens=48)
SHAPE = GanConfig(
    image_size=16,
    patch_size=4,
    width=32,
    depth=2,
    heads=2,
    layout_width=32,
    layout_size=4,
    layout_channels=4,
    latent=64,
    text=TEXT,
)
DISCRIMINATOR = DiscriminatorConfig(
    image_size=16, width=8, layout_width=32, layout_size=4, layout_channels=4, text=TEXT
)
TOKENS = torch.tensor([[5, 9, 0], [0, 0, 0]])


def shaken(network: torch.nn.Module) -> None:
    """Weights that are zero at first hide what reaches what."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_the_default_generator_fits_in_twenty_megabytes() -> None:
    """In fp16, as it ships."""
    with torch.device("meta"):
        network = Generator(GanConfig())
    assert 2 * sum(parameter.numel() for parameter in network.parameters()) < 20e6


def test_every_number_of_the_latent_and_every_prompt_makes_another_picture() -> None:
    network = Generator(SHAPE)
    shaken(network)
    latent = torch.zeros(1, 64).requires_grad_()
    picture = network(latent, TOKENS[:1])
    assert picture.shape == (1, 4, 16, 16)
    (slope,) = torch.autograd.grad(picture.square().sum(), latent)
    assert (slope != 0).all()
    with torch.no_grad():
        assert not torch.allclose(picture, network(latent, TOKENS[1:]))


def test_a_latent_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="latent 60 must be a multiple of the number of patches"):
        GanConfig(image_size=16, patch_size=4, layout_size=4, latent=60)
    with pytest.raises(ValueError, match="image_size 48 must be layout_size 8 doubled"):
        DiscriminatorConfig(image_size=48)


def test_the_discriminator_depends_on_the_image_and_on_the_prompt() -> None:
    discriminator = Discriminator(DISCRIMINATOR)
    shaken(discriminator)
    pictures = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain, turned = discriminator(pictures, TOKENS), discriminator(pictures, TOKENS.flip(0))
        other = discriminator(pictures.flip(3), TOKENS)
    assert plain.shape == (2,)
    assert not torch.allclose(plain, turned)
    assert not torch.allclose(plain, other)


def test_a_score_is_its_own_pairs_alone() -> None:
    """Images are scored together with others; no norm may leak between them."""
    discriminator = Discriminator(DISCRIMINATOR)
    shaken(discriminator)
    pictures = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            discriminator(pictures, TOKENS)[:1], discriminator(pictures[:1], TOKENS[:1])
        )


def flow_weights(folder: Path) -> dict[str, Tensor]:
    weights = load_file(tiny_flow(folder) / "model.safetensors")
    return {name: value.float() for name, value in weights.items()}


def test_a_generator_begins_as_the_flow_that_it_comes_from(tmp_path: Path) -> None:
    """From a latent of zeros it draws what flow predicts at time 0 from noise that is zero."""
    weights = flow_weights(tmp_path)
    network = Generator(SHAPE)
    own = {
        name.removeprefix("generator."): value
        for name, value in warm_start(weights, SHAPE.depth).items()
        if name.startswith("generator.")
    }
    missing, unexpected = network.load_state_dict(own, strict=False)
    assert not unexpected
    fresh = {name.removeprefix("reader.").split(".")[0] for name in missing}
    assert fresh == {"latent_embed", "latent_in", "openness", "refine"}
    flow = FlowTransformer(SHAPE)
    flow.load_state_dict(weights)
    with torch.no_grad():
        made = network(torch.zeros(2, 64), TOKENS)
        predicted = flow(torch.zeros(2, 4, 16, 16), torch.zeros(2), TOKENS)
    assert predicted.std() > 0.1
    torch.testing.assert_close(made, predicted, atol=1e-4, rtol=1e-4)


def test_the_discriminator_begins_with_what_flow_knows_of_prompts(tmp_path: Path) -> None:
    weights = flow_weights(tmp_path)
    names = {name for name in warm_start(weights, 2) if name.startswith("discriminator.")}
    own = {f"discriminator.{name}" for name in Discriminator(DISCRIMINATOR).state_dict()}
    assert names < own
    assert own - names == {
        name for name in own if not name.startswith("discriminator.prompts.") or ".widen." in name
    }


def test_fewer_blocks_are_chosen_evenly() -> None:
    weights = {f"blocks.{number}.x": torch.tensor(number) for number in range(8)}
    weights |= {
        f"time_embed.{layer}.{kind}": torch.ones(*shape)
        for layer in (0, 2)
        for kind, shape in (("weight", (4, 4)), ("bias", (4,)))
    }
    weights["patch_embed.bias"] = torch.zeros(4)
    weights |= {"refine.weight": torch.zeros(4, 8, 3, 3), "refine.bias": torch.zeros(4)}
    chosen = warm_start(weights, 6)
    kept = [int(chosen[f"generator.blocks.{index}.x"]) for index in range(6)]
    assert kept == [0, 1, 3, 4, 6, 7]


def test_a_gan_checkpoint_begins_a_generator(tmp_path: Path) -> None:
    weights = load_file(tiny_gan(tmp_path) / "model.safetensors")
    names = warm_start(weights, 2)
    assert set(names) == {f"generator.{name}" for name in Generator(SHAPE).state_dict()}
