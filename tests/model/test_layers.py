"""Rotary positions and attention: what a silent mistake would spoil without any error."""

import pytest
import torch

from model.layers import Attention, rotary_table, rotate


def test_rotated_products_depend_on_the_distance_alone() -> None:
    """Else a pattern learned in one corner of an image would not hold in another."""
    positions = torch.tensor([[1.0, 2.0], [3.0, 5.0], [5.0, 4.0], [7.0, 7.0]])  # twice (+2, +3)
    query, key = torch.randn(2, 16)
    table = rotary_table(positions, 16)
    turned = [(rotate(query[None], table[:, i]), rotate(key[None], table[:, i])) for i in range(4)]
    near = turned[0][0] @ turned[1][1].T
    far = turned[2][0] @ turned[3][1].T
    torch.testing.assert_close(near, far)


def test_head_dim_must_divide_into_pairs_for_each_axis() -> None:
    with pytest.raises(ValueError, match="head_dim 6 must be a multiple of 4"):
        rotary_table(torch.zeros(1, 2), 6)


def test_attention_equals_torchs_own_without_rotation() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4)
    x = torch.randn(2, 5, 32)
    still = torch.stack((torch.ones(5, 8), torch.zeros(5, 8)))  # cos 1, sin 0
    query, key, value = attention.qkv(x).view(2, 5, 3, 4, 8).permute(2, 0, 3, 1, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(
        attention.query_norm(query), attention.key_norm(key), value
    )
    expected = attention.out(expected.transpose(1, 2).reshape(2, 5, 32))
    torch.testing.assert_close(attention(x, still), expected)
