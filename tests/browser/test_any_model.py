"""If these fail, the page serves only small models well.

Not those that draw any size, take adapters and negative prompts, edit several pictures by the
prompt, or need minutes for a picture.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from model.sizes import Sizes
from tests.browser.actions import (
    SET,
    Pixels,
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
from tests.browser.conftest import Open
from tests.browser.hills import EXAMPLES, LORAS
from tests.service.raw import connect, posted
from tests.service.running import Service

Size = tuple[int, int]


@pytest.fixture
def page(open_page: Open, hills: Service) -> Page:
    return opened(open_page, hills)


def opened(open_page: Open, hills: Service, path: str = "/", **options: Any) -> Page:
    page = open_page(hills.url + path, **options)
    page.locator("#state[data-state=ready]").wait_for()
    return page


def ratio(node: Locator) -> float:
    box = node.bounding_box()
    assert box is not None
    return box["width"] / box["height"]


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button, exact=True).click()
    text: str = page.evaluate("() => navigator.clipboard.readText()")
    return text


def pixels_of(body: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(body)).convert("RGBA"))


def served(url: str) -> Pixels:
    answer = httpx.get(url, timeout=60)
    assert answer.status_code == 200, answer.text
    return pixels_of(answer.content)


# Sizes


def test_an_aspect_is_chosen_and_everything_has_it(page: Page) -> None:
    names = page.locator("#shapes span").all_inner_texts()
    assert names == ["1:1", "4:3", "3:4", "16:9", "9:16"]
    expect(page.locator("#shapes :checked")).to_have_value("128")
    page.get_by_role("radio", name="16:9, 176 × 96").check()
    expect(page.locator("#width")).to_have_value("176")
    expect(page.locator("#height")).to_have_value("96")
    draw(page, "green hills")
    assert seen(page, "#frame img").shape == (96, 176, 4)
    wide = 176 / 96
    assert ratio(page.locator("#frame")) == pytest.approx(wide, rel=0.02)
    assert ratio(page.locator("#tiles button")) == pytest.approx(wide, rel=0.05)
    frame, details = (page.locator(name).bounding_box() for name in ("#frame", "#details"))
    assert frame is not None
    assert details is not None
    assert details["y"] > frame["y"] + frame["height"], "beside a wide picture there is no room"
    expect(page.locator("#details dl")).to_contain_text("176 × 96")

    link = copied(page, "Link")
    assert "size=176x96" in link
    assert np.array_equal(seen(page, "#frame img"), served(link))
    assert 'width="176" height="96"' in copied(page, "<img>")
    assert 'size="176x96"' in copied(page, "<tessera-image>")
    assert "size=176x96" in copied(page, "curl")
    # So has the page's own address, and draws the same again.
    assert "size=176x96" in page.url
    first = seen(page, "#frame img")
    page.goto(page.url)
    page.locator("#details dl").wait_for()
    assert np.array_equal(seen(page, "#frame img"), first)

    page.get_by_role("button", name="Swap width and height").click()
    expect(page.locator("#shapes :checked")).to_have_value("96x176")
    draw(page, "green hills")
    page.locator("#draw:visible").wait_for()
    expect(page.locator("#details dl")).to_contain_text("96 × 176")
    viewport = page.viewport_size
    box = page.locator("#frame").bounding_box()
    assert viewport is not None
    assert box is not None
    assert box["height"] < viewport["height"], "a tall picture is not seen as a whole"


def test_a_run_of_pictures_that_are_not_square(page: Page) -> None:
    page.get_by_role("radio", name="9:16").check()
    page.locator("#count label").nth(2).click()
    draw(page, "green hills")
    thumbs = page.locator("#run button:not(.busy)")
    expect(thumbs).to_have_count(4)
    assert ratio(thumbs.first) == pytest.approx(96 / 176, rel=0.05)
    page.get_by_role("radio", name="16:9").check()
    page.locator("#count label").first.click()
    draw(page, "red desert at noon")
    page.locator("#draw:visible").wait_for()
    # Rows of tiles have no columns: up and down lead to what lies there.
    tiles = page.locator("#tiles button")
    expect(tiles).to_have_count(5)
    page.set_viewport_size({"width": 390, "height": 844})
    tiles.first.focus()
    page.keyboard.press("ArrowDown")
    focused, first = (
        page.evaluate(f"() => {node}.getBoundingClientRect().toJSON()")
        for node in ("document.activeElement", "document.querySelector('.tile')")
    )
    assert focused["top"] > first["top"]
    page.keyboard.press("ArrowUp")
    assert tiles.first.evaluate("(tile) => tile === document.activeElement")


@pytest.mark.parametrize(
    ("width", "height", "problem", "instead"),
    [
        (100, 128, "100 is no multiple of 16", "96 × 128"),
        (128, 1000, "Each side has 64 to 256 pixels", "64 × 256"),
        (256, 256, "256 × 256 are too many: at most 25,600 pixels", "160 × 160"),
        (176.5, 96, "in whole pixels", "176 × 96"),
    ],
)
def test_a_size_that_is_not_drawn_is_refused_in_words(
    page: Page, width: float, height: float, problem: str, instead: str
) -> None:
    page.fill("#width", str(width))
    page.fill("#height", str(height))
    expect(page.locator("#shape-problem")).to_contain_text(problem)
    expect(page.locator("#height")).to_have_accessible_description(re.compile(re.escape(problem)))
    page.fill("#prompt", "green hills")
    page.press("#prompt", "Enter")
    assert page.evaluate("() => document.activeElement.id") == "width"
    expect(page.locator("#stop")).to_be_hidden()
    page.get_by_role("button", name=f"Use {instead}").click()
    expect(page.locator("#shape-problem")).to_be_hidden()
    draw(page, "green hills")
    expect(page.locator("#details dl")).to_contain_text(instead)


ALL_SHAPES = """async (all) => {
  const {shapesOf, problemOf, nearest} = await import("/web/page/sizes.js");
  return all.map((sizes) => [
    shapesOf({sizes}),
    [[7, 3000], [3000, 3000], [1000, 700], [512, 512], [1920, 1080]].map((size) => [
      size, problemOf({sizes}, size), nearest({sizes}, size),
    ]),
  ]);
}"""


def test_what_is_offered_is_drawn_whatever_the_model(page: Page) -> None:
    all_sizes = [
        Sizes(1024, 1024, multiple=16, low=256, high=2048, pixels=2 * 1024**2),
        Sizes(1024, 1024, multiple=64, low=512, high=2048, pixels=1024**2),
        Sizes(1360, 768, multiple=16, low=256, high=2048, pixels=1360 * 768),
        Sizes(2048, 2048, multiple=32, low=512, high=4096, pixels=5033164),
        Sizes(512, 512, multiple=32, low=512, high=512, pixels=512 * 512),
        Sizes(96, 64, multiple=8, low=32, high=128, pixels=128 * 128),
        Sizes(1328, 1328, ((1664, 928), (928, 1664)), 16, 256, 2048, 1328**2),
    ]
    keys = ("width", "height", "others", "multiple", "low", "high", "pixels")
    given = [{key: getattr(sizes, key) for key in keys} for sizes in all_sizes]
    for sizes, (shapes, tried) in zip(all_sizes, page.evaluate(ALL_SHAPES, given), strict=True):
        assert tuple(shapes[0]["size"]) == sizes.native
        assert len({shape["name"] for shape in shapes}) == len(shapes)
        for shape in shapes:
            width, height = shape["size"]
            assert sizes.allow(width, height), shape
            assert width * height > 0.75 * sizes.width * sizes.height
            across, _, down = shape["name"].partition(":")
            assert width / height == pytest.approx(float(across) / float(down), rel=0.13)
        for size, problem, nearest in tried:
            assert (problem is None) == sizes.allow(*size), (sizes, size)
            assert sizes.allow(*nearest), (sizes, size, nearest)


# What a model takes


def test_an_adapter_a_negative_prompt_and_fixed_parameters(page: Page, hills: Service) -> None:
    page.click("#fine summary")
    expect(page.locator("#transparent-field")).to_be_hidden()
    expect(page.locator("#parameters")).to_contain_text("Layers4")
    expect(page.get_by_role("slider", name="Layers")).to_have_count(0)
    scale = page.get_by_role("slider", name="LoRA scale")
    expect(scale).to_have_count(0)
    draw(page, "green hills")
    assert "lora" not in page.locator("#details dl").inner_text().lower()

    expect(page.locator("#lora option")).to_have_text(["none", *LORAS])
    page.select_option("#lora", "engraving")
    expect(scale).to_be_visible()
    page.locator("#parameter-lora_scale").evaluate(SET, 2)
    page.fill("#negative-prompt", "sun")
    page.fill("#seed", "3")
    with page.expect_request("**/v1/images") as request:
        draw(page, "green hills")
    page.locator("#draw:visible").wait_for()
    fields = {"lora": "engraving", "lora_scale": 2, "negative_prompt": "sun", "size": 128}
    body = request.value.post_data_json
    assert isinstance(body, dict)
    assert body.items() >= fields.items()
    assert "layers" not in body
    for fact in ("LoRAengraving", "LoRA scale2", "Negative promptsun"):
        expect(page.locator("#details dl")).to_contain_text(fact)
    drawn = seen(page, "#frame img")
    grey = drawn[..., 0]
    assert (abs(drawn[..., 1].astype(int) - grey) <= 1).all(), "the adapter was not used"
    link = copied(page, "Link")
    assert np.array_equal(drawn, served(link))
    line = copied(page, "<tessera-image>")
    assert 'negative_prompt="sun" lora="engraving"' in line
    assert 'lora_scale="2"' in line
    for field in ("lora=engraving", "lora_scale=2", "negative_prompt=sun"):
        assert field in page.url

    page.select_option("#lora", "")
    expect(scale).to_have_count(0)
    page.fill("#negative-prompt", "")
    page.get_by_role("button", name="Use its prompt").click()
    expect(page.locator("#lora")).to_have_value("engraving")
    expect(page.locator("#negative-prompt")).to_have_value("sun")
    expect(page.locator("#parameter-lora_scale-number")).to_have_value("2")
    # And to an address that names them.
    again = opened_again(page)
    assert np.array_equal(again, drawn)


def opened_again(page: Page) -> Pixels:
    """What the page's own address draws."""
    page.goto(page.url)
    page.locator("#details dl").wait_for()
    return seen(page, "#frame img")


def test_examples_are_the_models_own(page: Page) -> None:
    chips = page.locator("#suggestion-list button")
    expect(chips).to_have_text(EXAMPLES)
    expect(page.locator("#prompt")).to_have_attribute("placeholder", EXAMPLES[1])
    expect(page.locator("#styles")).to_be_hidden()
    expect(page.locator("#more-suggestions")).to_be_hidden()
    expect(page.locator("#about-model")).to_have_text("Hills under a sun.")
    chips.nth(0).click()
    page.locator("#details dl").wait_for()
    expect(page.locator("#details .title")).to_have_text(EXAMPLES[0])
    assert page.input_value("#prompt") == EXAMPLES[0]


def test_a_model_that_only_edits_asks_for_a_picture(open_page: Open, hills: Service) -> None:
    def edits(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        for model in models["data"]:
            model["operations"] = ["edit"]
        route.fulfill(response=answer, json=models)

    page = opened(open_page, hills)
    page.route("**/v1/models", edits)
    page.reload()
    page.locator("#state[data-state=ready]").wait_for()
    expect(page.locator("h1")).to_have_text("Start from a picture")
    for hidden in ("#prompt", "#suggestions", "#shape-field", "#seed", "#fine"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("#draw")).to_be_disabled()
    start_from(page, noise())
    page.fill("#prompt", "make it winter")
    go(page)
    page.unroute_all(behavior="wait")


# Edits of several pictures


def flat(colour: Sequence[int], width: int, height: int) -> Pixels:
    return np.full((height, width, 4), (*colour, 255), np.uint8)


RED, GREEN, BLUE, WHITE = (
    flat((200, 30, 30), 128, 64),
    flat((30, 200, 30), 64, 64),
    flat((30, 30, 200), 64, 128),
    flat((250, 250, 250), 64, 64),
)


def add(page: Page, *pictures: tuple[str, Pixels], place: str = "#add") -> None:
    files: Any = [
        {"name": f"{name}.png", "mimeType": "image/png", "buffer": png(pixels)}
        for name, pixels in pictures
    ]
    with page.expect_file_chooser() as chooser:
        page.click(place)
    chooser.value.set_files(files)


def names(page: Page) -> list[str]:
    return [name.removesuffix(".png") for name in page.locator(".source-name").all_inner_texts()]


def asked(hills: Service, pictures: Sequence[Pixels], **fields: str) -> Pixels:
    answer = httpx.post(
        f"{hills.url}/v1/images/transform",
        data={"operation": "edit", **fields},
        files=[("image", (f"{index}.png", png(one))) for index, one in enumerate(pictures)],
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return pixels_of(answer.content)


def test_several_pictures_are_edited_in_the_order_that_is_chosen(
    page: Page, hills: Service
) -> None:
    add(page, ("red", RED), ("green", GREEN), place="#start")
    expect(page.locator(".source-name")).to_have_count(2)
    expect(page.locator("[name=operation]:checked")).to_have_value("edit")
    expect(page.locator("#add-note")).to_have_text("2 of 3")
    add(page, ("blue", BLUE))
    expect(page.locator("#add")).to_be_hidden()
    assert names(page) == ["red", "green", "blue"]
    expect(page.locator("#frame .sheet img")).to_have_attribute("alt", "blue.png")
    # There is no room for a fourth.
    drop(page, WHITE, "white.png")
    expect(page.get_by_role("alert").filter(has_text="No more pictures fit")).to_be_visible()
    assert names(page) == ["red", "green", "blue"]

    page.get_by_role("button", name="Move picture 3 up").click()
    assert names(page) == ["red", "blue", "green"]
    assert page.evaluate("() => document.activeElement.title") == "Move picture 2 up"
    page.keyboard.press("Enter")
    assert names(page) == ["blue", "red", "green"]
    page.get_by_role("button", name="Remove picture 2").click()
    assert names(page) == ["blue", "green"]
    assert page.evaluate("() => document.activeElement.title") == "Remove picture 2"
    drop(page, WHITE, "white.png", "paste")
    expect(page.locator(".source-name")).to_have_count(3)
    assert names(page) == ["blue", "green", "white"]

    page.click("#draw")  # which needs to know what to do
    assert page.evaluate("() => document.activeElement.id") == "prompt"
    expect(page.locator("#stop")).to_be_hidden()
    page.fill("#prompt", "side by side")
    page.fill("#seed", "5")
    go(page)
    sent = [BLUE, GREEN, WHITE]
    made = after(page)
    assert np.array_equal(made, asked(hills, sent, prompt="side by side", seed="5"))
    assert made.shape[0] > made.shape[1], "of the aspect of the first"
    expect(page.locator("#details dl")).to_contain_text("OperationEdit")
    line = copied(page, "curl")
    assert "-F 'image=@blue.png' -F 'image=@green.png' -F 'image=@white.png'" in line
    assert "--form-string 'operation=edit'" in line
    assert "size=" not in line
    # Other operations take the first alone.
    choose(page, "vary")
    assert names(page) == ["blue"]
    expect(page.get_by_role("button", name="Another")).to_be_visible()
    choose(page, "edit")
    assert names(page) == ["blue", "green", "white"]
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#add-note")).to_have_text("3 / 3")


def test_an_edit_has_another_size_where_one_is_chosen(page: Page, hills: Service) -> None:
    start_from(page, RED)
    page.fill("#prompt", "square")
    page.fill("#seed", "5")
    expect(page.locator("#shapes :checked")).to_have_value("automatic")
    expect(page.locator("#sides")).to_be_hidden()
    page.get_by_role("radio", name="1:1").check()
    go(page)
    assert np.array_equal(
        after(page), asked(hills, [RED], prompt="square", seed="5", size="128x128")
    )
    before = seen(page, ".compare img:first-child")
    assert before.shape == (128, 128, 4)
    assert not before[:30].any(), "the picture before keeps its own shape"
    assert before[64, 64].tolist() == [200, 30, 30, 255]
    assert "--form-string 'size=128x128'" in copied(page, "curl")
    page.get_by_role("radio", name="As the picture").check()
    page.click("#draw")
    page.locator("#draw:visible").wait_for()
    height, width, _ = after(page).shape
    assert width == 2 * height


def test_a_drawn_picture_is_edited_by_new_words(page: Page) -> None:
    page.get_by_role("radio", name="16:9").check()
    draw(page, "green hills")
    page.locator("#draw:visible").wait_for()
    page.get_by_role("button", name="Start from this").click()
    expect(page.locator("#prompt")).to_have_value("")  # not what the picture shows
    choose(page, "restyle")
    expect(page.locator("#prompt")).to_have_value("green hills")
    expect(page.locator("#shape-field")).to_be_hidden()  # the picture decides
    go(page)
    assert after(page).shape == (96, 176, 4)


def test_only_what_is_painted_is_regenerated_of_a_wide_picture(page: Page) -> None:
    picture = noise(176, 96)
    start_from(page, picture)
    choose(page, "inpaint")
    page.locator("#brush-size").evaluate(SET, 10)
    box = page.locator(".mask").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(176 / 96, rel=0.02)
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.up()
    page.locator("#parameter-strength").evaluate(SET, 1)
    go(page)
    changed = (after(page) != picture).any(axis=2)
    assert changed[46:50, 130:134].all()
    assert not changed[:, :100].any()
    assert not changed[:20].any()
    choose(page, "outpaint")
    for side in ("Left", "Right", "Bottom"):
        page.get_by_role("checkbox", name=side).uncheck()
    page.locator("#amount").evaluate(SET, 100)
    assert ratio(page.locator("#frame .sheet")) == pytest.approx(176 / 192, rel=0.02)
    page.click("#draw")
    page.locator("#draw:visible").wait_for()
    made = after(page)
    assert made.shape == (192, 176, 4)
    assert np.array_equal(made[96:], picture)


# Long runs


def test_a_long_run_says_how_long_it_takes_and_can_be_stopped(page: Page, hills: Service) -> None:
    before = hills.metric("cancellations_total")
    page.click("#fine summary")
    page.locator("#parameter-pause").evaluate(SET, 0.4)
    page.locator("#parameter-steps").evaluate(SET, 60)
    page.get_by_role("radio", name="9:16").check()
    page.fill("#prompt", "green hills")
    page.press("#prompt", "Enter")
    frame = page.locator("#frame")
    page.locator("#frame .mosaic").wait_for()
    assert ratio(frame) == pytest.approx(96 / 176, rel=0.02), "before there is a preview"
    count = page.locator("#details .count")
    expect(count).to_have_text(
        re.compile(r"^Step \d+ of 60 · about [12]\d s left$"), timeout=10_000
    )
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuetext", re.compile("s left"))
    expect(page).to_have_title(re.compile(r"^\d+ % – Tessera$"))
    page.locator("#frame img").wait_for()
    assert ratio(frame) == pytest.approx(96 / 176, rel=0.02)
    assert seen(page, "#frame img").shape == (176, 96, 4)
    page.locator("#details").get_by_role("button", name="Stop").click()
    page.locator("#draw:visible").wait_for()
    expect(page).to_have_title(re.compile("^Tessera"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and hills.metric("rows_running"):
        time.sleep(0.05)
    assert hills.metric("rows_running") == 0
    assert hills.metric("cancellations_total") > before


def test_who_waits_sees_how_many_others_do(page: Page, hills: Service) -> None:
    with contextlib.ExitStack() as crowd:
        for k in range(3):
            body = {"prompt": "crowd", "n": 10, "steps": 40, "pause": 0.2, "seed": 100 * k}
            crowd.enter_context(connect(hills)).sendall(posted(body))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not hills.metric("rows_waiting"):
            time.sleep(0.05)
        assert hills.metric("rows_waiting") > 5
        page.fill("#prompt", "green hills")
        page.press("#prompt", "Enter")
        count = page.locator("#details .count")
        expect(count).to_have_text(re.compile(r"^Waiting · \d+ others in the queue"))
        page.keyboard.press("Escape")
        page.locator("#draw:visible").wait_for()


LEFT = """async () => {
  const {Pace, about, duration} = await import("/web/page/pace.js");
  const pace = new Pace();
  const left = [pace.left(50, 0)];
  for (let step = 1; step <= 10; step += 1) {
    pace.record(step, 100 + 6 * step);
    left.push(pace.left(50, 100 + 6 * step));
  }
  left.push(pace.left(50, 163)); // between two steps
  const exact = [0.123, 59.9, 60, 3600].map((seconds) => duration(seconds));
  return [left, [2, 47, 95, 133, 3700, 12_000].map(about), exact];
}"""


def test_the_time_left_is_the_pace_of_the_latest_steps(page: Page) -> None:
    left, about, exact = page.evaluate(LEFT)
    assert left == [None, None, *(6 * (50 - step) for step in range(2, 11)), 240 - 3]
    assert about == ["2 s", "45 s", "1 min 40 s", "2 min 10 s", "1 h 2 min", "3 h 20 min"]
    assert exact == ["0.1 s", "59.9 s", "1 min", "1 h 0 min"]


# Errors


def test_errors_stand_beside_the_field_that_they_name(open_page: Open, hills: Service) -> None:
    def generous(route: Route) -> None:
        """The page offers what the service does not have."""
        answer = route.fetch()
        models = answer.json()
        for model in models["data"]:
            model["loras"].append("gone")
            model["sizes"]["multiple"] = 8
            model["parameters"][0]["maximum"] = 500
        route.fulfill(response=answer, json=models)

    page = opened(open_page, hills, expected="Failed to load resource")

    def problem(field: str) -> Locator:
        return page.locator(f"{field} [role=alert], {field} + [role=alert]")

    def drawn() -> None:
        page.click("#draw")
        page.locator("#stop:visible").or_(page.locator("[role=alert].problem")).first.wait_for()
        page.locator("#draw:visible").wait_for()

    page.route("**/v1/models", generous)
    page.reload()
    page.locator("#state[data-state=ready]").wait_for()
    page.fill("#prompt", "very " * 30 + "green")
    drawn()
    expect(problem("#prompt-field")).to_have_text(
        "Prompt: too long. Has 31 tokens, hills takes at most 20"
    )
    assert page.evaluate("() => document.activeElement.id") == "prompt"
    expect(page.locator("#prompt")).to_have_attribute("aria-invalid", "true")
    page.fill("#prompt", "green hills")
    expect(problem("#prompt-field")).to_have_count(0)
    expect(page.locator("#prompt")).not_to_have_attribute("aria-invalid", "true")

    page.click("#fine summary")
    page.fill("#negative-prompt", "labyrinth")
    page.click("#fine summary")  # what is wrong in it opens it
    drawn()
    expect(problem("#negative-prompt-field")).to_contain_text("There is no labyrinth")
    expect(page.locator("#negative-prompt")).to_be_focused()
    page.fill("#negative-prompt", "")

    page.select_option("#lora", "gone")
    drawn()
    expect(problem("#lora-field")).to_contain_text("This adapter is not there any more")
    expect(problem("#lora-field")).to_contain_text("it has engraving, pastel")
    page.select_option("#lora", "")

    page.fill("#width", "120")
    drawn()
    expect(problem("#shape-field")).to_contain_text("Size: not accepted. 120x128 was given")
    expect(page.locator("#width")).to_be_focused()
    page.fill("#width", "128")
    expect(problem("#shape-field")).to_have_count(0)

    page.locator("#parameter-steps").evaluate(SET, 400)
    drawn()
    steps = page.locator(".parameter", has=page.locator("#parameter-steps"))
    expect(steps.get_by_role("alert")).to_contain_text("Steps: not accepted. 400 was given")
    expect(page.locator("#error")).to_be_empty()
    page.unroute_all(behavior="wait")


# Languages and accessibility

KEYS = """async () => {
  const keys = (texts, path) => Object.entries(texts).flatMap(([name, text]) =>
    typeof text === "object" ? keys(text, `${path}.${name}`) : [`${path}.${name}`]);
  const [{EN}, {ZH}] = await Promise.all([import("/web/i18n/en.js"), import("/web/i18n/zh.js")]);
  const places = (text) => (text.match(/{\\w+}/g) ?? []).sort().join();
  const at = (texts, key) => key.split(".").slice(1).reduce((all, part) => all[part], texts);
  const en = keys(EN, "");
  return [en, keys(ZH, ""), en.filter((key) => places(at(EN, key)) !== places(at(ZH, key)))];
}"""


def test_both_languages_have_the_same_texts(page: Page) -> None:
    english, chinese, unlike = page.evaluate(KEYS)
    assert sorted(english) == sorted(chinese)
    assert unlike == [], "these name other values in Chinese than in English"


def test_axe_finds_nothing_in_what_such_models_take(
    open_page: Open, hills: Service, axe_source: str
) -> None:
    for scheme, width, locale in (("light", 1280, "en-GB"), ("dark", 390, "zh-CN")):
        page = opened(
            open_page,
            hills,
            expected="400",
            color_scheme=scheme,
            viewport={"width": width, "height": 860},
            locale=locale,
            bypass_csp=True,
        )
        page.evaluate(axe_source)
        page.click("#fine summary")
        page.select_option("#lora", "pastel")
        page.locator("#shapes label").nth(3).click()
        page.fill("#width", "100")
        assert violations(page) == []
        page.locator("#shape-problem button").click()
        draw(page, "green hills")
        page.locator("#draw:visible").wait_for()
        assert violations(page) == []
        page.fill("#prompt", "very " * 30)
        page.press("#prompt", "Enter")
        page.locator(".problem[role=alert]").wait_for()
        assert violations(page) == []
        page.fill("#prompt", "")
        page.locator("#parameter-pause").evaluate(SET, 0.4)
        page.locator("#parameter-steps").evaluate(SET, 60)
        page.fill("#prompt", "green")
        page.press("#prompt", "Enter")
        page.locator("#details .count").wait_for()
        page.locator("#frame img").wait_for()
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.locator("#parameter-pause").evaluate(SET, 0)
        page.locator("#parameter-steps").evaluate(SET, 4)
        add(page, ("red", RED), ("green", GREEN), place="#start")
        page.locator("#editor").wait_for()
        assert violations(page) == []
        page.fill("#prompt", "side by side")
        if width > 600:
            go(page)
            assert violations(page) == []
        page.context.close()
