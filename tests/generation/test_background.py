"""What is cut out, and what is left alone."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from app.generation.editing.prepare import cut_out


def thing(background: str) -> Image.Image:
    """A red ring, in which the background shows again."""
    image = Image.new("RGBA", (32, 32), background)
    ImageDraw.Draw(image).ellipse((6, 6, 25, 25), fill="red")
    ImageDraw.Draw(image).ellipse((12, 12, 19, 19), fill=background)
    return image


def test_a_flat_background_goes_and_what_lies_within_the_thing_stays() -> None:
    for background in ("#ffffff", "#20304a"):
        alpha = np.asarray(cut_out(thing(background)).getchannel("A"))
        assert alpha[0, 0] == alpha[31, 31] == alpha[4, 16] == 0
        assert alpha[8, 16] == alpha[15, 15] == 255


def test_a_background_that_is_nearly_flat_goes_too() -> None:
    image = thing("#ffffff")
    for place in ((0, 0), (5, 0), (31, 31), (2, 20)):
        image.putpixel(place, (250, 252, 251, 255))
    assert cut_out(image).getchannel("A").histogram()[0] > 600


def test_what_is_not_a_thing_on_a_flat_background_is_as_it_was() -> None:
    clear = thing("#ffffff")
    clear.putpixel((16, 0), (255, 255, 255, 0))
    corner = thing("#ffffff")
    corner.putpixel((31, 31), (0, 90, 0, 255))
    flat = Image.new("RGBA", (32, 32), "red")
    for image in (clear, corner, flat):
        assert cut_out(image).tobytes() == image.tobytes()
