"""If these fail, a model sees another picture than was uploaded, or an edit moves what it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.generation.editing.fit import Canvas, Size, Target, fit, framed, mean, reduced, scaled
from app.generation.editing.operations import EditRequest
from app.generation.editing.prepare import enlarged, referred, retouched, whole
from app.generation.editing.retouch import Margins, Retouch, fit_mask, marked
from model.image_files.decode import ImageFileError
from model.request import InvalidField, Picture
from model.sizes import Sizes
from tests.generation import corpus
from tests.generation.corpus import drawing, noise, written

SIDE = 16
MOST = 1_000_000
CANVAS = Canvas(SIDE, SIDE, 4)
TARGET = Target(Sizes(SIDE, SIDE), 4)
FLEXIBLE = Sizes(64, 64, multiple=16, low=32, high=128, pixels=128 * 64)
SIZES = st.integers(1, 90)


def array(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.frombuffer(picture.pixels, np.uint8)
    return pixels.reshape(picture.height, picture.width, picture.channels)


@given(SIZES, SIZES, st.integers(1, 90))
def test_an_aspect_is_kept_as_nearly_as_pixels_allow(width: int, height: int, longer: int) -> None:
    new = scaled((width, height), longer)
    assert max(new) == longer
    assert min(new) >= 1
    exact = min(width, height) * longer / max(width, height)
    assert abs(min(new) - exact) <= max(0.5, 1 - exact)


@settings(max_examples=50)
@given(SIZES, SIZES)
def test_what_was_fitted_is_cut_out_again(width: int, height: int) -> None:
    image = noise(width, height)
    place = fit(image, CANVAS.size)
    picture = framed(image, place, 4)
    cut = place.cut(Image.fromarray(array(picture)))
    assert cut.size == place.inner
    if not place.resampled:
        assert cut.tobytes() == image.tobytes()


@settings(max_examples=50)
@given(SIZES, SIZES, st.sampled_from([1, 2, 3, 5, 64]))
def test_a_smaller_preview_has_the_same_frame(width: int, height: int, side: int) -> None:
    place = fit(Image.new("1", (width, height)), CANVAS.size)
    cut = place.cut(Image.new("RGB", (side, side)))
    for length, inner in zip(cut.size, place.inner, strict=True):
        assert 0 <= length - inner * side / SIDE < 2


def test_a_model_of_opaque_pictures_sees_white_where_nothing_is() -> None:
    image = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
    assert (array(framed(image, fit(image, CANVAS.size), 3)) == 255).all()


def test_hidden_colours_do_not_bleed_into_what_the_model_sees() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (255, 0, 0, 255)
    pixels[:, 32:] = (0, 255, 0, 0)
    image = Image.fromarray(pixels)
    seen = array(framed(image, fit(image, CANVAS.size), 4))
    assert (seen[..., 1][seen[..., 3] > 0] == 0).all()


@settings(max_examples=50)
@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_no_marked_pixel_is_lost(width: int, height: int, seed: int) -> None:
    mask = np.zeros((height, width), np.bool_)
    draw = np.random.default_rng(seed)
    row, column = int(draw.integers(height)), int(draw.integers(width))
    mask[row, column] = True
    place = fit(Image.new("1", (width, height)), CANVAS.size)
    regenerated = np.frombuffer(fit_mask(mask, place), np.uint8).reshape(SIDE, SIDE)
    left, top, *_ = place.box
    y = top + (2 * row + 1) * place.inner[1] // (2 * height)
    x = left + (2 * column + 1) * place.inner[0] // (2 * width)
    assert regenerated[y, x] == 255
    assert set(np.unique(regenerated)) <= {0, 255}


def test_a_mask_of_the_model_s_size_reaches_it_as_it_is() -> None:
    mask = np.random.default_rng(0).random((SIDE, SIDE)) > 0.5
    place = fit(Image.new("1", (SIDE, SIDE)), CANVAS.size)
    assert fit_mask(mask, place) == (mask * np.uint8(255)).tobytes()


def test_what_surrounds_the_frame_is_kept() -> None:
    place = fit(Image.new("1", (32, 8)), CANVAS.size)
    regenerated = np.frombuffer(fit_mask(np.ones((8, 32), np.bool_), place), np.uint8).reshape(
        SIDE, SIDE
    )
    assert (regenerated[6:10] == 255).all()
    assert (regenerated[:6] == 0).all()
    assert (regenerated[10:] == 0).all()


@pytest.mark.parametrize(
    ("pixel", "by_any", "by_alpha"),
    [
        ((0, 0, 0, 255), False, False),
        ((255, 255, 255, 255), True, False),
        ((255, 255, 255, 128), True, False),
        ((0, 0, 0, 128), False, False),
        ((255, 255, 255, 127), True, True),
        ((0, 0, 0, 127), True, True),
        ((0, 0, 0, 0), True, True),
    ],
)
def test_what_marks(pixel: tuple[int, ...], by_any: bool, by_alpha: bool) -> None:
    mask = Image.new("RGBA", (2, 2), pixel)
    assert marked(mask, "any").all() == by_any
    assert marked(mask, "alpha").all() == by_alpha


Colour = tuple[int, int, int, int]
CLEAR, WHITE, BLACK, GREEN = (
    (0, 0, 0, 0),
    (255, 255, 255, 255),
    (0, 0, 0, 255),
    (0, 200, 0, 255),
)


def framed_box(around: Colour, within: Colour, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("RGBA", (12, 8), around)
    mask.paste(within, box)
    return mask


MIDDLE, TOUCHING, RIGHT_PART = (3, 2, 7, 5), (0, 2, 5, 8), (9, 0, 12, 8)


@pytest.mark.parametrize("box", [MIDDLE, TOUCHING])
@pytest.mark.parametrize(
    ("around", "within", "painted"),
    [
        # Strokes on an empty canvas, with soft edges, as editors in browsers export them.
        (CLEAR, WHITE, True),
        ((255, 255, 255, 0), WHITE, True),
        (CLEAR, (255, 255, 255, 200), True),
        # A hole in a picture, or what covers it, is what is transparent.
        (GREEN, CLEAR, True),
        (GREEN, (255, 255, 255, 90), True),
        (CLEAR, GREEN, False),
        (CLEAR, BLACK, False),
        (BLACK, CLEAR, True),
    ],
)
def test_white_marks_where_nothing_else_is_to_be_seen(
    box: tuple[int, int, int, int], around: Colour, within: Colour, painted: bool
) -> None:
    mask = framed_box(around, within, box)
    inside = np.asarray(framed_box(CLEAR, WHITE, box))[..., 3] == 255
    assert (marked(mask, "any") == (inside == painted)).all()
    assert (marked(mask, "alpha") == (np.asarray(mask)[..., 3] < 128)).all()


def test_a_hole_in_a_white_sheet_is_marked() -> None:
    mask = framed_box(WHITE, CLEAR, MIDDLE)
    assert (marked(mask, "any") == (np.asarray(mask)[..., 3] == 0)).all()
    photograph = framed_box(GREEN, CLEAR, MIDDLE)
    photograph.paste(WHITE, (8, 2, 9, 3))
    assert (marked(photograph, "any") == (np.asarray(photograph)[..., 3] == 0)).all()


def test_a_mask_that_may_mean_either_is_refused() -> None:
    both = framed_box(CLEAR, WHITE, MIDDLE)
    both.paste(BLACK, (8, 2, 9, 3))
    half = framed_box(WHITE, CLEAR, RIGHT_PART)
    for mask, what in ((both, "transparent, black and white"), (half, "white and transparent")):
        assert (marked(mask, "alpha") == (np.asarray(mask)[..., 3] == 0)).all()
        with pytest.raises(ImageFileError, match=f"^is {what}, which may mean either") as refusal:
            marked(mask, "any")
        assert (refusal.value.field, refusal.value.code) == ("mask", "ambiguous_mask")


def test_a_mean_counts_colours_by_their_alpha() -> None:
    one, other = (
        framed(image, fit(image, CANVAS.size), 4)
        for image in (
            Image.new("RGBA", (1, 1), (200, 0, 0, 255)),
            Image.new("RGBA", (1, 1), (0, 100, 0, 0)),
        )
    )
    assert array(mean((one, other)))[0, 0].tolist() == [200, 0, 0, 128]
    assert mean((one,)) is one


def test_several_pictures_start_from_their_mean_in_the_frame_of_the_first() -> None:
    files = [written(noise(SIDE, SIDE, seed), "PNG") for seed in (1, 2)]
    one, other, both = (
        whole(given, TARGET, MOST).source.picture for given in (files[:1], files[1:], files)
    )
    assert both == mean((one, other))
    wide = whole([written(noise(32, 8), "PNG"), files[0]], TARGET, MOST)
    assert wide.size == (16, 4)


def test_other_pictures_count_only_where_a_picture_is_regenerated() -> None:
    image, other = (noise(SIDE, SIDE, seed) for seed in (1, 2))
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (2, 2, 6, 6))
    retouch = Retouch(written(image, "PNG"), written(mask, "PNG"), "any", None, MOST)
    lone = retouched(retouch, (), TARGET)
    blended = retouched(retouch, (written(other, "PNG"),), TARGET)
    assert lone.source.picture.pixels == image.tobytes()
    changed = (array(blended.source.picture) != array(lone.source.picture)).any(axis=2)
    assert changed[2:6, 2:6].all()
    assert changed.sum() == 16


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, st.integers(0, 150), st.integers(0, 150), st.integers(0, 150))
def test_margins_move_no_pixel(width: int, height: int, left: int, top: int, right: int) -> None:
    image = noise(width, height)
    margins = Margins(left, top, right, 100)
    retouch = Retouch(written(image, "PNG", compress_level=1), None, "any", margins, MOST)
    prepared = retouched(retouch, (), TARGET)
    made = prepared.frame(noise(SIDE, SIDE, 9))
    assert made.size == prepared.size
    x, y = width * left // 100, height * top // 100
    assert made.crop((x, y, x + width, y + height)).tobytes() == image.tobytes()


def test_margins_that_add_nothing_are_at_fault_themselves() -> None:
    cases: list[tuple[tuple[int, int], dict[str, Any], str]] = [
        ((30, 20), {"left": 0, "top": 0}, "left"),
        ((30, 20), {"bottom": 0}, "bottom"),
        ((1, 1), {"right": 50}, "right"),
        ((1, 1), {}, "left"),
    ]
    for size, margins, named in cases:
        image = written(noise(*size), "PNG")
        edit = EditRequest(operation="outpaint", images=(image,), **margins)
        with pytest.raises(
            InvalidField, match=r"^no margin adds a pixel to a picture of"
        ) as refusal:
            edit.prepare(TARGET, MOST)
        assert (refusal.value.field, refusal.value.code) == (named, "no_margin")


def test_a_picture_that_is_too_large_with_its_margins_is_told_so() -> None:
    edit = EditRequest(operation="outpaint", images=(written(noise(40, 30), "PNG"),))
    with pytest.raises(ImageFileError) as refusal:
        edit.prepare(TARGET, 40 * 30)
    assert str(refusal.value) == (
        "would have 60 x 44 pixels; at most 1200 are accepted; this is with its margins, which "
        "could be smaller, as could the picture"
    )


def sky(width: int = 90, height: int = 60) -> Image.Image:
    """An opaque picture that is bluer from row to row."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 2] = np.linspace(100, 250, height)[:, None]
    pixels[..., 3] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("alpha", [0, 128])
@pytest.mark.parametrize("how", ["mask", "own alpha", "margins"])
def test_an_opaque_picture_stays_opaque_where_the_model_draws_nothing(how: str, alpha: int) -> None:
    image, box = sky(), (30, 20, 60, 40)
    mask, margins = None, None
    if how == "mask":
        marks = Image.new("L", image.size, 0)
        marks.paste(255, box)
        mask = written(marks, "PNG")
    elif how == "own alpha":
        image.paste((0, 0, 0, 0), box)
    else:
        margins = Margins(50, 0, 0, 0)
    retouch = Retouch(written(image, "PNG"), mask, "any", margins, MOST)
    prepared = retouched(retouch, (), TARGET)
    after = np.asarray(prepared.frame(Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, alpha))))
    assert prepared.opaque
    assert (after[..., 3] == 255).all()
    new = after[20:40, 30:60] if how != "margins" else after[:, :45]
    assert np.abs(new[..., 0].astype(int) - alpha).max() <= 1, "as much of it as was drawn"
    assert new[..., 1].max() == 0, "and beneath it no white"
    # What lies around goes on there.
    rows = np.arange(new.shape[0]) + (20 if how != "margins" else 0)
    around = np.asarray(sky())[rows, 0, 2].astype(int)
    seen = new[..., 2].mean(1) * 255 / (255 - alpha)
    assert np.abs(seen - around).max() < 60  # far away it is the mean of all


def test_what_can_be_seen_through_stays_so() -> None:
    image = drawing(40, 24)
    mask = written(corpus.box_mask(40, 24, (12, 6, 20, 12)), "PNG")
    prepared = retouched(Retouch(written(image, "PNG"), mask, "any", None, MOST), (), TARGET)
    after = prepared.frame(Image.new("RGBA", (SIDE, SIDE)))
    assert not prepared.opaque
    assert after.getpixel((16, 9)) == (0, 0, 0, 0)
    whole = Image.new("L", (90, 60), 255)  # of which nothing is kept
    retouch = Retouch(written(sky(), "PNG"), written(whole, "PNG"), "any", None, MOST)
    laid = retouched(retouch, (), TARGET).frame(Image.new("RGBA", (SIDE, SIDE)))
    assert laid.getcolors() == [(90 * 60, (255, 255, 255, 255))]


def test_previews_of_a_large_picture_are_small() -> None:
    image = noise(1200, 600)
    mask = corpus.box_mask(1200, 600, (600, 0, 1199, 599))
    retouch = Retouch(written(image, "PNG"), written(mask, "PNG"), "any", None, MOST)
    prepared = retouched(retouch, (), TARGET)
    assert prepared.preview is not None
    for shade in (10, 200):
        made = Image.new("RGBA", (SIDE, SIDE), (shade, 0, 0, 255))
        seen = prepared.preview(made)
        assert seen.size == (512, 256)
        assert seen.getpixel((400, 100)) == (shade, 0, 0, 255)
        assert seen.getpixel((10, 10)) != (shade, 0, 0, 255)
    small = Retouch(written(noise(60, 60), "PNG"), None, "any", Margins(50), MOST)
    assert retouched(small, (), TARGET).preview is None


def test_upscaling_resamples_nothing() -> None:
    image = drawing(8, 5)
    prepared = enlarged(written(image, "PNG"), TARGET, MOST, factor=2)
    assert prepared.size == (16, 10)
    seen = array(prepared.source.picture)
    assert seen.shape == (8, 8, 4)
    assert seen[1:6].tobytes() == image.tobytes()
    assert prepared.frame(noise(SIDE, SIDE)).size == (16, 10)


@pytest.mark.parametrize(
    ("upload", "factor", "drawn"),
    [
        ((8, 8), 2, (16, 16)),  # the native size is enough
        ((9, 2), 2, (18, 16)),  # larger along one side, and nothing around it along the other
        ((5, 30), 4, (20, 120)),
        ((50, 50), 2, (100, 100)),
    ],
)
def test_a_larger_upload_is_drawn_larger(upload: Size, factor: int, drawn: Size) -> None:
    image = noise(*upload)
    target = Target(Sizes(SIDE, SIDE, upscaled=120), 4)
    prepared = enlarged(written(image, "PNG"), target, MOST, factor=factor)
    assert prepared.drawn == drawn
    picture = prepared.source.picture
    assert (picture.width * factor, picture.height * factor) == drawn
    left, top, right, bottom = prepared.fit.box
    assert array(picture)[top:bottom, left:right].tobytes() == image.tobytes()
    assert array(picture)[..., 3].sum() == np.asarray(image)[..., 3].sum()
    large = prepared.frame(noise(*drawn))
    assert large.size == prepared.size == (upload[0] * factor, upload[1] * factor)


@pytest.mark.parametrize("upload", [(61, 1), (1, 61)])
def test_a_result_that_would_be_too_large_is_refused(upload: Size) -> None:
    target = Target(Sizes(SIDE, SIDE, upscaled=120), 4)
    with pytest.raises(ImageFileError, match="at most 60 x 60 by 2 and 30 x 30 by 4") as caught:
        enlarged(written(noise(*upload), "PNG"), target, MOST, factor=2)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize(
    ("upload", "canvas", "inner"),
    [
        ((64, 64), (64, 64), (64, 64)),
        ((300, 300), (64, 64), (64, 64)),
        ((300, 150), (96, 48), (96, 48)),
        ((150, 300), (48, 96), (48, 96)),
        ((300, 148), (96, 48), (96, 48)),  # stretched by a pixel rather than laid on white
        ((300, 140), (96, 48), (96, 45)),  # not by so many
    ],
)
def test_of_many_canvases_the_one_with_the_upload_s_aspect_is_taken(
    upload: tuple[int, int], canvas: tuple[int, int], inner: tuple[int, int]
) -> None:
    prepared = whole([written(noise(*upload), "PNG")], Target(FLEXIBLE, 3), MOST)
    picture = prepared.source.picture
    assert (picture.width, picture.height, picture.channels) == (*canvas, 3)
    assert prepared.drawn == canvas
    assert prepared.size == prepared.fit.inner == inner
    made = Image.fromarray(array(picture))
    assert prepared.frame(made).size == inner


def test_a_repaint_has_the_size_of_its_upload_whatever_is_drawn() -> None:
    image, mask = noise(310, 150), Image.new("L", (310, 150), 0)
    mask.paste(255, (200, 20, 280, 120))
    retouch = Retouch(written(image, "PNG"), written(mask, "PNG"), "any", None, MOST)
    prepared = retouched(retouch, (), Target(FLEXIBLE, 3))
    assert (prepared.drawn, prepared.size) == ((96, 48), (310, 150))
    assert len(prepared.source.mask or b"") == 96 * 48
    made = np.asarray(prepared.frame(noise(96, 48, 9)))
    kept = np.asarray(mask) == 0
    assert (made[kept] == np.asarray(image)[kept]).all()
    assert (made[~kept] != np.asarray(image)[~kept]).any()
    # Margins make a picture of another aspect, and that is what is drawn.
    wide = Retouch(written(noise(60, 60), "PNG"), None, "any", Margins(50, 0, 50, 0), MOST)
    assert retouched(wide, (), Target(FLEXIBLE, 3)).drawn == (96, 48)


def test_a_size_that_was_asked_for_is_drawn_whatever_was_uploaded() -> None:
    target = Target(FLEXIBLE, 3, asked=(128, 64))
    assert whole([written(noise(64, 32), "PNG")], target, MOST).size == (128, 64)
    narrow = whole([written(noise(32, 64), "PNG")], target, MOST)
    assert (narrow.drawn, narrow.size) == ((128, 64), (32, 64))


def test_an_aspect_that_is_not_drawn_is_refused() -> None:
    with pytest.raises(ImageFileError) as refused:
        whole([written(noise(90, 20), "PNG")], Target(FLEXIBLE, 3), MOST)
    assert (refused.value.field, refused.value.code) == ("image", "image_aspect")
    assert str(refused.value).startswith("has 90 x 20 pixels; at most 4 times as long as wide can")
    # A model of few sizes lays it on its canvas, on that which is nearest.
    assert whole([written(noise(90, 20), "PNG")], TARGET, MOST).size == (16, 4)
    listed = Target(Sizes(16, 16, others=((24, 8), (8, 24))), 4)
    for upload, canvas, size in (
        ((90, 20), (24, 8), (24, 5)),
        ((60, 20), (24, 8), (24, 8)),
        ((20, 60), (8, 24), (8, 24)),
    ):
        prepared = whole([written(noise(*upload), "PNG")], listed, MOST)
        assert (prepared.drawn, prepared.size) == (canvas, size)


def test_pictures_that_are_referred_to_are_as_they_were_uploaded() -> None:
    first, second = noise(60, 30), noise(7, 90, 1)
    files = [written(image, "PNG") for image in (first, second)]
    prepared = referred(files, Target(FLEXIBLE, 4), MOST)
    pictures = (prepared.source.picture, *prepared.source.others)
    assert [(one.width, one.height) for one in pictures] == [(60, 30), (7, 90)]
    assert [one.pixels for one in pictures] == [first.tobytes(), second.tobytes()]
    assert prepared.source.mask is None
    assert (prepared.drawn, prepared.size) == ((96, 48), (96, 48))
    assert not prepared.fit.resampled
    made = noise(96, 48, 9)
    assert prepared.frame(made).tobytes() == made.tobytes()
    assert prepared.scaled(48) == (48, 24)


def test_they_are_upright_and_stand_on_white_where_the_model_draws_opaque_pictures() -> None:
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    turned = Image.new("RGB", (40, 20), "blue")
    tags = Image.Exif()
    tags[0x0112] = 6
    files = [written(clear, "PNG"), written(turned, "JPEG", exif=tags)]
    source = referred(files, Target(FLEXIBLE, 3), MOST).source
    assert (array(source.picture) == 255).all()
    (other,) = source.others
    assert (other.width, other.height, other.channels) == (20, 40, 3)


@settings(max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400))
def test_none_has_more_pixels_than_the_largest_that_is_drawn(width: int, height: int) -> None:
    image = Image.new("1", (width, height))
    place = reduced(image, FLEXIBLE.most)
    assert place.inner[0] * place.inner[1] <= max(FLEXIBLE.most, width, height)
    assert place.resampled == (width * height > FLEXIBLE.most)
    if place.resampled:
        assert abs(place.inner[0] - place.inner[1] * width / height) <= max(width / height, 1)


def test_a_broken_one_of_several_is_numbered() -> None:
    good = written(noise(9, 9), "PNG")
    retouch = Retouch(b"text", good, "any", None, MOST)
    with pytest.raises(ImageFileError, match=r"^1 of 2 is text, not a picture"):
        retouched(retouch, [good], TARGET)
    for make in (whole, referred):
        with pytest.raises(ImageFileError, match=r"^2 of 3 is text, not a picture"):
            make([good, b"text", good], TARGET, MOST)
        with pytest.raises(ImageFileError, match=r"^is text, not a picture"):
            make([b"text"], TARGET, MOST)
