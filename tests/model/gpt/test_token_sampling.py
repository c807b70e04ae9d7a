"""How a token is drawn. If these fail, sampling settings do not mean what they say."""

import pytest
import torch
from torch import Tensor

from model.gpt.passes import sample

LOGITS = torch.tensor([2.0, -1.0, 1.0, 0.0, -3.0])


def drawn(
    count: int = 20_000, temperature: float = 1.0, top_k: int = 5, top_p: float = 1.0
) -> Tensor:
    """The share of each token among ``count`` draws."""
    torch.manual_seed(0)
    tokens = sample(
        LOGITS.expand(count, -1),
        torch.full((count,), temperature),
        torch.full((count,), top_k),
        torch.full((count,), top_p),
        torch.rand(count, dtype=torch.float64),
    )
    return torch.bincount(tokens, minlength=5) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_probable(temperature: float) -> None:
    # 20,000 draws: four deviations of a share are at most 0.014.
    expected = (LOGITS / temperature).softmax(0)
    torch.testing.assert_close(drawn(temperature=temperature), expected, atol=0.015, rtol=0)


def test_top_k_leaves_the_likeliest_in_their_proportions() -> None:
    expected = LOGITS.softmax(0) * torch.tensor([1, 0, 1, 0, 0])
    torch.testing.assert_close(drawn(top_k=2), expected / expected.sum(), atol=0.015, rtol=0)
    assert drawn(top_k=1).tolist() == [1, 0, 0, 0, 0]


def test_top_p_leaves_the_fewest_that_reach_it() -> None:
    # Sorted: 0.644, 0.237, 0.087, 0.032, 0.004: 0.85 needs two of them, 0.95 three.
    assert (drawn(top_p=0.85) > 0).tolist() == [True, False, True, False, False]
    assert (drawn(top_p=0.95) > 0).tolist() == [True, False, True, True, False]
    assert (drawn(top_p=0.0) > 0).tolist() == [True, False, False, False, False]


def test_a_rows_token_is_its_own_whatever_stands_beside_it() -> None:
    torch.manual_seed(1)
    logits = torch.randn(64, 1000) * 4
    temperature, top_p = torch.rand(64) + 0.2, torch.rand(64)
    top_k, uniform = torch.randint(1, 1000, (64,)), torch.rand(64, dtype=torch.float64)
    together = sample(logits, temperature, top_k, top_p, uniform)
    one = slice(17, 18)
    alone = sample(logits[one], temperature[one], top_k[one], top_p[one], uniform[one])
    assert together[17] == alone[0]
    order = torch.randperm(64)
    turned = sample(logits[order], temperature[order], top_k[order], top_p[order], uniform[order])
    assert torch.equal(turned, together[order])


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_range_are_tokens_too(uniform: float) -> None:
    numbers = torch.full((1,), uniform, dtype=torch.float64)
    token = sample(LOGITS[None], torch.ones(1), torch.tensor([5]), torch.ones(1), numbers)
    assert token.item() == (0 if uniform == 0 else 4)
