"""What schemathesis cannot know: of forms, that files are pictures and all else is a text; of JSON,
that the sides of a size are numbers within a text, and equal where models draw squares."""

from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from tests.generation.corpus import written

CLEAR = Image.new("RGBA", (4, 4), "gold")  # small enough to be upscaled by the tiny model
CLEAR.paste((0, 0, 0, 0), (1, 1, 3, 3))  # so that it is a mask too
PICTURES = {
    "image/png": [written(CLEAR, "PNG")],
    "image/jpeg": [written(CLEAR.convert("RGB"), "JPEG")],
    "image/webp": [written(CLEAR, "WEBP", lossless=True)],
    "image/gif": [written(CLEAR.convert("RGB").quantize(8), "GIF")],
    "image/avif": [written(CLEAR, "AVIF", quality=100)],
}
for media_type, files in PICTURES.items():
    schemathesis.openapi.media_type(media_type, st.sampled_from(files))

LARGEST = 1024  # as the settings have it
ANY_TEXT = ("prompt", "model", "seed", "user", "safety_identifier", "labels")


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leaves out numbers in place of a text, which are texts in a form, fields of a form that are
    empty, which were not filled in, and sizes that no schema can refuse."""
    body = case.body
    if case.meta is None or not isinstance(body, dict):
        return True
    if case.meta.generation.mode.is_negative:
        if case.media_type != "multipart/form-data":
            return True
        if any(value in ("", None, [], {}) for value in body.values()):
            return False
        return all(isinstance(body.get(name, ""), str) for name in ANY_TEXT)
    size = body.get("size")
    return case.media_type != "application/json" or not isinstance(size, str) or is_square(size)


def is_square(size: str) -> bool:
    """Whether models that draw squares take it; "auto" is for OpenAI's routes."""
    width, _, height = size.partition("x")
    return size == "auto" or (height in ("", width) and int(width) <= LARGEST)
