"""Things on a flat background, cut out as they are in pictures with transparency."""

from __future__ import annotations

from PIL import Image, ImageDraw

from app.uploads.masks import is_opaque

NEAR = 24
"""How far a colour may be from the background's: the sum over red, green and blue, 0…765."""


def cut_out(image: Image.Image) -> Image.Image:
    """An RGBA picture without what its border shows, where that is one flat colour.

    Background is what is joined to a corner and near in colour to it. A picture that has
    transparent pixels already, or corners of several colours, or nothing but background, is as it
    was.
    """
    right, bottom = image.width - 1, image.height - 1
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    colours = [_colour(image, corner) for corner in corners]
    if not is_opaque(image) or any(_distance(colours[0], one) > NEAR for one in colours):
        return image
    result = image.copy()
    for corner in corners:
        if _colour(result, corner)[3]:
            ImageDraw.floodfill(result, corner, (0, 0, 0, 0), thresh=NEAR)
    return result if result.getchannel("A").getbbox() else image


def _colour(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    colour = image.getpixel(place)
    assert isinstance(colour, tuple)
    return colour


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
