"""Which images a pipeline draws, from its entry and its VAE's configuration. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.checkpoint import CheckpointError
from model.pipelines.catalogue import Area, Configs
from model.sizes import Sizes

SHORTEST = 0.25
"""The shortest side that is drawn, as a multiple of the native one."""


def scale_of(vae: Mapping[str, Any]) -> int:
    """Pixels along a side for each latent pixel. Raises `CheckpointError`."""
    for name in ("scale_factor_spatial", "spatial_compression_ratio"):
        if isinstance(ratio := vae.get(name), int):
            return ratio
    for name, without in (
        ("temperal_downsample", 0),  # spelt so; one for each halving, in space as well
        ("encoder_block_out_channels", 1),
        ("block_out_channels", 1),
        ("ch_mult", 1),
    ):
        if isinstance(blocks := vae.get(name), list) and len(blocks) > without - 1:
            return int(2 ** (len(blocks) - without))
    raise CheckpointError(f"{vae.get('_class_name', 'the VAE')} does not say what it scales by")


def sizes_of(area: Area, configs: Configs, scale: int) -> Sizes:
    """The sizes of an entry's area. Raises `CheckpointError`."""
    width, height = (side * scale for side in _native(area, configs))
    multiple = area.patch * scale
    if area.fixed:
        others = tuple((wide * scale, high * scale) for wide, high in area.others)
        return Sizes(width, height, others)
    if width % multiple or height % multiple:
        message = f"the native size, {width}x{height}, is no multiple of {multiple}"
        raise CheckpointError(message)
    shorter, longer = sorted((width, height))
    pixels = int(area.budget * width * height)
    low = max(1, round(SHORTEST * shorter / multiple)) * multiple
    high = int(min(area.longest * longer, pixels / low) / multiple) * multiple
    return Sizes(width, height, multiple=multiple, low=low, high=high, pixels=pixels)


def _native(area: Area, configs: Configs) -> tuple[int, int]:
    """Width and height in latent pixels; configurations have one number, or height and width."""
    value: object = area.side
    if isinstance(area.side, str):
        component, _, name = area.side.partition(".")
        value = configs.get(component, {}).get(name, area.otherwise)
    match value:
        case int() if value > 0:
            return value, value
        case [int(height), int(width)] if min(height, width) > 0:
            return width, height
    raise CheckpointError(f"{area.side} is {value!r}, not the side of an image")
