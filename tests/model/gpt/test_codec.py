"""Images to codes and back: what a gpt draws can be no better than this."""

import pytest
import torch

from model.gpt.codec import Codec, Quantizer
from model.gpt.config import CodecConfig

SMALL = CodecConfig(
    image_size=16, patch_size=4, width=32, encoder_depth=1, decoder_depth=1, heads=2
)


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(0)
    codec = Codec(SMALL)
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return codec


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2,), (3, 4)])
def test_codes_and_levels_are_two_names_of_the_same(levels: tuple[int, ...]) -> None:
    quantizer = Quantizer(levels)
    codes = torch.arange(quantizer.values)
    assert torch.equal(quantizer.codes(quantizer.decode(codes)), codes)
    lowest, highest = torch.full((2, len(levels)), -9.0), torch.full((2, len(levels)), 9.0)
    assert quantizer.codes(quantizer(lowest)).tolist() == [0, 0]
    assert quantizer.codes(quantizer(highest)).tolist() == [quantizer.values - 1] * 2


def test_every_code_can_be_reached() -> None:
    """There is no codebook that could collapse: the levels lie where the numbers are."""
    quantizer = Quantizer((8, 5, 5, 5))
    torch.manual_seed(0)
    assert quantizer.codes(quantizer(torch.randn(50_000, 4))).unique().numel() == 1000


def test_the_gradient_passes_the_rounding() -> None:
    points = torch.zeros(1, 4, requires_grad=True)
    Quantizer((8, 5, 5, 5))(points).sum().backward()
    assert points.grad is not None
    assert (points.grad > 0.1).all()


def test_codes_do_not_depend_on_what_lies_below(codec: Codec) -> None:
    """Else the upper half would tell what was in the lower one, and completing would be copying."""
    whole = torch.rand(2, 4, 16, 16) * 2 - 1
    upper = whole.clone()
    upper[:, :, 8:] = -1
    codes = codec.encode(whole)
    assert torch.equal(codec.encode(upper)[:, :8], codes[:, :8])
    assert not torch.equal(codec.encode(upper)[:, 8:], codes[:, 8:])


def test_decoding_codes_is_what_training_sees(codec: Codec) -> None:
    picture = torch.rand(2, 4, 16, 16) * 2 - 1
    torch.testing.assert_close(codec.decode(codec.encode(picture)), codec(picture))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size 64 must be a multiple of patch_size 7"):
        CodecConfig(patch_size=7)
