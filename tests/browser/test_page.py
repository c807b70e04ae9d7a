"""If these fail, people who open the page cannot draw, or cannot use what they drew."""

from __future__ import annotations

import hashlib
import re
import time
from io import BytesIO
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from app.api.seeds import seed_of
from tests.browser.conftest import MANY_STEPS, Open, Start
from tests.service.running import Service

WATCH_FRAME = """() => {
  window.seen = new Set();
  const look = () => {
    const image = document.querySelector("#stage.busy #frame img");
    if (image) window.seen.add(image.src);
  };
  const options = {subtree: true, childList: true, attributes: true};
  new MutationObserver(look).observe(document.querySelector("#stage"), options);
}"""

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


def metric(service: Service, name: str) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def draw(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    page.locator("#facts dl").wait_for()


def test_previews_come_and_the_last_picture_is_the_servers(page: Page) -> None:
    page.evaluate(WATCH_FRAME)
    page.click("#fine summary")
    page.uncheck("#transparent")
    # The tiny model takes a millisecond a step: with fewer, all is over before a page can look.
    page.locator("#steps").evaluate(SET, 600)
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
    before = metric(service, "tessera_cancellations_total")
    page.click("#fine summary")
    page.locator("#steps").evaluate(SET, MANY_STEPS)
    page.locator("#count label").last.click()
    page.fill("#prompt", "green circle")
    page.press("#prompt", "Enter")
    page.locator("#frame img").wait_for()
    page.keyboard.press("Escape")
    page.locator("#draw").wait_for()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and metric(service, "tessera_rows_running"):
        time.sleep(0.05)
    assert metric(service, "tessera_rows_running") == 0
    assert metric(service, "tessera_rows_waiting") == 0
    assert metric(service, "tessera_cancellations_total") > before, "all were drawn to the end"


def test_several_pictures_and_what_can_be_done_with_them(page: Page) -> None:
    page.locator("#count label").nth(1).click()
    page.fill("#seed", "9007199254740991")
    draw(page, "red apple")
    expect(page.locator("#run button:not(.busy)")).to_have_count(2)
    page.locator("#run button").nth(1).click()
    # Picture k is that of seed + k, also past the last seed.
    expect(page.locator("#facts dd").first).to_have_text("0")

    expect(page.locator("#facts")).to_contain_text("128 × 128")

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
    page.get_by_role("button", name="Use its words").click()
    assert page.input_value("#prompt") == "red apple, fluent 3d style"
    assert page.input_value("#seed") == "0"
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#tiles button")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("#gallery")).to_be_hidden()


def test_a_key_is_asked_for_and_a_wrong_one_is_said_to_be_wrong(
    start: Start, open_page: Open
) -> None:
    keys = f"ada={hashlib.sha256(b'open sesame').hexdigest()}"
    with start(API_KEYS=keys, URL_SECRET="a secret that is long enough") as service:
        page = open_page(service.await_ready().url, expected="401")
        page.fill("#key", "open barley")
        page.fill("#prompt", "red apple")
        page.press("#prompt", "Enter")
        trouble = page.locator("#trouble")
        expect(trouble).to_contain_text("A key is needed to draw here")
        expect(trouble).to_contain_text("is not known here")
        page.fill("#key", "open sesame")
        page.get_by_role("button", name="Try again").click()
        page.locator("#facts dl").wait_for()
        expect(trouble).to_be_empty()
        page.get_by_role("button", name="Link", exact=True).click()
        signed: str = page.evaluate("() => navigator.clipboard.readText()")
        assert httpx.get(signed, timeout=60).status_code == 200, (
            "a copied link must work without the key"
        )


def test_it_offers_what_the_service_allows(start: Start, open_page: Open) -> None:
    with start(MAX_N="3", MAX_SIZE="40", MAX_PROMPT_CHARACTERS="50", DOCS_ACCESS="off") as service:
        page = open_page(service.await_ready().url)
        page.locator("#status[data-state=ready]").wait_for()
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
    page.locator("#status[data-state=ready]").wait_for()
    page.fill("#prompt", "very " * 150 + "red")
    page.press("#prompt", "Enter")
    expect(page.locator("#trouble")).to_contain_text("Say it in fewer words")
    draw(page, "red apple")
    expect(page.locator("#trouble")).to_be_empty()


def test_a_full_queue_and_a_lost_connection_are_said_and_overcome(
    open_page: Open, service: Service
) -> None:
    page = open_page(service.url, expected="Failed to load resource")
    page.locator("#status[data-state=ready]").wait_for()
    draw(page, "blue square")
    error = {"message": "the queue is full", "type": "server_error", "code": "queue_full"}
    full = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": error}}
    trouble = page.locator("#trouble")
    page.route("**/v1/images", lambda route: route.fulfill(**full))
    page.press("#prompt", "Enter")
    expect(trouble).to_contain_text("Many people are drawing")
    expect(trouble.get_by_role("button", name="Try again in 1 s")).to_be_disabled()
    # What was there before is there again.
    expect(page.locator("#facts .title")).to_have_text("blue square, fluent 3d style")
    page.unroute_all()
    page.route("**/v1/images", lambda route: route.abort())
    trouble.get_by_role("button", name="Try again", exact=True).click()
    expect(trouble).to_contain_text("The service does not answer")
    page.unroute_all()
    broken = 'event: progress\ndata: {"index": 0, "step": 1, "steps": 4}\n\n'
    page.route(
        "**/v1/images", lambda route: route.fulfill(body=broken, content_type="text/event-stream")
    )
    trouble.get_by_role("button", name="Try again", exact=True).click()
    expect(trouble).to_contain_text("The connection broke off")
    page.unroute_all()
    trouble.get_by_role("button", name="Try again", exact=True).click()
    expect(trouble).to_be_empty()
    page.locator("#draw").wait_for()
    expect(trouble).to_be_empty()


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
    tab_to("#die")
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


def test_it_speaks_chinese(open_page: Open, service: Service) -> None:
    page = open_page(service.url, locale="zh-CN")
    page.locator("#status[data-state=ready]").wait_for()
    expect(page.locator("h1")).to_have_text(re.compile("想画什么"))
    page.get_by_role("button", name="红苹果").click()
    page.locator("#facts dl").wait_for()
    assert page.input_value("#prompt") == "红苹果，fluent 3d 风格"
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("What shall it draw?")
    assert page.evaluate("() => document.documentElement.lang") == "en"


def test_a_shared_address_draws_what_it_says(open_page: Open, service: Service) -> None:
    page = open_page(f"{service.url}/?prompt=green+circle&seed=ada")
    page.locator("#facts dl").wait_for()
    expect(page.locator("#facts .title")).to_have_text("green circle")
    ada = seed_of("ada")
    expect(page.locator("#facts dd").first).to_have_text(str(ada))
    assert page.input_value("#seed") == "", "the next picture should be a new one"
    assert page.url.endswith(f"?prompt=green+circle&seed={ada}")


def test_axe_finds_nothing(open_page: Open, service: Service, axe_source: str) -> None:
    for scheme, width in (("light", 1280), ("dark", 390)):
        size = {"width": width, "height": 860}
        page = open_page(
            service.url, expected="400", color_scheme=scheme, viewport=size, bypass_csp=True
        )
        page.locator("#status[data-state=ready]").wait_for()
        page.evaluate(axe_source)
        assert violations(page) == []
        page.click("#fine summary")
        page.locator("#count label").nth(1).click()
        draw(page, "red apple")
        page.fill("#prompt", "very " * 150)
        page.press("#prompt", "Enter")
        page.locator(".trouble").wait_for()
        assert violations(page) == []


def violations(page: Page) -> list[Any]:
    found: list[Any] = page.evaluate(
        "async () => (await axe.run()).violations"
        ".map(({id, nodes}) => [id, nodes.map(({html, any}) => [html, any.map(a => a.message)])])"
    )
    return found
