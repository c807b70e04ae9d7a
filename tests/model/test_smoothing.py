"""What the smoothing of images takes away, and what it leaves."""

import torch
import torch.nn.functional as F

from model.runtime.smoothing import around, moments, without_grain


def test_the_mean_around_a_pixel_is_poolings() -> None:
    image = torch.randn(2, 3, 7, 9)
    expected = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    (mean,) = around(image)
    torch.testing.assert_close(mean, expected)
    squares = F.avg_pool2d(image.square(), 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(moments(image)[1], squares - expected.square())


def test_grain_goes_and_edges_stay() -> None:
    """Of noise of a thirtieth of an edge's height less than half is left, and of the edge all."""
    clean = torch.full((4, 32, 32), -0.8)
    clean[..., 16:] = 0.8
    torch.manual_seed(0)
    noisy = clean + 0.05 * torch.randn_like(clean)
    smooth = without_grain(noisy, 0.01)
    assert (smooth - clean).square().mean() < (noisy - clean).square().mean() / 4
    height = (smooth[..., 16] - smooth[..., 15]).mean()
    torch.testing.assert_close(height, torch.tensor(1.6), rtol=0.02, atol=0)


def test_an_even_image_stays_itself() -> None:
    even = torch.full((4, 8, 8), 0.25)
    torch.testing.assert_close(without_grain(even, 0.01), even)
