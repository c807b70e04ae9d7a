"""If these fail, people cannot start from a picture on the page, nor compare the result with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.actions import (
    SET,
    after,
    choose,
    draw,
    drop,
    go,
    noise,
    png,
    seen,
    start_from,
    violations,
)
from tests.browser.conftest import MANY_STEPS, Open, Start
from tests.generation.corpus import exif, written
from tests.service.running import Service


def test_a_picture_is_varied_and_compared(page: Page, service: Service) -> None:
    start_from(page, noise())
    expect(page.locator("h1")).to_have_text("What should be done with it?")
    expect(page.locator(".source-size")).to_have_text("48 × 32 pixels")
    assert page.evaluate("() => document.activeElement.value") == "vary"
    page.locator("#count label").nth(1).click()
    page.locator("#parameter-strength").evaluate(SET, 0.3)
    page.fill("#seed", "5")
    page.click("#fine summary")
    page.uncheck("#transparent")
    go(page)
    expect(page.locator("#run button:not(.busy)")).to_have_count(2)
    page.locator("#run button").nth(1).click()
    expect(page.locator("#details")).to_contain_text("Vary")
    expect(page.locator("#details dl")).to_contain_text("Strength0.3")

    fields = {"operation": "vary", "strength": "0.3", "seed": "6", "size": "128"}
    answer = httpx.post(
        f"{service.url}/v1/images/transform",
        data=fields | {"background": "white"},
        files={"image": png(noise())},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    served = np.asarray(Image.open(BytesIO(answer.content)).convert("RGBA"))
    assert np.array_equal(after(page), served)
    assert seen(page, ".compare img:first-child").shape == served.shape

    line = page.get_by_role("slider", name="Before and after")
    line.focus()
    line.press("Home")
    expect(line).to_have_attribute("aria-valuetext", "100 % of it after")
    line.press("End")
    expect(line).to_have_attribute("aria-valuetext", "0 % of it after")
    # It is kept with what it was made of; it has no address.
    expect(page.get_by_role("button", name="Link", exact=True)).to_be_hidden()
    page.get_by_role("button", name="curl").click()
    line_of_shell: str = page.evaluate("() => navigator.clipboard.readText()")
    assert "-F 'image=@noise.png' --form-string 'operation=vary'" in line_of_shell
    page.reload()
    page.locator("#tiles button").first.click()
    expect(page.get_by_role("slider", name="Before and after")).to_be_visible()
    assert np.array_equal(after(page), served)


def test_a_drawn_picture_is_the_start_of_the_next(page: Page) -> None:
    draw(page, "red apple, noto style")
    page.get_by_role("button", name="Start from this").click()
    assert page.input_value("#prompt") == "red apple, noto style"
    choose(page, "restyle")
    assert page.input_value("#prompt") == "red apple, fluent 3d style"
    choose(page, "vary")
    assert page.input_value("#prompt") == "red apple, noto style"
    drawn = seen(page, "#frame .sheet img")
    go(page)
    assert np.array_equal(seen(page, ".compare img:first-child"), drawn)
    assert not np.array_equal(after(page), drawn)
    page.get_by_role("button", name="4 more").click()
    expect(page.locator("#run button:not(.busy)")).to_have_count(4)
    page.get_by_role("button", name="Put the picture away").click()
    expect(page.locator("h1")).to_have_text("What should it draw?")
    assert page.evaluate("() => document.activeElement.id") == "start"


def test_only_what_is_painted_is_regenerated(page: Page) -> None:
    picture = noise()
    start_from(page, picture)
    choose(page, "inpaint")
    expect(page.locator("#details")).to_contain_text("Nothing is painted")
    box = page.locator(".mask").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 4, y, steps=4)
    page.mouse.up()
    expect(page.locator("#details")).to_contain_text("% is regenerated")
    go(page)
    made = after(page)
    # A brush of 6 % of 48 pixels: from column 9 to column 27, five rows around the middle.
    changed = (made != picture).any(axis=2)
    assert (made[..., 3] == 255).all(), "an opaque picture has got holes"
    assert changed[16, 12:24].all()
    assert not changed[:12].any()
    assert not changed[20:].any()
    assert not changed[:, :8].any()
    assert not changed[:, 28:].any()


def test_a_mask_is_painted_by_keyboard(page: Page) -> None:
    picture = noise()
    start_from(page, picture)
    choose(page, "inpaint")
    mask = page.get_by_role("application", name="Mask")
    mask.focus()
    share = page.locator("#details [role=status]")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    painted = share.inner_text()
    expect(page.locator("#announcement")).to_have_text("Brush at 75 %, 50 %")
    page.keyboard.press("e")
    page.keyboard.press("Space")
    expect(share).not_to_have_text(painted)
    page.keyboard.press("Control+z")
    expect(share).to_have_text(painted)
    page.keyboard.press("Control+z")
    expect(share).to_contain_text("Nothing is painted")
    expect(page.get_by_role("button", name="Erase")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("e")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Invert").click()
    go(page)
    changed = (after(page) != picture).any(axis=2)
    assert not changed[15:17, 35:37].any(), "the dot was to stay"
    assert changed[:, :16].all()


def test_the_tools_are_within_reach_of_the_keyboard(page: Page) -> None:
    start_from(page, noise())  # which puts the focus on what can be done with it
    for operation in ("restyle", "inpaint", "outpaint"):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("() => document.activeElement.value") == operation
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.value") == "left"
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "amount"
    page.keyboard.press("End")
    expect(page.locator("output[for=amount]")).to_have_text("100 %")
    page.keyboard.press("Tab")
    page.keyboard.type("red apple")
    page.keyboard.press("Enter")
    line = page.get_by_role("slider", name="Before and after")
    line.wait_for()
    page.locator("#draw:visible").wait_for()
    expect(page.locator("#details")).to_contain_text("96 × 96")
    line.focus()
    page.keyboard.press("ArrowRight")
    expect(line).to_have_attribute("aria-valuetext", "49 % of it after")


def test_a_picture_is_extended_where_it_is_to_be(page: Page) -> None:
    picture = noise(40, 20)
    start_from(page, picture)
    choose(page, "outpaint")
    for side in ("Left", "Top", "Bottom"):
        page.get_by_role("checkbox", name=side).uncheck()
    page.locator("#amount").evaluate(SET, 50)
    page.fill("#prompt", "blue square")
    go(page)
    made = after(page)
    assert made.shape == (20, 60, 4)
    assert np.array_equal(made[:, :40], picture)
    before = seen(page, ".compare img:first-child")
    assert np.array_equal(before[:, :40], picture)
    assert not before[:, 40:].any()


@pytest.mark.parametrize(
    ("operation", "note", "size"),
    [
        ("upscale", "The model enlarges pictures of up to 256 × 256", "96 × 64"),
        ("colorize", "", ""),
        ("denoise", "", ""),
    ],
)
def test_the_other_operations(page: Page, operation: str, note: str, size: str) -> None:
    start_from(page, noise())
    choose(page, operation)
    expect(page.locator("#options")).to_contain_text(note)
    if operation == "denoise":
        page.get_by_label("Automatic").uncheck()
        page.locator("#parameter-noise").evaluate(SET, 0.2)
    go(page)
    expect(page.locator("#details")).to_contain_text(size or "128 × 85")


def test_an_operation_begins_with_its_own_steps(page: Page) -> None:
    start_from(page, noise())
    page.click("#fine summary")
    steps = page.locator("#parameter-steps-number")
    expect(steps).to_have_value("4")
    choose(page, "upscale")
    expect(steps).to_have_value("6")
    go(page)
    expect(page.locator("#details dl")).to_contain_text("Steps6")
    page.locator("#parameter-steps").evaluate(SET, 9)
    choose(page, "colorize")
    expect(steps).to_have_value("4")  # what is set for an operation with a default of its own
    choose(page, "upscale")
    expect(steps).to_have_value("9")  # is kept for it alone


def test_a_picture_too_large_to_be_upscaled_is_scaled_first(page: Page) -> None:
    start_from(page, noise(400, 100))
    choose(page, "upscale")
    expect(page.locator("#options")).to_contain_text("It is scaled to 256 × 64 first")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_pictures_come_in_by_dropping_and_pasting(page: Page, how: str) -> None:
    drop(page, noise(), "in.png", how)
    expect(page.locator(".source-name")).to_have_text("in.png")


MOST = 15_000
"""Pixels that may be sent to `narrow`."""


@pytest.fixture(scope="module")
def narrow(start: Start) -> Iterator[Service]:
    with start(MAX_UPLOAD_PIXELS=str(MOST)) as service:
        yield service.await_ready()


def test_a_large_picture_is_made_smaller_before_it_is_sent(
    narrow: Service, open_page: Open
) -> None:
    page = open_page(narrow.url)
    page.locator("#state[data-state=ready]").wait_for()
    start_from(page, noise(300, 200))
    expect(page.locator(".source-size")).to_have_text("150 × 100 pixels")
    go(page)


@pytest.mark.parametrize("operation", ["vary", "inpaint", "outpaint"])
def test_many_pictures_of_a_large_one_are_made_smaller(
    narrow: Service, open_page: Open, operation: str
) -> None:
    """Each alone is within the limit, all together are not: nobody should have to work that out."""
    page = open_page(narrow.url)
    page.locator("#state[data-state=ready]").wait_for()
    start_from(page, noise(150, 99))
    choose(page, operation)
    note = page.locator("#options > .note")
    if operation == "outpaint":
        page.locator("#amount").evaluate(SET, 100)  # 450 × 297 pixels, of which that is a third
        expect(note).to_have_text(re.compile("It is scaled to 50 × 33 first"))
        page.locator("#amount").evaluate(SET, 5)
    else:
        expect(note).to_be_hidden()
    if operation == "inpaint":
        page.get_by_role("button", name="Invert").click()  # from nothing to all of it
    page.locator("#count label").nth(2).click()
    expect(note).to_be_visible(visible=operation != "vary")  # whose size is chosen, not kept
    go(page)
    expect(page.locator("#run button:not(.busy)")).to_have_count(4)
    height, width, _ = after(page).shape
    assert 0.9 * MOST < 4 * width * height <= MOST


def test_files_that_are_no_pictures_are_refused_in_words(open_page: Open, service: Service) -> None:
    page = open_page(service.url, expected="400")
    page.locator("#state[data-state=ready]").wait_for()
    text: Any = {"name": "a.png", "mimeType": "image/png", "buffer": b"not a picture"}
    page.set_input_files("#file", text)
    expect(page.locator("#error")).to_contain_text("cannot be read as a picture")
    # Cut short: this browser shows what there is of it, the service does not take it.
    file = BytesIO()
    Image.fromarray(noise(200, 200)).convert("RGB").save(file, "JPEG")
    short: Any = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()[:9000]}
    page.set_input_files("#file", short)
    page.locator("#editor").wait_for()
    expect(page.locator("#error")).to_be_empty()
    page.click("#draw")
    expect(page.locator(".sources + .problem")).to_contain_text("This picture is damaged")
    expect(page.locator("#frame .sheet img")).to_be_visible()


def test_a_picture_is_worked_on_as_this_browser_shows_it(page: Page) -> None:
    # Browsers do not turn a WebP as its Exif block says; the service does.
    file = written(Image.fromarray(noise()), "WEBP", lossless=True, exif=exif(6))
    upload: Any = {"name": "a.webp", "mimeType": "image/webp", "buffer": file}
    page.set_input_files("#file", upload)
    expect(page.locator(".source-size")).to_have_text("48 × 32 pixels")
    choose(page, "inpaint")
    page.get_by_role("button", name="Invert").click()  # all of it
    go(page)
    assert after(page).shape[:2] == (32, 48)


def test_to_restyle_words_are_needed(page: Page) -> None:
    start_from(page, noise())
    choose(page, "restyle")
    page.click("#draw")
    assert page.evaluate("() => document.activeElement.id") == "prompt"
    expect(page.locator("#stop")).to_be_hidden()
    page.fill("#prompt", "red apple")
    go(page)
    expect(page.locator("#details .title")).to_have_text("red apple, fluent 3d style")


def test_stopping_frees_the_rows_of_a_picture_too(page: Page, service: Service) -> None:
    before = service.metric("cancellations_total")
    start_from(page, noise())
    page.click("#fine summary")
    page.locator("#parameter-steps").evaluate(SET, MANY_STEPS)
    page.click("#draw")
    page.locator("#details .count").wait_for()
    page.keyboard.press("Escape")
    page.locator("#draw:visible").wait_for()
    expect(page.locator("#frame .sheet img")).to_be_visible()
    page.wait_for_function(
        "async (was) => {const text = await (await fetch('metrics')).text();"
        " return Number(/^tessera_cancellations_total{.*} (.*)$/m.exec(text)?.[1] ?? 0) > was}",
        arg=before,
    )


def test_without_operations_there_are_no_tools(open_page: Open, service: Service) -> None:
    def poor(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        for model in models["data"]:
            model["operations"] = ["generate"]
        route.fulfill(response=answer, body=json.dumps(models))

    page = open_page("about:blank")
    page.route("**/v1/models", poor)
    page.goto(service.url)
    page.locator("#state[data-state=ready]").wait_for()
    draw(page, "red apple")
    expect(page.get_by_role("button", name="Start from")).to_have_count(0)
    drop(page, noise(), "in.png")
    expect(page.locator("#editor")).to_be_hidden()


def test_axe_finds_nothing_in_the_tools(open_page: Open, service: Service, axe_source: str) -> None:
    for scheme, width, locale in (("light", 1280, "en-GB"), ("dark", 390, "zh-CN")):
        size = {"width": width, "height": 860}
        page = open_page(
            service.url, color_scheme=scheme, viewport=size, locale=locale, bypass_csp=True
        )
        page.locator("#state[data-state=ready]").wait_for()
        page.evaluate(axe_source)
        start_from(page, noise())
        for operation in ("vary", "inpaint", "outpaint", "upscale", "denoise"):
            choose(page, operation)
            if operation == "denoise":
                page.locator("#parameter-noise-automatic").uncheck()
            assert violations(page) == [], operation
        if width < 600:  # where the form is out of sight, what starts it is also by the picture
            page.locator("#details .primary").click()
            page.locator(".compare").wait_for()
            page.locator("#draw:visible").wait_for()
        else:
            go(page)
        assert violations(page) == []
