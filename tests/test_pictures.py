"""If these fail, files lose their caption, their edges, or their reproducibility."""

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from app.pictures import Caption, Encoding, Format, encode, read_caption
from model.protocol import Picture

CAPTION = Caption(prompt='红苹果 "red" apple 🍎', seed=2**53 - 1, model="tiny", numerics="a1b2")
PNG = Encoding(format="png", width=8, height=8, background="transparent", quality=90)


def half_red() -> Picture:
    """8 × 8: the left half opaque red, the right half clear with black hidden beneath."""
    row = bytes([255, 0, 0, 255] * 4 + [0, 0, 0, 0] * 4)
    return Picture(8, 8, 4, row * 8)


def opened(file: bytes) -> Image.Image:
    return Image.open(BytesIO(file))


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_a_file_says_how_it_was_made_and_is_the_same_each_time(form: Format) -> None:
    encoding = replace(PNG, format=form, background="ffffff")
    file = encode(half_red(), encoding, CAPTION)
    assert read_caption(file) == CAPTION
    assert opened(file).format == form.upper()
    assert encode(half_red(), encoding, CAPTION) == file


def test_png_keeps_every_bit() -> None:
    assert opened(encode(half_red(), PNG, CAPTION)).tobytes() == half_red().pixels


def test_a_background_is_laid_beneath() -> None:
    image = opened(encode(half_red(), replace(PNG, background="0080ff"), CAPTION))
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert image.getpixel((7, 7)) == (0, 128, 255)


def test_resampling_does_not_pull_hidden_colours_into_the_edge() -> None:
    # Without premultiplication the black beneath the clear half would darken the edge's red.
    image = opened(encode(half_red(), replace(PNG, width=32, height=32), CAPTION))
    assert image.size == (32, 32)
    seen = [pixel for _, pixel in image.getcolors() or [] if isinstance(pixel, tuple) and pixel[3]]
    assert seen
    assert all(red > 250 and green == blue == 0 for red, green, blue, _ in seen)


def test_a_prompt_with_nul_is_still_a_valid_png() -> None:
    file = encode(half_red(), PNG, replace(CAPTION, prompt="a\0b"))
    found = read_caption(file)
    assert found is not None
    assert found.prompt == "a b"


def test_a_file_of_another_maker_has_no_caption() -> None:
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    assert read_caption(file.getvalue()) is None


def test_grey_and_rgb_pictures_are_encoded_too() -> None:
    for channels in (1, 3):
        picture = Picture(2, 2, channels, bytes(4 * channels))
        file = encode(picture, replace(PNG, width=2, height=2, background="ffffff"), CAPTION)
        assert opened(file).mode == "RGB"
