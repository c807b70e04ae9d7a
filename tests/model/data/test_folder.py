"""Any folder of images: nothing in it may end a run."""

import io
import json
import os
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from model.data import folder, load, reading
from model.data.pictures import DataError, PictureFormat
from model.image_files.colour import matrix_profile
from model.image_files.decode import OWN_READ, decode
from tests.generation.corpus import drawing

FORM = PictureFormat(16, 3)
DISPLAY_P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def paint(path: Path, colour: str, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    paint(tmp_path / "red_fox" / "a.png", "red")
    paint(tmp_path / "animals" / "red_fox" / "b.jpg", "red")
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


def test_what_is_no_picture_is_skipped_counted_and_said(tmp_path: Path) -> None:
    paint(tmp_path / "good.png", "red")
    paint(tmp_path / "tiny.png", "red", size=(30, 3))
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no picture by its name: not even looked at")
    (tmp_path / "film.mp4").write_bytes(b"not a picture")
    data = folder.load(tmp_path, FORM)
    assert (len(data), data.skipped) == (1, 4)
    damaged = "cannot be decoded: it is damaged or cut short"
    assert list(data.notes) == [
        f"1 left out, as it {damaged}: {tmp_path}/cut.png",
        f"1 left out, as it is empty: {tmp_path}/empty.jpg",
        f"1 left out, as it is text, not a picture; {OWN_READ} are read: {tmp_path}/text.png",
        f"1 left out, as it has a side of under 8 pixels: {tmp_path}/tiny.png",
        "1 other files are left out (.mp4 1)",
        "1 of 1 images have no caption",
    ]


def test_an_empty_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable image \(0 skipped\); expected \.avif"):
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
    paint(tmp_path / "5_sky" / "c.png", "blue")
    (tmp_path / "5_sky" / "c.caption").write_text("clouds")
    paint(tmp_path / "loose.png", "blue")
    captions = ["a rose, very red", "rose", "clouds", ""]
    assert list(folder.load(tmp_path, FORM).captions) == captions


def test_a_number_is_part_of_a_name_where_not_all_have_one(tmp_path: Path) -> None:
    paint(tmp_path / "7_up" / "a.png", "red")
    paint(tmp_path / "cola" / "b.png", "red")
    assert list(folder.load(tmp_path, FORM).captions) == ["7 up", "cola"]


def test_splits_and_system_folders_are_no_captions(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "rose" / "a.png", "red")
    for other in ("test/rose", "validation/rose", ".thumbs", "@eaDir", "__MACOSX/train"):
        paint(tmp_path / other / "b.png", "red")
    (tmp_path / "train" / "rose" / "._a.png").write_bytes(b"what macOS adds")
    data = folder.load(tmp_path, FORM)
    assert list(data.captions) == ["rose"]
    assert data.notes == ["2 images or tables of test and validation sets are left out"]


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


def test_a_listing_may_lie_in_a_folder_below(tmp_path: Path) -> None:
    """As in Hugging Face's imagefolder with splits; what lies beside it has its own captions."""
    for name in ("train/a.png", "train/left.png", "more/fox/b.png", "test/c.png"):
        paint(tmp_path / name, "red")
    (tmp_path / "train" / "metadata.csv").write_text('file_name,text\na.png,"a rose\nin bloom"\n')
    (tmp_path / "test" / "metadata.csv").write_text("file_name,text\nc.png,unseen\n")
    data = folder.load(tmp_path, FORM)
    assert sorted(data.captions) == ["a rose in bloom", "fox"]
    assert data.notes == [
        f"1 images are not in train/metadata.csv, such as {tmp_path / 'train/left.png'}",
        "1 images or tables of test and validation sets are left out",
    ]


def test_what_a_listing_names_and_is_not_there_is_said(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    rows = [{"file": f"{name}.png", "caption": "x"} for name in ("a", "gone", "lost", "away", "no")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [note] = folder.load(tmp_path, FORM).notes
    assert note.startswith(f"4 left out, as each is not there: {tmp_path}/gone.png, ")
    assert note.endswith(f"{tmp_path}/away.png …")


def test_links_are_followed_once_and_runs_are_no_data(tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere" / "a.png", "red")
    (pictures := tmp_path / "pictures").mkdir()
    (pictures / "rose").symlink_to(tmp_path / "elsewhere")
    (pictures / "round").symlink_to(pictures)
    paint(pictures / "run" / "samples" / "0001000.png", "blue")
    (pictures / "run" / "log.jsonl").touch()
    assert list(folder.load(pictures, FORM).captions) == ["rose"]


def test_a_picture_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    (tmp_path / "a.png").rename(tmp_path / "download")
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "b.avif")
    assert len(folder.load(tmp_path, FORM)) == 2


def test_an_archive_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"pictures\.zip: is a file; unpack it"):
        load([tmp_path / "pictures.zip"], FORM)


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(file, "PNG")
    return file.getvalue()


def test_a_parquet_file_of_hugging_face_is_read(tmp_path: Path) -> None:
    """Images as structs of bytes and path, classes with names in the metadata, splits by name."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (data := tmp_path / "data").mkdir()
    images = [{"bytes": png("red"), "path": "a.png"}, {"bytes": png("blue"), "path": None}]
    info = {"info": {"features": {"label": {"names": ["rose", "sky"], "_type": "ClassLabel"}}}}
    table = arrow.table({"image": [*images, None], "label": [0, 1, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    parquet.write_table(table, data / "train-00000-of-00001.parquet", row_group_size=2)
    (data / "test-00000-of-00001.parquet").touch()
    texts = arrow.table({"text": ["a  fox"], "picture": [png("green")]})
    parquet.write_table(texts, tmp_path / "more.parquet")
    found = folder.load(tmp_path, FORM)
    assert sorted(found.captions) == ["a fox", "rose", "sky"]
    colours = {
        caption: tuple(picture[:, 8, 8])
        for caption, picture in zip(found.captions, found.pictures, strict=True)
    }
    assert colours == {"a fox": (0, 128, 0), "rose": (255, 0, 0), "sky": (0, 0, 255)}
    assert list(found.notes) == [
        f"1 left out, as it is empty: {data}/train-00000-of-00001.parquet, row 2",
        "1 images or tables of test and validation sets are left out",
    ]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": ["x"], "width": [3]}, r"no column of images.* width \(int64\)"),
        ({"image": [b"x"], "width": [3]}, "has the columns image, width; one of caption, text"),
        ({"image": [b"x"], "label": [3]}, "label is not of texts, nor of classes with names"),
    ],
)
def test_a_table_that_is_none_of_images_is_named(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: .*{says}"):
        folder.load(tmp_path, FORM)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        folder.load(tmp_path, FORM)


def test_uploads_and_training_read_a_file_alike(tmp_path: Path) -> None:
    """Colour profiles among the rest: one decoder."""
    wide = drawing(64, 32).convert("RGB")
    wide.save(tmp_path / "a.png", icc_profile=matrix_profile(DISPLAY_P3, (2.2,)))
    form = PictureFormat(64, 3)
    seen = folder.load(tmp_path, form).pictures[0]
    assert (seen == form.pixels(decode((tmp_path / "a.png").read_bytes(), 10_000))).all()
    assert (seen != form.pixels(wide)).any()


def test_a_large_photo_is_resized_as_well_as_from_all_its_pixels(tmp_path: Path) -> None:
    """A JPEG is decoded at an eighth of its size, and reduced before it is resized."""
    photo = drawing(1600, 1200).convert("RGB")
    photo.save(tmp_path / "a.jpg", quality=95)
    square = Image.new("RGB", (1600, 1600), "white")
    square.paste(photo, (0, 200))
    whole = np.asarray(square.resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    seen = folder.load(tmp_path, PictureFormat(32, 3)).pictures[0]
    assert np.abs(seen.astype(int) - whole).mean() < 1


def test_images_are_read_once(tmp_path: Path) -> None:
    """And again where any of them has changed, or the cache is not whole."""
    cache = tmp_path / "cache"
    (pictures := tmp_path / "pictures").mkdir()
    for number in range(5):
        paint(pictures / f"{number}.png", "red")
    (pictures / "bad.png").write_bytes(b"no picture")
    reports: list[tuple[int, int]] = []

    def read() -> bool:
        reports.clear()
        data = folder.load(pictures, FORM, cache, lambda done, total: reports.append((done, total)))
        again = folder.load(pictures, FORM)
        assert data.fingerprint == again.fingerprint
        assert list(data.notes) == list(again.notes)
        assert list(data.tensor([4, 0])[:, 1, 8, 8]) == [-1, -1]
        return bool(reports)

    assert read()
    assert reports == [(done, 6) for done in range(7)]
    assert not read()
    os.utime(pictures / "3.png", (0, 0))
    assert read()
    assert not read()
    (cache / "images.u8").write_bytes(b"")
    assert read()
    (cache / "images.json").write_text("{")
    assert read()
    assert sorted(path.name for path in cache.iterdir()) == ["images.json", "images.u8"]


def test_processes_that_want_the_same_images_read_them_once(tmp_path: Path) -> None:
    for number in range(20):
        paint(tmp_path / "pictures" / f"{number}.png", "red")
    reports: list[tuple[int, int]] = []

    def read(_: int) -> str:
        report = lambda done, total: reports.append((done, total))  # noqa: E731
        return folder.load(tmp_path / "pictures", FORM, tmp_path / "cache", report).fingerprint

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(read, range(4)))) == 1
    assert len(reports) == 21


def test_a_file_that_was_removed_or_replaced_is_not_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "images.u8.part"
    with path.open("wb+") as file:
        assert reading.is_at(path, file)
        path.unlink()
        assert not reading.is_at(path, file)
        path.touch()
        assert not reading.is_at(path, file)


def test_a_disk_without_room_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "pictures" / "a.png", "red")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DataError, match="1 images take 0 MB, 0 MB are free"):
        folder.load(tmp_path / "pictures", FORM, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_few_images_are_in_memory_at_once(tmp_path: Path) -> None:
    """Else 100,000 photos are read into memory before the first is trained on."""
    alive, most = 0, 0
    lock = threading.Lock()

    def job() -> reading.Pixels:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        pixels = np.zeros((3, 16, 16), np.uint8)
        weakref.finalize(pixels, gone)
        return pixels

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    read = reading.read_all([job] * 1000, 1000, FORM, "key", tmp_path)
    assert read.pictures.shape == (1000, 3, 16, 16)
    assert most <= (reading.AHEAD + 2) * reading.THREADS


def test_no_cache_is_made_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="no usable image"):
        folder.load(tmp_path / "pictures", FORM, tmp_path / "run" / "data")
    assert not (tmp_path / "run" / "data").exists()


def test_a_process_leaves_the_file_that_another_has_begun_meanwhile(tmp_path: Path) -> None:
    """Where one has finished, the next begins a file of the same name: to find that all is done."""
    cache = reading._Cache(tmp_path, PictureFormat(8), "key")
    part = tmp_path / "images.u8.part"
    with cache._filling() as file:
        assert file is not None
        part.replace(tmp_path / "images.u8")
        part.write_bytes(b"another's")
    assert part.read_bytes() == b"another's"
    part.unlink()
    with pytest.raises(RuntimeError), cache._filling():
        raise RuntimeError
    assert not part.exists()
