"""Images that are uploaded, drawn here: the same bytes each time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw

from tools.answers.request import Upload


def encoded(file: str, image: Image.Image) -> Upload:
    """An image as a file, of the kind that its name says."""
    written = BytesIO()
    if file.endswith(".jpg"):
        image.save(written, "JPEG", quality=95)
        return Upload(file, written.getvalue(), "image/jpeg")
    image.save(written, "PNG")
    return Upload(file, written.getvalue(), "image/png")


def gradient(width: int, height: int) -> Image.Image:
    """An opaque ground of which no two corners are alike."""
    down = Image.linear_gradient("L")
    across = down.transpose(Image.Transpose.ROTATE_90)
    bands = (down, across, down.transpose(Image.Transpose.ROTATE_180))
    return Image.merge("RGB", [band.resize((width, height)) for band in bands])


def shapes(ground: Image.Image) -> Image.Image:
    """A red disc with a leaf and a half transparent bar, on any ground."""
    width, height = ground.size
    above = Image.new("RGBA", ground.size)
    pen = ImageDraw.Draw(above)
    pen.ellipse((width // 6, height // 4, 5 * width // 6, 11 * height // 12), (214, 40, 40, 255))
    leaf = [(width // 2, height // 4), (2 * width // 3, height // 12), (width // 2, height // 8)]
    pen.polygon(leaf, (46, 140, 60, 255))
    pen.rectangle((width // 3, height // 2, width // 2, 3 * height // 4), (250, 220, 90, 128))
    mixed = Image.alpha_composite(ground.convert("RGBA"), above)
    return mixed if ground.mode == "RGBA" else mixed.convert(ground.mode)


def noisy(image: Image.Image, spread: int) -> Image.Image:
    """The image with even noise, at most ``spread`` to either side."""
    noise = random.Random(spread).randbytes(len(image.tobytes()))
    pairs = zip(image.tobytes(), noise, strict=True)
    changed = bytes(
        min(255, max(0, value + one * (2 * spread + 1) // 256 - spread)) for value, one in pairs
    )
    return Image.frombytes(image.mode, image.size, changed)


@dataclass(frozen=True, slots=True)
class Uploads:
    """All of them. Some models draw 128 × 128 pixels, some 64 × 64; most uploads are larger."""

    wide: Upload  # RGBA, transparent around the thing
    tall: Upload  # RGB
    square: Upload  # RGB, a JPEG
    exact: Upload  # RGBA, as large as an image of gpt or gan
    small: Upload  # RGBA, can be upscaled twice
    tiny: Upload  # RGB, can be upscaled four times
    flat: Upload  # RGB, a thing on plain white
    noisy: Upload  # RGB
    holed: Upload  # RGBA, opaque but for a hole
    wide_mask: Upload  # RGBA, as large as ``wide``, transparent where it marks
    square_mask: Upload  # L, as large as ``square``, white where it marks
    square_clear_mask: Upload  # RGBA, as large as ``square``, transparent where it marks


@cache
def uploads() -> Uploads:
    """Draws them."""
    holed = shapes(gradient(150, 150)).convert("RGBA")
    ImageDraw.Draw(holed).rectangle((20, 70, 90, 130), (0, 0, 0, 0))
    wide_mask = Image.new("RGBA", (200, 130), "black")
    ImageDraw.Draw(wide_mask).rectangle((100, 20, 170, 100), (0, 0, 0, 0))
    square_mask = Image.new("L", (128, 128))
    ImageDraw.Draw(square_mask).ellipse((30, 50, 110, 120), 255)
    square_clear_mask = Image.new("RGBA", (128, 128), "white")
    ImageDraw.Draw(square_clear_mask).ellipse((10, 10, 70, 90), (0, 0, 0, 0))
    return Uploads(
        wide=encoded("wide.png", shapes(Image.new("RGBA", (200, 130)))),
        tall=encoded("tall.png", shapes(gradient(97, 161))),
        square=encoded("square.jpg", shapes(gradient(128, 128))),
        exact=encoded("exact.png", shapes(Image.new("RGBA", (64, 64)))),
        small=encoded("small.png", shapes(Image.new("RGBA", (32, 24)))),
        tiny=encoded("tiny.png", shapes(gradient(16, 16))),
        flat=encoded("flat.png", shapes(Image.new("RGB", (120, 90), "white"))),
        noisy=encoded("noisy.png", noisy(shapes(Image.new("RGB", (80, 64), "white")), 40)),
        holed=encoded("holed.png", holed),
        wide_mask=encoded("wide-mask.png", wide_mask),
        square_mask=encoded("square-mask.png", square_mask),
        square_clear_mask=encoded("square-clear-mask.png", square_clear_mask),
    )
