"""If these fail, files lose their metadata, their edges, or their reproducibility."""

from dataclasses import replace
from io import BytesIO
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from app.generation.output import (
    ANIMATED,
    Detail,
    Format,
    Metadata,
    Output,
    encode,
    encode_animation,
)
from model.request import Picture
from tests.files import read_metadata

DETAILS: tuple[Detail, ...] = get_args(Detail)
METADATA = Metadata(prompt='红苹果 "red" apple 🍎', seed=2**53 - 1, model="tiny", numerics="a1b2")
PNG = Output(format="png", width=8, height=8, background="transparent", quality=90)


def half_red() -> Picture:
    """8 × 8: the left half opaque red, the right half clear with black hidden beneath."""
    row = bytes([255, 0, 0, 255] * 4 + [0, 0, 0, 0] * 4)
    return Picture(8, 8, 4, row * 8)


def opened(file: bytes) -> Image.Image:
    return Image.open(BytesIO(file))


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_a_file_says_how_it_was_made_and_is_the_same_each_time(form: Format) -> None:
    output = replace(PNG, format=form, background="ffffff")
    file = encode(half_red(), output, METADATA)
    assert read_metadata(file) == METADATA
    assert opened(file).format == form.upper()
    assert encode(half_red(), output, METADATA) == file


def test_only_what_was_drawn_is_compressed_in_haste() -> None:
    """Of a pattern, which a screenshot may have and no drawing has, that makes a large file."""
    tile = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    pattern = Picture(256, 256, 3, np.tile(tile, (16, 16, 1)).tobytes())
    output = replace(PNG, width=256, height=256)
    drawn, edited = (encode(pattern, output, METADATA, how) for how in (None, lambda image: image))
    assert opened(drawn).tobytes() == opened(edited).tobytes()
    assert len(edited) < len(drawn) / 10


XMP = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("generate", "trainedAlgorithmicMedia"),
        ("walk", "trainedAlgorithmicMedia"),
        ("inpaint", "compositeWithTrainedAlgorithmicMedia"),
        ("vary", "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_a_file_says_that_a_machine_made_it(form: Format, operation: str, kind: str) -> None:
    output = replace(PNG, format=form, background="ffffff")
    with opened(encode(half_red(), output, replace(METADATA, operation=operation))) as image:
        image.load()
        # Pillow's own reader of XMP needs a package; the standard library's does as well.
        packet = image.info["xmp"]
    tree = ElementTree.fromstring(packet.decode())  # noqa: S314 - our own
    (said,) = tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    source = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert said.get(source) == XMP + kind


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("frames", [1, 3])
def test_prompt_and_seed_can_be_left_out(form: Format, frames: int) -> None:
    if frames > 1 and form not in ANIMATED:
        return
    metadata = replace(METADATA, prompt="secret", seed=4711, model="anon", numerics="cafe")
    files = {}
    for detail in DETAILS:
        output = replace(PNG, format=form, background="ffffff", metadata=detail)
        if frames == 1:
            files[detail] = encode(half_red(), output, metadata)
        else:
            files[detail] = encode_animation([half_red()] * frames, output, metadata)
    assert read_metadata(files["full"]) == metadata
    for detail, marked in (("none", False), ("source", True), ("full", True)):
        file = files[detail]
        assert (b"trainedAlgorithmicMedia" in file, b"Tessera" in file) == (marked, marked)
        for part in (b"secret", b"4711", b"anon", b"cafe"):
            assert (part in file) == (detail == "full")


@pytest.mark.parametrize(("quality", "worst"), [(89, 255), (90, 60), (100, 6)])
def test_a_jpeg_of_high_quality_keeps_edges_between_colours(quality: int, worst: int) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2] = (255, 0, 0)
    pixels[:, 1::2] = (0, 255, 0)
    picture = Picture(16, 16, 3, pixels.tobytes())
    output = Output("jpeg", 16, 16, "ffffff", quality)
    seen = np.asarray(opened(encode(picture, output, METADATA)).convert("RGB")).astype(int)
    off = np.abs(seen - pixels).max()
    assert off <= worst
    assert quality >= 90 or off > 100


def test_png_keeps_every_bit() -> None:
    assert opened(encode(half_red(), PNG, METADATA)).tobytes() == half_red().pixels


def test_a_background_is_laid_beneath() -> None:
    image = opened(encode(half_red(), replace(PNG, background="0080ff"), METADATA))
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert image.getpixel((7, 7)) == (0, 128, 255)


def test_resampling_does_not_pull_hidden_colours_into_the_edge() -> None:
    # Without premultiplication the black beneath the clear half would darken the edge's red.
    image = opened(encode(half_red(), replace(PNG, width=32, height=32), METADATA))
    assert image.size == (32, 32)
    seen = [pixel for _, pixel in image.getcolors() or [] if isinstance(pixel, tuple) and pixel[3]]
    assert seen
    assert all(red > 250 and green == blue == 0 for red, green, blue, _ in seen)


def test_a_prompt_with_nul_is_still_a_valid_png() -> None:
    file = encode(half_red(), PNG, replace(METADATA, prompt="a\0b"))
    found = read_metadata(file)
    assert found is not None
    assert found.prompt == "a b"


def test_a_file_of_another_maker_has_no_caption() -> None:
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    assert read_metadata(file.getvalue()) is None


def test_grey_and_rgb_pictures_are_encoded_too() -> None:
    for channels in (1, 3):
        picture = Picture(2, 2, channels, bytes(4 * channels))
        file = encode(picture, replace(PNG, width=2, height=2, background="ffffff"), METADATA)
        assert opened(file).mode == "RGB"


@pytest.mark.parametrize("form", ANIMATED)
def test_an_animation_keeps_its_frames_and_says_how_it_was_made(form: Format) -> None:
    pictures = [Picture(2, 2, 3, bytes([shade, 0, 0] * 4)) for shade in (0, 100, 200)]
    output = Output(form, 2, 2, "ffffff", 90)
    walk = replace(METADATA, operation="walk")
    file = encode_animation(pictures, output, walk)
    assert read_metadata(file) == walk
    assert encode_animation(pictures, output, walk) == file
    with Image.open(BytesIO(file)) as image:
        assert (image.format, image.info["loop"]) == (form.upper(), 0)
        assert getattr(image, "n_frames", 1) == 3
        if form == "png":
            for number, picture in enumerate(pictures):
                image.seek(number)
                assert image.convert("RGB").tobytes() == picture.pixels


def test_a_jpeg_cannot_be_animated() -> None:
    output = Output("jpeg", 8, 8, "ffffff", 90)
    with pytest.raises(ValueError, match="cannot be animated"):
        encode_animation([half_red()] * 2, output, METADATA)
