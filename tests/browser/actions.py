"""What tests do on the page, and read off it."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

PIXELS = """(image) => {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


SET = """(input, value) => {
  input.max = Math.max(input.max, value);
  input.value = value;
  input.dispatchEvent(new Event("input"));
}"""


DROP = """([name, text, how]) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type: "image/png"}));
  const target = document.querySelector("#prompt");
  const options = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
  if (how === "paste") return target.dispatchEvent(new ClipboardEvent("paste", options));
  for (const name of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(name, options));
  }
}"""


def draw(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    page.locator("#details dl").wait_for()


def violations(page: Page) -> list[Any]:
    found: list[Any] = page.evaluate(
        "async () => (await axe.run()).violations"
        ".map(({id, nodes}) => [id, nodes.map(({html, any}) => [html, any.map(a => a.message)])])"
    )
    return found


Pixels = NDArray[np.uint8]


def noise(width: int = 48, height: int = 32) -> Pixels:
    """An opaque picture of which no pixel is like its neighbour."""
    rgb = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return np.dstack((rgb, np.full((height, width), 255, np.uint8)))


def png(pixels: Pixels) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def start_from(page: Page, pixels: Pixels, name: str = "noise.png") -> None:
    file: Any = {"name": name, "mimeType": "image/png", "buffer": png(pixels)}
    page.set_input_files("#file", file)
    page.locator("#editor").wait_for()


def drop(page: Page, pixels: Pixels, name: str, how: str = "drop") -> None:
    """As if a file were dropped on the page, or pasted."""
    text = base64.b64encode(png(pixels)).decode()
    page.locator("body").evaluate(f"(_, given) => ({DROP})(given)", [name, text, how])


def choose(page: Page, operation: str) -> None:
    page.locator(f"[name=operation][value={operation}]").check()


def go(page: Page) -> None:
    page.click("#draw")
    page.locator(".compare").wait_for()
    page.locator("#draw:visible").wait_for()


def seen(page: Page, selector: str) -> Pixels:
    image = page.locator(selector)
    width, height = image.evaluate(
        "({naturalWidth, naturalHeight}) => [naturalWidth, naturalHeight]"
    )
    return np.array(image.evaluate(PIXELS), np.uint8).reshape(height, width, 4)


def after(page: Page) -> Pixels:
    return seen(page, ".compare .after")
