"""If these fail, what people upload is refused, misread, or takes the service down."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.generation.editing.decode import MOST_SCANS, UploadError, decode
from tests.generation import corpus
from tests.generation.corpus import drawing, written

# As app.generation.editing.decode has it: pytest's own filter, under which warnings are errors,
# comes after that one.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MOST = 1_000_000
GOOD = corpus.good()


def values(file: bytes) -> NDArray[np.uint8]:
    image = decode(file, MOST)
    assert image.mode == "RGBA"
    return np.asarray(image)


def refused(file: bytes, most: int = MOST) -> tuple[str, str]:
    with pytest.raises(UploadError) as error:
        decode(file, most)
    return error.value.code, str(error.value)


@pytest.mark.parametrize("name", GOOD)
def test_every_good_file_is_read(name: str) -> None:
    assert values(GOOD[name]).shape[2] == 4


@pytest.mark.parametrize("name", ["png rgba", "webp lossless", "png text"])
def test_what_has_lost_nothing_is_read_to_the_bit(name: str) -> None:
    seen, drawn = values(GOOD[name]), np.asarray(drawing())
    shown = drawn[..., 3] > 0  # WebP may change what is clear
    assert (seen[shown] == drawn[shown]).all()
    assert (seen[..., 3] == drawn[..., 3]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright(form: str, orientation: int) -> None:
    # Pillow's own idea of each orientation is the judge: it is applied backwards beforehand.
    upright = drawing(32, 16).convert("RGB")
    turned = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True}
    file = written(turned, form, exif=corpus.exif(orientation), **options)
    seen = values(file)[..., :3].astype(int)
    assert seen.shape == (16, 32, 3)
    assert np.abs(seen - np.asarray(upright)).mean() < 4


def test_mangled_exif_does_not_spoil_a_picture() -> None:
    file = written(drawing().convert("RGB"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" * 3)
    assert values(file).shape == (24, 40, 4)


def test_grey_of_16_bits_is_not_cut_off_at_255() -> None:
    row = [0, 256, 30000, 65535]
    seen = values(corpus.grey_16([row], clear=30000))[0]
    assert seen[:, 0].tolist() == [0, 1, 117, 255]
    assert seen[:, 3].tolist() == [255, 255, 0, 255]


def test_colours_of_16_bits_keep_their_high_bytes() -> None:
    assert values(corpus.rgb_16([[(0, 30000, 65535)]]))[0, 0].tolist() == [0, 117, 255, 255]


def test_cmyk_is_seen_as_its_colours() -> None:
    seen = values(written(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG"))
    assert np.abs(seen[8, 8].astype(int) - (250, 10, 10, 255)).max() < 12


@pytest.mark.parametrize("name", ["png palette clear", "png colour clear", "gif clear"])
def test_one_transparent_colour_is_clear(name: str) -> None:
    seen = values(GOOD[name])
    assert seen[20, 1, 3] == 0
    assert seen[12, 20, 3] == 255


def test_a_palette_with_alpha_keeps_it() -> None:
    alpha = values(GOOD["png palette alpha"])[..., 3]
    assert alpha[20, 1] < 10
    assert 100 < alpha[12, 37] < 160


@pytest.mark.parametrize("name", ["gif animated", "webp animated", "apng"])
def test_of_an_animation_the_first_frame_is_taken(name: str) -> None:
    red, green, blue, alpha = values(GOOD[name])[12, 12].tolist()
    assert (red > 240, green < 15, blue < 15, alpha) == (True, True, True, 255)


def test_a_gif_with_a_frame_larger_than_itself_is_measured_by_the_frame() -> None:
    file = bytearray(written(Image.new("P", (100, 100)), "GIF"))
    file[6:10] = b"\x01\0\x01\0"  # the screen is one pixel
    assert refused(bytes(file), most=5_000) == (
        "image_too_large",
        "has 100 x 100 pixels; at most 5000 are accepted",
    )


@pytest.mark.parametrize(
    ("file", "code", "says"),
    [
        (b"", "empty_image", "is empty"),
        (b"\0" * 100, "unsupported_image", "text, not a picture"),
        (b"hello", "unsupported_image", "is text, not a picture; PNG, JPEG, WebP and GIF are read"),
        (b"\xff" * 100, "unsupported_image", "of a kind that is not known here"),
        (b"<?xml version='1.0'?><svg></svg>", "unsupported_image", "is an SVG drawing"),
        (b"\0\0\0\x1cftypheic" + b"\0" * 64, "unsupported_image", "a HEIF or AVIF picture"),
        (written(drawing().convert("RGB"), "BMP"), "unsupported_image", "not known here"),
        (written(drawing(), "TIFF"), "unsupported_image", "not known here"),
        (GOOD["png rgba"][:60], "broken_image", "cannot be decoded"),
        (GOOD["jpeg"][:200], "broken_image", "cannot be decoded"),
        (GOOD["webp"][:60], "broken_image", "cannot be decoded"),
        (GOOD["gif"][:7], "broken_image", "cannot be decoded"),
        (GOOD["png rgba"][:8], "broken_image", "damaged or cut short"),
        (corpus.scan_bomb(200), "image_too_large", f"more than {MOST_SCANS} scans"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(file: bytes, code: str, says: str) -> None:
    found, message = refused(file)
    assert found == code
    assert says in message
    assert message.isprintable()


def test_a_jpeg_of_many_scans_is_refused_only_beyond_what_encoders_write() -> None:
    assert values(corpus.scan_bomb(50)).shape == (640, 640, 4)


@pytest.mark.parametrize("side", [1100, 10_000, 30_000])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(side: int) -> None:
    file = corpus.bomb(side)
    tracemalloc.start()
    code, message = refused(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code == "image_too_large"
    assert "at most 1000000 are accepted" in message
    assert peak < len(file) + 2**20


def test_a_side_longer_than_can_be_written_is_refused() -> None:
    code, message = refused(written(Image.new("1", (16_384, 2)), "PNG"))
    assert (code, message) == (
        "image_too_large",
        "has 16384 x 2 pixels; a side has at most 16383",
    )


def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused() -> None:
    packed = zlib.compress(b"a" * 2**24, 9)
    text = corpus.chunk(b"zTXt", b"Comment\0\0" + packed)
    file = GOOD["png rgba"]
    assert refused(file[:33] + text + file[33:])[0] == "broken_image"


def test_mangled_files_are_pictures_or_refused(full: bool) -> None:
    read, reasons = 0, []
    for one in corpus.mangled(5000 if full else 600):
        try:
            read += decode(one.file, MOST).mode == "RGBA"
        except UploadError as error:
            reasons.append(str(error))
    assert read > 100, "some are read in spite of it"
    assert len(reasons) > 100, "most are not"
    assert all(reason.isprintable() for reason in reasons)
