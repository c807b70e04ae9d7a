"""If these fail, people who open the page cannot draw, or cannot use what they drew."""

from __future__ import annotations

import base64
import json
import re
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from app.generation.resolve import seed_of
from tests.browser.actions import PIXELS, SET, draw, violations
from tests.browser.conftest import EXAMPLES, MANY_STEPS, Open, Start
from tests.ripples import FOLDER, install
from tests.service.running import Service, running

WATCH_FRAME = """() => {
  window.seen = new Set();
  const look = () => {
    const image = document.querySelector("#viewer.busy #frame img");
    if (image) window.seen.add(image.src);
  };
  const options = {subtree: true, childList: true, attributes: true};
  new MutationObserver(look).observe(document.querySelector("#viewer"), options);
}"""


def test_previews_come_and_the_last_picture_is_the_servers(page: Page) -> None:
    page.evaluate(WATCH_FRAME)
    page.click("#fine summary")
    page.uncheck("#transparent")
    # The tiny model takes a millisecond a step: with fewer, all is over before a page can look.
    page.locator("#parameter-steps").evaluate(SET, 600)
    draw(page, "blue square")
    assert page.input_value("#prompt") == "blue square, fluent 3d style"
    assert len(page.evaluate("() => [...window.seen]")) >= 2, "fewer than two previews were shown"

    page.get_by_role("button", name="Link", exact=True).click()
    link: str = page.evaluate("() => navigator.clipboard.readText()")
    answer = httpx.get(link, timeout=60)
    assert answer.status_code == 200, answer.text
    served = Image.open(BytesIO(answer.content)).convert("RGBA").tobytes()
    assert bytes(page.locator("#frame img").evaluate(PIXELS)) == served

    # The page's own address says what it shows.
    assert "prompt=blue+square" in page.url
    # What was drawn is still there after a visit elsewhere, and nothing is asked for again.
    page.goto(page.url.partition("?")[0])
    tile = page.locator("#tiles button")
    expect(tile).to_have_count(1)
    expect(tile).to_have_attribute("aria-label", "blue square, fluent 3d style, seed " + seed(link))


def seed(link: str) -> str:
    return link.partition("/v1/images/")[2].partition(".")[0]


def test_stopping_frees_the_rows(page: Page, service: Service) -> None:
    before = service.metric("cancellations_total")
    page.click("#fine summary")
    page.locator("#parameter-steps").evaluate(SET, MANY_STEPS)
    page.locator("#count label").last.click()
    page.fill("#prompt", "green circle")
    page.press("#prompt", "Enter")
    page.locator("#frame img").wait_for()
    page.keyboard.press("Escape")
    page.locator("#draw").wait_for()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and service.metric("rows_running"):
        time.sleep(0.05)
    assert service.metric("rows_running") == 0
    assert service.metric("rows_waiting") == 0
    assert service.metric("cancellations_total") > before, "all were drawn to the end"


def test_several_pictures_and_what_can_be_done_with_them(page: Page) -> None:
    page.locator("#count label").nth(1).click()
    page.fill("#seed", "9007199254740991")
    draw(page, "red apple")
    expect(page.locator("#run button:not(.busy)")).to_have_count(2)
    page.locator("#run button").nth(1).click()
    # Picture k is that of seed + k, also past the last seed.
    expect(page.locator("#details dd").first).to_have_text("0")

    expect(page.locator("#details")).to_contain_text("128 × 128")

    page.get_by_role("button", name="<img>").click()
    line: str = page.evaluate("() => navigator.clipboard.readText()")
    assert line.endswith('width="128" height="128" alt="red apple, fluent 3d style">')
    page.get_by_role("button", name="curl").click()
    line = page.evaluate("() => navigator.clipboard.readText()")
    assert line.startswith("curl -fsS -o red-apple-fluent-3d-style-0.png 'http://")
    page.get_by_role("button", name="<tessera-image>").click()
    line = page.evaluate("() => navigator.clipboard.readText()")
    assert 'seed="0"' in line
    assert "tessera.js" in line
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "red-apple-fluent-3d-style-0.png"
    with Image.open(download.value.path()) as picture:
        assert picture.size == (128, 128)

    page.fill("#prompt", "")
    page.get_by_role("button", name="Use its prompt").click()
    assert page.input_value("#prompt") == "red apple, fluent 3d style"
    assert page.input_value("#seed") == "0"
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#tiles button")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("#gallery")).to_be_hidden()


def test_a_file_is_named_after_its_format(page: Page) -> None:
    file = BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "WEBP")
    image = {"index": 0, "seed": 7, "format": "webp", "width": 16, "height": 16}
    image |= {"url": "http://127.0.0.1/v1/images/7.webp"}
    image |= {"b64_json": base64.b64encode(file.getvalue()).decode()}
    stream = f'event: image\ndata: {json.dumps(image)}\n\nevent: done\ndata: {{"images": 1}}\n\n'
    page.route(
        "**/v1/images", lambda route: route.fulfill(body=stream, content_type="text/event-stream")
    )
    draw(page, "red square, noto style")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "red-square-noto-style-7.webp"


def test_a_key_is_asked_for_and_a_wrong_one_is_refused_in_words(
    locked: Service, open_page: Open
) -> None:
    page = open_page(locked.url, expected="401")
    page.fill("#key", "open barley")
    page.fill("#prompt", "red apple")
    page.press("#prompt", "Enter")
    shown = page.locator("#error")
    expect(shown).to_contain_text("A key is needed to draw here")
    expect(shown).to_contain_text("is not known here")
    page.fill("#key", "open sesame")
    page.get_by_role("button", name="Try again").click()
    page.locator("#details dl").wait_for()
    expect(shown).to_be_empty()
    page.get_by_role("button", name="Link", exact=True).click()
    signed: str = page.evaluate("() => navigator.clipboard.readText()")
    assert httpx.get(signed, timeout=60).status_code == 200, (
        "a copied link must work without the key"
    )


def test_it_offers_what_the_service_allows(start: Start, open_page: Open) -> None:
    with start(MAX_N="3", MAX_SIZE="40", MAX_PROMPT_CHARACTERS="50", DOCS_ACCESS="off") as service:
        page = open_page(service.await_ready().url)
        page.locator("#state[data-state=ready]").wait_for()
        expect(page.get_by_role("link", name="API")).to_be_hidden()
        expect(page.get_by_role("radio")).to_have_count(3)
        sizes = page.locator("#size option").evaluate_all("(all) => all.map(({value}) => value)")
        assert sizes == ["16", "32"]
        page.get_by_role("radio").last.check(force=True)
        expect(page.locator("#prompt")).to_have_attribute("maxlength", "50")
        draw(page, "red apple")
        page.get_by_role("button", name="3 more").click()
        expect(page.locator("#run button:not(.busy)")).to_have_count(3)
        expect(page.locator("#tiles button")).to_have_count(6)


def test_errors_are_in_words_and_the_page_goes_on(open_page: Open, service: Service) -> None:
    page = open_page(service.url, expected="400")
    page.locator("#state[data-state=ready]").wait_for()
    page.fill("#prompt", "very " * 150 + "red")
    page.press("#prompt", "Enter")
    problem = page.get_by_role("alert").filter(has_text="too long")
    expect(problem).to_have_text(re.compile("Has 764 tokens, emoji-tiny takes at most 48"))
    expect(page.locator("#prompt")).to_have_accessible_description(re.compile("too long"))
    expect(page.locator("#error")).to_be_empty()
    draw(page, "red apple")
    expect(problem).to_have_count(0)


def test_a_full_queue_and_a_lost_connection_are_explained_and_overcome(
    open_page: Open, service: Service
) -> None:
    page = open_page(service.url, expected="Failed to load resource")
    page.locator("#state[data-state=ready]").wait_for()
    draw(page, "blue square")
    error = {"message": "the queue is full", "type": "server_error", "code": "queue_full"}
    full = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": error}}
    shown = page.locator("#error")
    page.route("**/v1/images", lambda route: route.fulfill(**full))
    page.press("#prompt", "Enter")
    expect(shown).to_contain_text("The queue is full")
    expect(shown.get_by_role("button", name="Try again in 1 s")).to_be_disabled()
    # What was there before is there again.
    expect(page.locator("#details .title")).to_have_text("blue square, fluent 3d style")
    page.unroute_all()
    page.route("**/v1/images", lambda route: route.abort())
    shown.get_by_role("button", name="Try again", exact=True).click()
    expect(shown).to_contain_text("The service does not answer")
    page.unroute_all()
    broken = 'event: progress\ndata: {"index": 0, "step": 1, "steps": 4}\n\n'
    page.route(
        "**/v1/images", lambda route: route.fulfill(body=broken, content_type="text/event-stream")
    )
    shown.get_by_role("button", name="Try again", exact=True).click()
    expect(shown).to_contain_text("The connection broke off")
    page.unroute_all()
    shown.get_by_role("button", name="Try again", exact=True).click()
    expect(shown).to_be_empty()
    page.locator("#draw").wait_for()
    expect(shown).to_be_empty()


def test_everything_is_within_reach_of_the_keyboard(page: Page) -> None:
    page.locator("body").evaluate("() => document.activeElement.blur()")
    reached: list[str] = []

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("() => document.activeElement.outerHTML.slice(0, 60)"))
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} was not among {reached}")

    tab_to(".skip")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    tab_to("#prompt")
    page.keyboard.type("red apple")
    tab_to("[data-style=noto]")
    page.keyboard.press("Space")
    assert page.input_value("#prompt") == "red apple, noto style"
    tab_to("#random-seed")
    page.keyboard.press("Enter")
    assert page.input_value("#seed").isdecimal()
    tab_to("input[name=n]")
    page.keyboard.press("ArrowRight")
    tab_to("#draw")
    page.keyboard.press("Enter")
    expect(page.locator("#run button:not(.busy)")).to_have_count(2)
    tab_to(".copies button")
    tab_to("#run button")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#run button").nth(1)).to_have_attribute("aria-pressed", "true")
    tab_to("#tiles button")


def style(name: str, chinese: str) -> dict[str, str]:
    label, prompt = name.title(), f" in {name}"
    return {"name": name, "label": label, "prompt": prompt, "chinese": chinese}


def test_styles_and_suggestions_are_the_models_own(open_page: Open, service: Service) -> None:
    others = [style(f"style {number}", f"，样式{number}") for number in range(6)]
    own = [style("ink (black)", "，水墨"), style("black", "，黑色"), *others]

    def styled(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        [first] = models["data"]
        last = first | {"id": "plain", "styles": [], "examples": []}
        models["data"] = [first, first | {"id": "ink", "styles": own}, last]
        route.fulfill(response=answer, json=models)

    page = open_page("about:blank")
    page.route("**/v1/models", styled)
    page.goto(service.url)
    page.locator("#state[data-state=ready]").wait_for()
    chips, pressed = page.locator("#styles button"), page.locator("#styles [aria-pressed=true]")
    suggested = page.locator("#suggestion-list button")
    prompt = page.locator("#prompt")
    expect(chips).to_have_text(["Fluent 3D", "Noto"])
    expect(pressed).to_have_text("Fluent 3D")  # the first
    expect(suggested).to_have_text(EXAMPLES[:7])
    expect(page.locator("#about-model")).to_have_text("random weights for tests")
    page.click("#more-suggestions")
    expect(suggested).to_have_text(EXAMPLES[7:9])
    chips.nth(1).click()
    page.fill("#prompt", "hill ,noto  Style")
    expect(pressed).to_have_text("Noto")

    # What the model before was asked for means nothing to this one.
    page.select_option("#model", "ink")
    expect(prompt).to_have_value("hill")
    expect(chips).to_have_text([each["label"] for each in own])
    expect(pressed).to_have_text("Ink (Black)")
    for width, height in ((1280, 800), (340, 800)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        box = page.locator("#prompt-field").bounding_box()
        assert box is not None
        for chip in chips.all():
            inside = chip.bounding_box()
            assert inside is not None
            assert inside["x"] + inside["width"] < box["x"] + box["width"]
            assert inside["height"] >= 32
    page.fill("#prompt", "hill in ink  (black)")
    expect(pressed).to_have_text("Ink (Black)")
    page.locator("[data-style=black]").click()
    expect(prompt).to_have_value("hill in black")
    page.fill("#prompt", "hill")  # its style was deleted by hand
    expect(pressed).to_have_count(0)
    page.fill("#prompt", "山")
    page.locator("[data-style=black]").click()
    expect(prompt).to_have_value("山，黑色")

    page.select_option("#model", "plain")
    expect(prompt).to_have_value("山")
    expect(page.locator("#styles")).to_be_hidden()
    expect(page.locator("#suggestions")).to_be_hidden()
    page.select_option("#model", "ink")
    expect(pressed).to_have_text("Black")
    page.locator("#language").click()
    expect(suggested).to_have_text(EXAMPLES[9:])
    expect(page.locator("#about-model")).to_have_text("测试用的随机权重")
    page.unroute_all(behavior="wait")


def test_an_unknown_parameter_has_a_control_and_is_sent(open_page: Open, service: Service) -> None:
    """The page knows no family: what a model takes, it reads from the model's table."""
    waves = {"name": "waves", "minimum": 1, "maximum": 12, "default": 5, "step": 1}
    length = {"name": "wave_length", "minimum": 0, "maximum": 1, "default": None, "step": 0.05}
    fixed = {"name": "depth", "minimum": 3, "maximum": 3, "default": 3, "step": 1}

    def unknown(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        for model in models["data"]:
            model["parameters"] = [
                parameter
                | {"description": f"About {parameter['name']}.", "operations": ["generate"]}
                | {"defaults": {}}
                for parameter in (waves, length, fixed)
            ]
            model["sizes"] |= {"width": 24, "height": 16, "others": [[16, 24]]}
            model["negative_prompt"] = True
            model |= {"styles": [], "examples": []}
        route.fulfill(response=answer, json=models)

    def sent() -> dict[str, Any]:
        with page.expect_request("**/v1/images") as request:
            page.click("#draw")
        body = request.value.post_data_json
        assert isinstance(body, dict)
        return body

    page = open_page("about:blank", expected="Failed to load resource")
    page.route("**/v1/models", unknown)
    page.route("**/v1/images", lambda route: route.abort())
    page.goto(service.url)
    page.locator("#state[data-state=ready]").wait_for()
    expect(page.locator("#suggestions")).to_be_hidden()
    expect(page.locator("#styles")).to_be_hidden()
    page.click("#fine summary")
    slider, number = (
        page.get_by_role("slider", name="Waves"),
        page.locator("#parameter-waves-number"),
    )
    expect(slider).to_have_accessible_description("About waves.")
    page.fill("#prompt", "sea")
    expect(number).to_have_value("5")
    assert sent()["waves"] == 5
    slider.press("ArrowRight")
    expect(number).to_have_value("6")
    number.fill("40")
    number.press("Tab")
    expect(number).to_have_value("12")
    expect(page.get_by_role("slider", name="Depth")).to_have_count(0)
    expect(page.locator("#parameters")).to_contain_text("Depth3")
    expect(page.get_by_role("slider", name="Wave length")).to_be_hidden()
    page.fill("#negative-prompt", "clouds")
    page.select_option("#size", "16x24")
    body = sent()
    fields = {"prompt": "sea", "negative_prompt": "clouds", "size": "16x24", "waves": 12}
    assert body.items() >= fields.items()
    assert "wave_length" not in body, "left to the service until it is set"
    assert "depth" not in body, "there is nothing to choose"
    page.get_by_label("Automatic").uncheck()
    page.get_by_role("slider", name="Wave length").press("End")
    assert sent()["wave_length"] == 1
    page.unroute_all(behavior="wait")  # after an error the page asks for the models again


def test_a_family_of_another_package_has_its_controls(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sizes are not square, and no code of the page knows its parameter."""
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path)))
    with running(FOLDER, tmp_path / "log") as ripples:
        page = open_page(ripples.await_ready().url)
        page.locator("#state[data-state=ready]").wait_for()
        page.click("#fine summary")
        expect(page.get_by_role("slider", name="Waves")).to_be_visible()
        page.locator("#parameter-waves-number").fill("12")
        page.fill("#prompt", "sea")
        with page.expect_response("**/v1/images") as answer:
            page.press("#prompt", "Enter")
        body = answer.value.request.post_data_json
        assert isinstance(body, dict)
        assert body["waves"] == 12
        page.locator("#details dl").wait_for()


def test_it_speaks_chinese(open_page: Open, service: Service) -> None:
    page = open_page(service.url, locale="zh-CN")
    page.locator("#state[data-state=ready]").wait_for()
    expect(page.locator("h1")).to_have_text(re.compile("想画什么"))
    page.get_by_role("button", name="红苹果").click()
    page.locator("#details dl").wait_for()
    assert page.input_value("#prompt") == "红苹果，fluent 3d 风格"
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("What should it draw?")
    assert page.evaluate("() => document.documentElement.lang") == "en"


def test_a_shared_address_draws_what_it_says(open_page: Open, service: Service) -> None:
    page = open_page(f"{service.url}/?prompt=green+circle&seed=ada")
    page.locator("#details dl").wait_for()
    expect(page.locator("#details .title")).to_have_text("green circle")
    ada = seed_of("ada")
    expect(page.locator("#details dd").first).to_have_text(str(ada))
    assert page.input_value("#seed") == "", "the next picture should be a new one"
    assert page.url.endswith(f"?prompt=green+circle&seed={ada}")


def test_axe_finds_nothing(open_page: Open, service: Service, axe_source: str) -> None:
    for scheme, width in (("light", 1280), ("dark", 390)):
        size = {"width": width, "height": 860}
        page = open_page(
            service.url, expected="400", color_scheme=scheme, viewport=size, bypass_csp=True
        )
        page.locator("#state[data-state=ready]").wait_for()
        page.evaluate(axe_source)
        assert violations(page) == []
        page.click("#fine summary")
        page.locator("#count label").nth(1).click()
        draw(page, "red apple")
        page.fill("#prompt", "very " * 150)
        page.press("#prompt", "Enter")
        page.locator(".problem[role=alert]").wait_for()
        assert violations(page) == []
