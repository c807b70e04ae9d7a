"""If these fail, people cannot read the interface: offline, in the dark, or behind a key."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.service.running import Service

ROUTES = ["/v1/images", "/v1/images/{seed}.{format}", "/v1/images/generations", "/v1/models"]


def routes(page: Page) -> list[str]:
    """The paths that are listed, once they are."""
    page.locator(".opblock").first.wait_for()
    paths: list[str] = page.locator(".opblock-summary-path").evaluate_all(
        "(paths) => paths.map(({dataset}) => dataset.path)"
    )
    return paths


def test_every_route_is_shown_and_can_be_tried(open_page: Open, service: Service) -> None:
    # That nothing is asked of another host, and nothing logged, is checked for every page.
    page = open_page(service.url)
    page.get_by_role("link", name="API").click()
    assert set(ROUTES) <= set(routes(page))
    page.locator(".opblock-post").first.locator(".opblock-summary").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    image = page.locator(".opblock-post .live-responses-table img").first
    image.wait_for()
    assert image.evaluate("(image) => image.naturalWidth") == 16


def test_it_is_dark_where_the_page_is(open_page: Open, service: Service) -> None:
    for scheme, dark in (("dark", True), ("light", False)):
        page = open_page(f"{service.url}/docs", color_scheme=scheme)
        routes(page)
        colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (colour != "rgb(255, 255, 255)") == dark


def test_behind_a_key_it_asks_for_the_key(locked: Service, open_page: Open) -> None:
    page = open_page(f"{locked.url}/docs", expected="401")
    key, error = page.get_by_label("API key"), page.locator("#error")
    expect(error).to_contain_text("an API key is needed")
    key.fill("open barley")
    key.press("Enter")
    expect(error).to_contain_text("not known here")
    key.fill("open sesame")
    key.press("Enter")
    assert set(ROUTES) <= set(routes(page))
    expect(key).to_be_hidden()
    expect(error).to_be_empty()
    # The key that opened it is used for what is tried.
    listed = page.locator(".opblock-get", has=page.locator('[data-path="/v1/models"]'))
    listed.locator(".opblock-summary").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status")).to_contain_text(
        "200"
    )
