"""A flow that begins with another's weights must draw what that one draws."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from model.flow.config import FlowConfig, TextConfig
from model.flow.inheritance import EMBEDDING, enlargement, resized, respelled
from model.flow.network import FlowTransformer, as_if_smaller, sharpened
from model.flow.objective import FlowObjective
from model.tokenizer import PromptTokenizer

SMALL = FlowConfig(
    image_size=16,
    patch_size=2,
    width=32,
    depth=1,
    heads=1,
    layout_width=16,
    text=TextConfig(vocabulary=300, width=32, depth=1, heads=1),
)
OBJECTIVE = FlowObjective()
LARGE = replace(SMALL, image_size=32, patch_size=4)


def random_network(config: FlowConfig) -> FlowTransformer:
    """Nothing in it is zero, but for the last convolution."""
    torch.manual_seed(0)
    network = FlowTransformer(config)
    for name, parameter in network.named_parameters():
        if not name.startswith(("refine", "detail", "polish")):
            torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


def test_the_resized_network_draws_the_same_image_enlarged() -> None:
    """Each patch is enlarged by itself, so what must be equal is the mean of each block."""
    small, large = random_network(SMALL), FlowTransformer(LARGE).requires_grad_(False)
    large.load_state_dict(resized(small.state_dict(), SMALL, LARGE))
    noisy, time = torch.randn(2, 4, 16, 16), torch.tensor([0.3, 0.8])
    tokens = torch.randint(1, 300, (2, 5))
    drawn = small(noisy, time, tokens)
    enlarged = large(F.interpolate(noisy, scale_factor=2), time, tokens)
    assert enlarged.shape == (2, 4, 32, 32)
    patches = F.avg_pool2d(drawn, 2), F.avg_pool2d(enlarged, 4)
    torch.testing.assert_close(*patches, atol=1e-4, rtol=1e-4)
    assert F.mse_loss(F.avg_pool2d(enlarged, 2), drawn) < 0.5 * drawn.var()


@pytest.mark.parametrize("enlarged", [2, 4])
def test_blocks_of_a_larger_noisy_image_are_as_noisy_as_pixels_of_a_smaller_one(
    enlarged: int,
) -> None:
    image, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8 * enlarged, 8 * enlarged)
    time = torch.tensor([0.2, 0.7])
    larger = F.interpolate(image, scale_factor=enlarged)
    noisy = OBJECTIVE.noisy(larger, noise, time)
    seen, seen_time = as_if_smaller(noisy, time, enlarged)
    block_noise = F.avg_pool2d(noise, enlarged) * enlarged  # again of variance 1
    torch.testing.assert_close(
        F.avg_pool2d(seen, enlarged), OBJECTIVE.noisy(image, block_noise, seen_time)
    )
    assert as_if_smaller(noisy.bfloat16(), time, enlarged)[0].dtype == torch.bfloat16


def test_of_the_same_size_nothing_is_seen_as_smaller() -> None:
    noisy, time = torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.7])
    seen, seen_time = as_if_smaller(noisy, time, 1)
    assert torch.equal(seen, noisy)
    assert torch.equal(seen_time, time)


def test_a_sharpened_image_is_nearer_to_the_true_one_and_flat_areas_stay() -> None:
    torch.manual_seed(0)
    true = torch.full((8, 4, 16, 16), -1.0)
    true[..., 5:] = 1.0  # an edge
    drawn = F.interpolate(F.avg_pool2d(true, 2), scale_factor=2, mode="bilinear")
    flat = slice(10, 16)
    distance = (drawn - true).square().mean()
    gained = []
    for time in (0.0, 0.5, 0.8, 0.95, 1.0):
        times = torch.full((8,), time)
        noisy = OBJECTIVE.noisy(true, torch.randn(true.shape), times)
        sharp = sharpened(drawn, noisy, times)
        torch.testing.assert_close(sharp[..., flat], drawn[..., flat], atol=1e-3, rtol=0)
        gained.append(float(1 - (sharp - true).square().mean() / distance))
    assert gained[0] == 0  # there is nothing but noise
    assert gained == sorted(gained)
    assert gained[-2] > 0.5
    assert gained[-1] > 0.99


def test_a_network_of_another_size_knows_how_much_larger_its_images_are() -> None:
    before = {"image_size": 16, "patch_size": 2}
    assert enlargement(before, SMALL) == 0
    assert enlargement(before, LARGE) == 2
    assert enlargement({**before, "enlarged": 2.0}, SMALL) == 2
    assert enlargement({**before, "enlarged": 2.0}, LARGE) == 4
    assert enlargement({"image_size": 32, "patch_size": 4, "enlarged": 2.0}, SMALL) == 1
    assert enlargement(before, replace(LARGE, patch_size=2, layout_size=16)) == 0  # of another grid


def test_another_grid_is_left_alone() -> None:
    weights = random_network(SMALL).state_dict()
    coarse = replace(SMALL, patch_size=4, layout_size=8)
    kept = resized(weights, SMALL, coarse)
    assert torch.equal(kept["patch_embed.weight"], weights["patch_embed.weight"])


def test_layers_that_a_gan_has_not_are_not_missed() -> None:
    weights = random_network(SMALL).state_dict()
    del weights["patch_embed.weight"]
    kept = resized(weights, SMALL, LARGE)
    assert kept.keys() == weights.keys()
    assert kept["patch_out.bias"].shape == (64,)


def test_detail_and_polish_change_nothing_at_first() -> None:
    plain = random_network(SMALL)
    rich = FlowTransformer(replace(SMALL, detail_width=8, polish_channels=3)).requires_grad_(False)
    missing = rich.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.startswith(("detail.", "polish.")) for name in missing)
    given = torch.randn(1, 4, 16, 16), torch.tensor([0.5]), torch.randint(1, 300, (1, 4))
    assert torch.equal(rich(*given), plain(*given))


def test_a_new_tokenizers_embeddings_are_made_of_the_old_ones() -> None:
    before = PromptTokenizer.train(["red apple", "red car"], 270)
    after = PromptTokenizer.train(["red apple", "green apple", "apple"] * 9, 280)
    old = torch.randn(before.vocabulary, 4)
    new = respelled({EMBEDDING: old}, before, after)[EMBEDDING]
    assert new.shape == (after.vocabulary, 4)
    assert torch.equal(new[0], old[0])
    [apple] = after.tokens("apple")
    torch.testing.assert_close(new[apple], old[before.tokens("apple")].mean(0))
