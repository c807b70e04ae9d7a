"""What schemathesis cannot know of forms: that files are pictures, and that all else is a text."""

from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from tests.uploads.corpus import written

CLEAR = Image.new("RGBA", (4, 4), "gold")  # small enough to be upscaled by the tiny model
CLEAR.paste((0, 0, 0, 0), (1, 1, 3, 3))  # so that it is a mask too
PICTURES = {
    "image/png": [written(CLEAR, "PNG")],
    "image/jpeg": [written(CLEAR.convert("RGB"), "JPEG")],
    "image/webp": [written(CLEAR, "WEBP", lossless=True)],
    "image/gif": [written(CLEAR.convert("RGB").quantize(8), "GIF")],
}
for media_type, files in PICTURES.items():
    schemathesis.openapi.media_type(media_type, st.sampled_from(files))

ANY_TEXT = ("prompt", "model", "seed", "user", "safety_identifier", "labels")


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leaves out cases whose fault is a number in place of a text: sent in a form, it is one."""
    body = case.body
    if case.media_type != "multipart/form-data" or not isinstance(body, dict):
        return True
    if case.meta is None or not case.meta.generation.mode.is_negative:
        return True
    return all(isinstance(body.get(name, ""), str) for name in ANY_TEXT)
