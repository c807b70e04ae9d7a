"""If these fail, people cannot ask what a picture shows, nor set how tokens are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.actions import SET, choose, draw, noise, png, seen, start_from, violations
from tests.browser.conftest import Open, Start
from tests.service.running import Service
from tests.tiny import PROMPTS, tiny_flow, tiny_gpt


@pytest.fixture(scope="module")
def both(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A flow, which is the default and cannot describe, and a gpt, which can."""
    flow, gpt = (tmp_path_factory.mktemp("models") / name for name in ("emoji-tiny", "tiny-gpt"))
    tiny_gpt(gpt)
    with start(MODELS=f"{tiny_flow(flow)},{gpt}") as service:
        yield service.await_ready()


def opened(open_page: Open, service: Service, **options: Any) -> Page:
    page = open_page(service.url, **options)
    page.locator("#state[data-state=ready]").wait_for()
    return page


def describe(page: Page) -> None:
    choose(page, "describe")
    page.click("#draw")
    page.locator("#details .labels").wait_for()
    page.locator("#draw:visible").wait_for()


def asked(service: Service, **fields: str) -> Any:
    answer = httpx.post(
        f"{service.url}/v1/images/describe", data=fields, files={"image": png(noise())}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_picture_is_described(open_page: Open, both: Service) -> None:
    page = opened(open_page, both)
    start_from(page, noise())
    assert page.input_value("#model") == "emoji-tiny"  # which cannot: the one that can does
    describe(page)
    for field in ("#prompt", "#seed", "#count", "#parameter-guidance", "#size"):
        expect(page.locator(field)).to_be_hidden()
    answer = asked(both)
    assert answer["caption"] == ""  # with random weights
    expect(page.locator("#details .title")).to_have_text("No caption found")
    expect(page.get_by_role("button", name="Draw this caption")).to_have_count(0)
    rows = page.locator("#details .labels li")
    expect(rows).to_have_count(len(PROMPTS))
    for row, label in zip(rows.all(), answer["labels"], strict=True):
        expect(row.locator("span").first).to_have_text(label["label"])
        width = float(row.evaluate("(node) => node.style.getPropertyValue('--share')"))
        assert width == pytest.approx(label["probability"])
    expect(page.locator("#details dd").first).to_have_text("tiny-gpt")
    expect(page.locator("#frame .sheet img")).to_be_visible()

    page.get_by_role("button", name="curl").click()
    line: str = page.evaluate("() => navigator.clipboard.readText()")
    assert line.startswith("curl -fsS -F 'image=@noise.png' --form-string 'model=tiny-gpt' http")


def test_its_caption_is_drawn(open_page: Open, both: Service) -> None:
    def better(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"caption": "a red apple, noto style"})

    page = opened(open_page, both)
    page.route("**/v1/images/describe", better)
    start_from(page, noise())
    describe(page)
    expect(page.locator("#details .title")).to_have_text("a red apple, noto style")
    page.get_by_role("button", name="Draw this caption").click()
    page.locator("#details .buttons").get_by_text("Download").wait_for()
    expect(page.locator("#editor")).to_be_hidden()
    expect(page.locator("#details .title")).to_have_text("a red apple, noto style")
    expect(page.locator("#details dl")).to_contain_text("emoji-tiny")


def test_labels_can_be_given(open_page: Open, both: Service) -> None:
    page = opened(open_page, both, expected="400")
    start_from(page, noise())
    choose(page, "describe")
    page.fill("#labels", "red apple，cat、 a dog")
    describe(page)
    answer = asked(both, labels="red apple,cat,a dog")
    expect(page.locator("#details .labels li span:first-child")).to_have_text(
        [label["label"] for label in answer["labels"]]
    )
    page.fill("#labels", "\n".join(f"label {number}" for number in range(65)))
    page.click("#draw")
    expect(page.locator("#labels-error")).to_contain_text("List of labels")
    expect(page.locator("#labels-error")).to_contain_text("at most 64")


def test_describing_can_be_stopped(open_page: Open, both: Service) -> None:
    page = opened(open_page, both)
    page.route("**/v1/images/describe", lambda route: None)  # never answered
    start_from(page, noise())
    choose(page, "describe")
    page.click("#draw")
    expect(page.locator("#details")).to_contain_text("Looking…")
    page.keyboard.press("Escape")
    page.locator("#draw:visible").wait_for()
    expect(page.locator("#details .labels")).to_have_count(0)
    expect(page.locator("#error")).to_be_empty()
    page.unroute("**/v1/images/describe")
    describe(page)


def test_tokens_are_drawn_as_they_are_set(open_page: Open, both: Service) -> None:
    page = opened(open_page, both)
    page.click("#fine summary")
    for name in ("temperature", "top_k", "top_p"):
        expect(page.locator(f"#parameter-{name}")).to_have_count(0)  # flow draws no tokens
    page.select_option("#model", "tiny-gpt")
    expect(page.locator("#parameter-steps")).to_have_count(0)  # one for each place: no choice
    page.locator("#parameter-temperature").evaluate(SET, 0.5)
    page.locator("#parameter-top_k").evaluate(SET, 3)
    page.locator("#parameter-top_p").evaluate(SET, 0.9)
    page.uncheck("#transparent")
    draw(page, "red apple")
    for fact in ("Temperature0.5", "Top-k3", "Top-p0.9"):
        expect(page.locator("#details dl")).to_contain_text(fact)
    page.get_by_role("button", name="Link", exact=True).click()
    link: str = page.evaluate("() => navigator.clipboard.readText()")
    for field in ("temperature=0.5", "top_k=3", "top_p=0.9"):
        assert field in link
    served = Image.open(BytesIO(httpx.get(link, timeout=60).content)).convert("RGBA").tobytes()
    assert seen(page, "#frame img").tobytes() == served
    page.get_by_role("button", name="<tessera-image>").click()
    element: str = page.evaluate("() => navigator.clipboard.readText()")
    assert 'temperature="0.5" top_k="3" top_p="0.9"' in element
    # All of it comes back with the picture's prompt.
    page.locator("#parameter-temperature").evaluate(SET, 1)
    page.get_by_role("button", name="Use its prompt").click()
    expect(page.locator("#parameter-temperature-number")).to_have_value("0.5")


def test_the_lower_half_is_drawn_by_tokens_too(open_page: Open, both: Service) -> None:
    """Tokens are kept or regenerated, nothing between: there is no strength to choose."""
    page = opened(open_page, both)
    page.click("#fine summary")
    page.select_option("#model", "tiny-gpt")
    start_from(page, noise())
    choose(page, "inpaint")
    expect(page.locator("#parameter-strength")).to_have_count(0)
    box = page.locator(".mask").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 3 * box["height"] / 4)
    page.click("#draw")
    page.locator(".compare").wait_for()
    page.locator("#draw:visible").wait_for()
    changed = (seen(page, ".compare .after") != noise()).any(axis=2)
    assert changed[24, 24]
    assert not changed[:16].any()


def test_axe_finds_nothing_in_what_is_described(
    open_page: Open, both: Service, axe_source: str
) -> None:
    for scheme, width, locale in (("light", 1280, "en-GB"), ("dark", 390, "zh-CN")):
        size = {"width": width, "height": 860}
        page = opened(
            *(open_page, both),
            color_scheme=scheme,
            viewport=size,
            locale=locale,
            bypass_csp=True,
        )
        page.evaluate(axe_source)
        start_from(page, noise())
        choose(page, "describe")
        assert violations(page) == []
        describe(page)
        assert violations(page) == []
