"""Pictures cut into square patches, and put together again."""

from __future__ import annotations

from torch import Tensor


def to_patches(picture: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] → [B, H·W / patch², C·patch²], row by row."""
    batch, channels, height, width = picture.shape
    x = picture.view(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def from_patches(patches: Tensor, patch: int, size: int) -> Tensor:
    """The inverse of `to_patches` for square pictures of ``size``: → [B, C, size, size]."""
    grid = size // patch
    x = patches.view(patches.shape[0], grid, grid, -1, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(patches.shape[0], -1, size, size)
