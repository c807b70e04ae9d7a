"""If these fail, what people upload is refused, misread, or takes the service down."""

from __future__ import annotations

import base64
import struct
import time
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from model.image_files import colour
from model.image_files.decode import MOST_SCANS, READ, ImageFileError, decode
from tests.generation import corpus
from tests.generation.corpus import DISPLAY_P3, P3, SRGB, drawing, written

# As model.image_files.decode has it: pytest's own filter, under which warnings are errors,
# comes after that one.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MOST = 1_000_000
GOOD = corpus.good()


def values(file: bytes) -> NDArray[np.uint8]:
    image = decode(file, MOST)
    assert image.mode == "RGBA"
    return np.asarray(image)


def refused(file: bytes, most: int = MOST) -> tuple[str, str]:
    with pytest.raises(ImageFileError) as error:
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


def test_an_apng_is_its_still_image_where_that_is_no_frame() -> None:
    # PNG (third edition), 4.9: what is shown where nothing moves.
    moving = corpus.animation("PNG")
    still = written(Image.new("RGB", (24, 24), "yellow"), "PNG")
    at = still.index(b"IDAT") - 4
    frames = moving[moving.index(b"fcTL") - 4 : -12].replace(b"IDAT", b"fdAT", 1)
    control = moving[moving.index(b"acTL") - 4 : moving.index(b"acTL") + 16]
    file = still[:at] + control + still[at:-12] + frames + still[-12:]
    assert values(file)[12, 12].tolist() == [255, 255, 0, 255]


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
        (b"\0" * 100, "unsupported_image", "of a kind that is not known here"),
        (b"RIFF\0\0\0\0WAVEfmt ", "unsupported_image", "of a kind that is not known here"),
        (b"8BPS\0\1" + b"\0" * 64, "unsupported_image", "is a Photoshop file"),
        (b"PK\3\4" + b"\0" * 64, "unsupported_image", "is a ZIP archive"),
        (b"%PDF-1.7\n", "unsupported_image", "is a PDF"),
        (b"\0\0\1\0\1\0" + b"\0" * 64, "unsupported_image", "is an ICO picture"),
        (b"\xff\x0a" + b"\0" * 64, "unsupported_image", "is a JPEG XL picture"),
        (b"hello", "unsupported_image", f"is text, not a picture; {READ} are read"),
        ("苹果".encode() * 500, "unsupported_image", "is text, not a picture"),
        (base64.b64encode(GOOD["jpeg"]), "unsupported_image", "is base64 text, not the file"),
        (b"data:image/png;base64,iVBORw0K", "unsupported_image", "is base64 text, not the file"),
        (b"\xff" * 100, "unsupported_image", "of a kind that is not known here"),
        (b"<?xml version='1.0'?><svg></svg>", "unsupported_image", "is an SVG drawing"),
        (b"\0\0\0\x1cftypisom" + b"\0" * 64, "unsupported_image", "is a video"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 64, "broken_image", "damaged or cut short"),
        (written(drawing().convert("RGB"), "BMP"), "unsupported_image", "is a BMP picture"),
        (written(drawing(), "TIFF"), "unsupported_image", "is a TIFF picture"),
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


TEXT = zlib.compress(b"a" * 2**24, 9)


@pytest.mark.parametrize(
    "metadata",
    [
        corpus.chunk(b"zTXt", b"Comment\0\0" + TEXT),
        corpus.chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT),
        corpus.chunk(b"iCCP", b"scanner\0\0" + TEXT),
        corpus.chunk(b"tEXt", b"Comment\0" + b"a" * 2**21) * 3,
        corpus.chunk(b"prVt", b"a" * 2**21),
        b"\0\0\0\4tEXta\0bcXXXX",  # with a wrong checksum
    ],
)
def test_much_metadata_of_a_png_costs_nothing(metadata: bytes) -> None:
    tracemalloc.start()
    seen = values(corpus.with_chunks(GOOD["png rgba"], metadata))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seen == np.asarray(drawing())).all()
    assert peak < 4 * len(metadata) + 2 * colour.MOST_PROFILE + 2**20


def test_much_metadata_of_others_costs_no_time() -> None:
    # Pillow joins the comments of a GIF, and the Exif blocks of a JPEG, one by one.
    began = time.monotonic()
    gif = GOOD["gif"]
    at = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    comments = b"!\xfe" + (b"\xff" + b"a" * 255) * 2**15 + b"\0"
    assert (values(gif[:at] + comments + gif[at:]) == values(gif)).all()
    jpeg = corpus.with_segments(GOOD["jpeg"], *[(0xE1, b"Exif\0\0" + b"a" * 2000)] * 4000)
    assert (values(jpeg) == values(GOOD["jpeg"])).all()
    assert time.monotonic() - began < 3
    # What has a million parts is refused, rather than walked over for seconds.
    for file in (
        corpus.with_segments(GOOD["jpeg"], *[(0xE1, b"")] * 5000),
        corpus.with_chunks(GOOD["png rgba"], corpus.chunk(b"tEXt", b"") * 10**6),
        corpus.with_chunks(GOOD["png rgba"], corpus.chunk(b"IDAT", b"") * 10**6),
        gif[:at] + b"!\xfe" + b"\1a" * 10**6 + b"\0" + gif[at:],
        gif[:at] + b"!\xfe\1a\0" * 10**6 + gif[at:],
    ):
        began = time.monotonic()
        assert refused(file)[0] == "broken_image"
        assert time.monotonic() - began < 2


def test_scans_are_counted_as_a_decoder_meets_them() -> None:
    video = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8).tobytes() + b"\xff\xda" * 500
    preview = (0xE2, b"MPF\0" + b"\xff\xda" * 500)
    for name in ("jpeg", "jpeg progressive", "jpeg turned"):
        file = GOOD[name]
        for one in (file + video, corpus.with_segments(file, preview)):
            assert (values(one) == values(file)).all()
    bomb = corpus.scan_bomb(200)
    for one in (bomb + video, bomb[:-2], corpus.with_segments(bomb, preview)):
        assert refused(one) == ("image_too_large", f"has more than {MOST_SCANS} scans")
    filled = bomb.replace(b"\xff\xda", b"\xff\xff\xda")  # fill bytes before a marker
    assert refused(filled)[0] == "image_too_large"


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("own", [None, 1, 3])
def test_an_orientation_is_taken_from_exif_only(own: int | None) -> None:
    image = drawing(40, 24).convert("RGB")
    tags = corpus.exif(own) if own else Image.Exif()
    raw = corpus.exif(6).tobytes().hex()
    text = corpus.chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(raw)}\n{raw}".encode())
    )
    files = [
        written(image, "JPEG", xmp=XMP, exif=tags),
        written(image, "WEBP", xmp=XMP, exif=tags),
        corpus.with_chunks(
            written(image, "PNG", exif=tags),
            text,
            corpus.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        ),
        written(image, "GIF") + XMP,
    ]
    for file in files:
        assert decode(file, MOST).size == (40, 24)


def lcms(file: bytes) -> NDArray[np.int_]:
    """The judge: the whole picture by the library alone."""
    with Image.open(BytesIO(file)) as image:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        target = ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(image, profile, target, outputMode="RGB")
        assert found is not None
        return np.asarray(found).astype(int)


# Red and green change places.
SWAPPED = colour.matrix_profile((*SRGB[:2], *SRGB[4:6], *SRGB[2:4], *SRGB[6:]), (2.2,))


@pytest.mark.parametrize("profile", [DISPLAY_P3, SWAPPED])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_profile_is_converted_to_srgb(form: str, profile: bytes) -> None:
    image = drawing().convert("RGB")
    options = {"lossless": True} if form == "WEBP" else {"quality": 90}
    file = written(image, form, icc_profile=profile, **options)
    seen = decode(file, MOST)
    assert "icc_profile" not in seen.info
    assert np.abs(np.asarray(seen)[..., :3] - lcms(file)).max() <= 1
    plain = np.asarray(decode(written(image, form, **options), MOST)).astype(int)
    assert np.abs(np.asarray(seen) - plain).max() > 20


def test_one_transparent_pixel_changes_no_colour() -> None:
    opaque = Image.new("RGB", (8, 8), (220, 30, 40))
    clear = opaque.convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    palette = opaque.quantize(4)
    files = [written(one, "PNG", icc_profile=DISPLAY_P3) for one in (opaque, clear, palette)]
    colours = {tuple(values(file)[4, 4].tolist()) for file in files}
    assert len(colours) == 1
    assert colours != {(220, 30, 40, 255)}
    assert values(files[1])[0, 0, 3] == 0


def test_what_is_srgb_by_any_name_keeps_its_bits() -> None:
    image = corpus.noise(64, 64)
    own = colour.matrix_profile(SRGB, colour._SRGB_CURVE)
    library = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (own, library):
        assert (values(written(image, "PNG", icc_profile=profile)) == np.asarray(image)).all()
    plain = written(image, "PNG")
    for chunks in (
        [corpus.chunk(b"sRGB", b"\0"), corpus.chunk(b"gAMA", struct.pack(">I", 100_000))],
        [corpus.chunk(b"gAMA", struct.pack(">I", 45_455))],
        [corpus.chunk(b"cICP", bytes([1, 13, 0, 1]))],
        [corpus.chunk(b"cICP", bytes([9, 16, 0, 1]))],  # PQ: no profile can say it
        [corpus.chunk(b"gAMA", struct.pack(">I", 0))],
    ):
        assert (values(corpus.with_chunks(plain, *chunks)) == np.asarray(image)).all()


def test_a_profile_that_cannot_be_used_changes_nothing() -> None:
    image = drawing().convert("RGB")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"nonsense", DISPLAY_P3[:200], lab, DISPLAY_P3 + bytes(colour.MOST_PROFILE)):
        file = written(image, "PNG", icc_profile=profile)
        assert (values(file)[..., :3] == np.asarray(image)).all()


def test_grey_profiles_are_of_grey_pictures() -> None:
    bright = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256)  # linear
    tags = [(b"wtpt", DISPLAY_P3[-20:]), (b"kTRC", bright.ljust(16, b"\0"))]
    table, data = struct.pack(">I", 2), b""
    for name, content in tags:
        table += name + struct.pack(">II", 132 + 24 + len(data), len(content))
        data += content
    body = DISPLAY_P3[:16] + b"GRAY" + DISPLAY_P3[20:128] + table + data
    profile = struct.pack(">I", len(body)) + body[4:]
    for mode in ("L", "LA", "RGB"):
        file = written(
            Image.new("RGBA", (4, 4), (55, 55, 55)).convert(mode), "PNG", icc_profile=profile
        )
        red, green, blue, alpha = values(file)[0, 0].tolist()
        assert (red == green == blue, alpha) == (True, 255)
        assert red == 55 if mode == "RGB" else 120 < red < 136


@pytest.mark.parametrize(
    ("chunks", "white", "grey"),
    [
        ([corpus.chunk(b"gAMA", struct.pack(">I", 100_000))], 255, 188),  # linear
        ([corpus.chunk(b"cICP", bytes([1, 8, 0, 1]))], 255, 188),
        ([corpus.chunk(b"cICP", bytes([12, 13, 0, 1]))], 255, 128),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
def test_gamma_and_code_points_of_a_png_are_applied(
    chunks: list[bytes], white: int, grey: int, mode: str
) -> None:
    for value, expected in ((255, white), (128, grey)):
        plain = written(Image.new("RGBA", (4, 4), (value, value, value)).convert(mode), "PNG")
        seen = values(corpus.with_chunks(plain, *chunks))[0, 0].astype(int)
        assert np.abs(seen - (expected, expected, expected, 255)).max() <= 1


def test_primaries_of_a_png_are_applied() -> None:
    red = written(Image.new("RGB", (4, 4), (200, 40, 40)), "PNG")
    chrm = corpus.chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * x) for x in P3)))
    by_chunk, by_code, by_profile = (
        values(file)[0, 0].tolist()
        for file in (
            corpus.with_chunks(red, chrm),
            corpus.with_chunks(red, corpus.chunk(b"cICP", bytes([12, 13, 0, 1]))),
            written(Image.new("RGB", (4, 4), (200, 40, 40)), "PNG", icc_profile=DISPLAY_P3),
        )
    )
    assert by_chunk == by_code == by_profile
    assert by_chunk[0] > 205


@pytest.mark.parametrize(
    ("depth", "kind", "row", "key", "alpha"),
    [
        (1, 0, [0, 1], b"\0\1", [255, 0]),
        (1, 0, [0, 1], b"\0\0", [0, 255]),
        (2, 0, [0, 1, 2, 3], b"\0\2", [255, 255, 0, 255]),
        (4, 0, [0, 5, 14, 15], b"\0\x0e", [255, 255, 0, 255]),
        (8, 0, [0, 5, 15], b"\0\x0f", [255, 255, 0]),
        (8, 0, [0, 5, 15], b"\1\x0f", [255, 255, 0]),  # decoders look at the depth's bits only
        (16, 0, [5, 256, 261], b"\1\5", [255, 255, 0]),
        (8, 2, [1, 2, 3, 3, 2, 1], b"\0\1\0\2\0\3", [0, 255]),
        (16, 2, [256, 512, 768, 257, 512, 768], b"\1\0\2\0\3\0", [0, 255]),
        (1, 3, [0, 1], b"\xff\0", [255, 0]),
        (2, 3, [0, 1, 2, 3], b"\xff\0\x0a", [255, 0, 10, 255]),  # 10 is a line's end
        (4, 3, [0, 1, 15], b"\x80", [128, 255, 255]),
        (8, 3, [0, 1, 63], b"\xff" * 63 + b"\0", [255, 255, 0]),
        (8, 0, [0, 5], b"\0", [255, 255]),  # too short to mean anything
    ],
)
def test_one_transparent_colour_at_every_depth(
    depth: int, kind: int, row: list[int], key: bytes, alpha: list[int]
) -> None:
    file = corpus.keyed(depth, kind, row, key)
    assert values(file)[0, :, 3].tolist() == alpha
    opaque = file.replace(b"tRNS", b"tRNX")
    assert (values(file)[..., :3] == values(opaque)[..., :3]).all()


@pytest.mark.parametrize("transparency", [None, 3])
def test_around_the_first_frame_of_a_gif_is_nothing(transparency: int | None) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    file = written(drawing(20, 10).convert("RGB").quantize(8), "GIF", **options)
    plain = values(file)
    at = file.index(b",\0\0\0\0")
    placed = file[:6] + struct.pack("<HH", 60, 40) + file[10:at]
    placed += b"," + struct.pack("<HH", 30, 20) + file[at + 5 :]
    seen = values(placed)
    assert seen.shape == (40, 60, 4)
    assert (seen[20:30, 30:50] == plain).all()
    assert np.count_nonzero(seen[..., 3]) == np.count_nonzero(plain[..., 3])


def test_more_pixels_than_pillow_likes_are_a_matter_of_the_limit() -> None:
    file = written(Image.new("1", (9000, 10_000)), "PNG")
    assert refused(file, most=89_000_000)[1].endswith("at most 89000000 are accepted")
    assert decode(file, 95_000_000).size == (9000, 10_000)


def test_heic_is_read_where_there_is_a_decoder() -> None:
    heif = pytest.importorskip("pillow_heif")
    file = BytesIO()
    heif.from_pillow(drawing(40, 24).convert("RGB")).save(file, quality=95)
    seen = values(file.getvalue()).astype(int)
    assert np.abs(seen[..., :3] - np.asarray(drawing(40, 24).convert("RGB"))).mean() < 8


def test_heic_is_named_where_there_is_none() -> None:
    if "HEIC" in READ:
        pytest.skip("there is one")
    code, said = refused(b"\0\0\0\x1cftypheic" + b"\0" * 64)
    assert (code, "is a HEIC picture, for which a decoder" in said) == ("unsupported_image", True)


def test_mangled_files_are_pictures_or_refused(full: bool) -> None:
    read, reasons = 0, []
    for one in corpus.mangled(5000 if full else 600):
        try:
            read += decode(one.file, MOST).mode == "RGBA"
        except ImageFileError as error:
            reasons.append(str(error))
    assert read > 100, "some are read in spite of it"
    assert len(reasons) > 100, "most are not"
    assert all(reason.isprintable() for reason in reasons)
