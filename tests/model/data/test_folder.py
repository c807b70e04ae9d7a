"""Any folder of images: nothing in it may end a run."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data import folder, load
from model.data.pictures import DataError, PictureFormat

FORM = PictureFormat(16, 3)


def paint(path: Path, colour: str, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    paint(tmp_path / "red_fox" / "a.png", "red")
    paint(tmp_path / "red_fox" / "deep" / "b.jpg", "red")
    paint(tmp_path / "sky" / "c.webp", "blue")
    data = folder.load(tmp_path, FORM)
    assert list(data.captions) == ["red fox", "red fox", "sky"]
    assert [list(group) for group in data.groups] == [[0, 1], [2]]
    assert data.pictures.shape == (3, 3, 16, 16)


def test_captions_come_from_a_listing(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    paint(tmp_path / "b.png", "blue")
    lines = [{"file": "b.png", "caption": "a sea"}, {"file_name": "a.png", "text": "a rose"}]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert list(folder.load(tmp_path, FORM).captions) == ["a sea", "a rose"]


@pytest.mark.parametrize("line", ["{", '{"file": "a.png"}', "[]", '"a.png"'])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "caption": "x"}\n' + line)
    paint(tmp_path / "a.png", "red")
    with pytest.raises(DataError, match="line 2: expected"):
        folder.load(tmp_path, FORM)


def test_what_is_no_picture_is_skipped_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path / "good.png", "red")
    paint(tmp_path / "tiny.png", "red", size=(30, 3))
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no picture by its name: not even looked at")
    with caplog.at_level(logging.WARNING):
        data = folder.load(tmp_path, FORM)
    assert (len(data), data.skipped) == (1, 4)
    logged = " ".join(record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 4
    assert all(name in logged for name in ("tiny.png", "text.png", "empty.jpg", "cut.png"))


def test_an_empty_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable image \(0 skipped\); expected \.bmp"):
        folder.load(tmp_path, FORM)
    with pytest.raises(DataError, match="gone: no such folder"):
        load([tmp_path / "gone"], FORM)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_every_kind_of_picture_is_read(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (20, 20)).save(tmp_path / f"a.{suffix}")
    assert folder.load(tmp_path, FORM).pictures.shape == (1, 3, 16, 16)


def test_pictures_are_padded_to_a_square_and_put_on_white(tmp_path: Path) -> None:
    paint(tmp_path / "wide.png", "red", size=(32, 16))
    rgb = folder.load(tmp_path, PictureFormat(32, 3)).pictures[0]
    assert rgb[:, 16, 16].tolist() == [255, 0, 0]
    assert rgb[:, 2, 16].tolist() == [255, 255, 255]
    rgba = folder.load(tmp_path, PictureFormat(32, 4)).pictures[0]
    assert rgba[:, 2, 16].tolist() == [0, 0, 0, 0]


def test_colours_are_premultiplied_and_values_run_from_minus_one_to_one(tmp_path: Path) -> None:
    """Else the colour of what cannot be seen would be learned, and bleed into the edges."""
    Image.new("RGBA", (16, 16), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (16, 16), (255, 255, 255, 255)).save(tmp_path / "white.png")
    values = folder.load(tmp_path, PictureFormat(16, 4)).tensor([0, 1])
    assert (values[0] == -1).all()
    assert (values[1] == 1).all()


def test_groups_take_turns_nearly_whatever_their_size() -> None:
    """Half of the emoji are skin tones of a few symbols; rare symbols must be seen too."""
    from model.data.pictures import CROWD, Caption, PictureSet

    names = ["common"] * 99 + ["rare"]
    data = PictureSet(
        name="uneven",
        pictures=np.zeros((100, 3, 2, 2), np.uint8),
        captions=names,
        prompters=[Caption(name) for name in names],
        groups=[list(range(99)), [99]],
    )
    _, prompts = data.sample(1000, random.Random(0))
    expected = 1000 / (1 + 99**CROWD)  # 167; one in a hundred if every image had its turn
    assert abs(prompts.count("rare") - expected) < 5 * 12  # deviation 12


def test_a_listing_has_what_other_programs_leave_in_it(tmp_path: Path) -> None:
    """A byte order mark, blank lines, line separators, and images without a caption."""
    for name in "abc":
        paint(tmp_path / f"{name}.png", "red")
    lines = [
        '{"file": "a.png", "caption": "a\\u2028rose"}',
        "",
        '{"file": "b.png", "caption": null}',
    ]
    (tmp_path / "captions.jsonl").write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    data = folder.load(tmp_path, FORM)
    assert list(data.captions) == ["a rose", ""]
    assert data.notes == [
        f"1 images are not in captions.jsonl, such as {tmp_path / 'c.png'}",
        "1 of 2 images have no caption",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "train/a.png", "text": "a rose, red"}\n'),
        ("metadata.csv", 'file_name,text\ntrain/a.png,"a rose, red"\n'),
    ],
)
def test_an_imagefolder_is_read(tmp_path: Path, name: str, text: str) -> None:
    paint(tmp_path / "train" / "a.png", "red")
    (tmp_path / name).write_text(text)
    assert list(folder.load(tmp_path, FORM).captions) == ["a rose, red"]


def test_a_text_beside_an_image_is_its_caption(tmp_path: Path) -> None:
    paint(tmp_path / "10_rose" / "a.png", "red")
    paint(tmp_path / "10_rose" / "b.png", "red")
    (tmp_path / "10_rose" / "a.txt").write_text("a rose,\nvery red\n")
    assert list(folder.load(tmp_path, FORM).captions) == ["a rose, very red", "rose"]


def test_a_number_is_part_of_a_name_where_not_all_have_one(tmp_path: Path) -> None:
    paint(tmp_path / "7_up" / "a.png", "red")
    paint(tmp_path / "cola" / "b.png", "red")
    assert list(folder.load(tmp_path, FORM).captions) == ["7 up", "cola"]


def test_splits_and_system_folders_are_no_captions(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "rose" / "a.png", "red")
    for other in ("test/rose", "validation/rose", ".thumbs", "@eaDir", "__MACOSX/train"):
        paint(tmp_path / other / "b.png", "red")
    data = folder.load(tmp_path, FORM)
    assert list(data.captions) == ["rose"]
    assert data.notes == ["2 images in test or validation folders are left out"]


def test_a_caption_that_is_no_text_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "caption": ["a", "rose"]}')
    with pytest.raises(DataError, match="line 1: expected"):
        folder.load(tmp_path, FORM)
    (tmp_path / "captions.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"captions\.jsonl: not text in UTF-8"):
        folder.load(tmp_path, FORM)


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 20), "red")
    image.paste("blue", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    pixels = folder.load(tmp_path, FORM).pictures[0]
    assert tuple(pixels[:, 0, 8]) == (255, 0, 0)
    assert tuple(pixels[:, 15, 8]) == (0, 0, 255)


def test_of_sixteen_bits_the_upper_eight_are_read(tmp_path: Path) -> None:
    values = np.full((20, 20), 0x80FF, np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path / "b.tif")
    data = folder.load(tmp_path, FORM)
    assert data.skipped == 1
    assert set(data.pictures.ravel()) == {0x80}
