"""If these fail, `<tessera-image>` does not work on other people's pages."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Page, expect

from tests.browser.conftest import MANY_STEPS, Elsewhere, Open
from tests.service.running import Service

HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Elsewhere</title><link rel="icon" href="data:,">
<script type="module" src="{url}/tessera.js"></script>
<script>
  window.events = [];
  for (const name of ["progress", "load", "error"]) {{
    document.addEventListener(name, (event) => {{ // "load" does not pass through the window
      if (event.target.localName === "tessera-image") events.push([name, event.detail]);
    }}, true);
  }}
</script>
{body}
"""

READY = "() => events.some(([name]) => name === 'load')"


def visit(open_page: Open, url: str, elsewhere: Elsewhere, service: Service, body: str) -> Page:
    elsewhere.html = HTML.format(url=service.url, body=body)
    return open_page(url, expected="")


def test_plain_it_is_an_image_with_its_address(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    body = '<tessera-image prompt="red fox" seed="ada" size="48"></tessera-image>'
    page = visit(open_page, elsewhere.stranger, elsewhere, service, body)
    page.wait_for_function(READY)
    image = page.get_by_role("img", name="red fox")
    box = image.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (48, 48)
    src: str = page.locator("tessera-image").evaluate("(element) => element.src")
    assert src == f"{service.url}/v1/images/ada.png?prompt=red%20fox&size=48"
    assert image.get_attribute("src") == src
    assert httpx.get(src, timeout=60).status_code == 200
    assert page.evaluate("() => document.querySelector('tessera-image').matches(':state(done)')")
    # Attributes may change at any time; several changes are one request.
    page.evaluate(
        """() => {
          events.length = 0;
          const element = document.querySelector("tessera-image");
          element.setAttribute("seed", "grace");
          element.setAttribute("alt", "");
          element.setAttribute("size", "32");
        }"""
    )
    page.wait_for_function(READY)
    loaded = page.evaluate("() => events.map(([name, detail]) => [name, detail.src])")
    assert loaded == [["load", f"{service.url}/v1/images/grace.png?prompt=red%20fox&size=32"]]


def test_any_attribute_that_is_not_its_own_is_a_field(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    """Parameters of families that this file has never heard of reach the service."""
    body = (
        '<tessera-image class="wide" title="no field" data-x="1" onclick="void 0" seed="7"'
        ' size="48x32" prompt="8" waves="5" background="222222" steps="2" format="webp">'
        "</tessera-image>"
    )
    page = visit(open_page, elsewhere.trusted, elsewhere, service, body)
    page.get_by_role("button", name="Retry").wait_for()  # the tiny flow knows no waves
    element = page.locator("tessera-image")
    box = element.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (48, 32)
    assert element.evaluate("(element) => element.src") == (
        f"{service.url}/v1/images/7.webp?prompt=8&background=222222&size=48x32&steps=2&waves=5"
    )
    with page.expect_request("**/v1/images") as request:
        element.evaluate("(element) => element.setAttribute('live', '')")
    assert request.value.post_data_json == {
        "seed": "7",
        "previews": True,
        "size": "48x32",
        "prompt": "8",
        "waves": 5,
        "background": "222222",
        "steps": 2,
        "format": "webp",
    }


def test_it_keeps_its_shape_where_there_is_less_room(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    element = '<tessera-image seed="1" size="96x64"></tessera-image>'
    body = f'<div style="width: 48px">{element}</div> <div>{element}</div>'
    page = visit(open_page, elsewhere.trusted, elsewhere, service, body)
    page.get_by_role("button", name="Retry").first.wait_for()  # the tiny flow draws squares
    boxes = [one.bounding_box() for one in page.locator("tessera-image").all()]
    assert [box and (box["width"], box["height"]) for box in boxes] == [(48, 32), (96, 64)]


def test_live_it_shows_how_it_is_drawn(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    body = '<tessera-image prompt="blue square" steps="600" size="64" live></tessera-image>'
    page = visit(open_page, elsewhere.trusted, elsewhere, service, body)
    page.wait_for_function(READY)
    events = page.evaluate("() => events")
    steps = [detail["step"] for name, detail in events if name == "progress"]
    assert len(steps) > 2
    assert steps == sorted(steps)
    assert page.locator("tessera-image img").evaluate("(image) => image.naturalWidth") == 64
    assert page.locator("tessera-image img").evaluate("(image) => image.src").startswith("blob:")


def test_live_without_leave_to_call_the_service_it_is_a_plain_image(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    body = '<tessera-image prompt="blue square" seed="5" live></tessera-image>'
    page = visit(open_page, elsewhere.stranger, elsewhere, service, body)
    page.wait_for_function(READY)
    assert page.evaluate("() => events.map(([name]) => name)") == ["load"]
    assert page.get_by_role("img", name="blue square").get_attribute("src") == (
        f"{service.url}/v1/images/5.png?prompt=blue%20square"
    )


def test_an_error_is_an_event_and_a_button(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    for live in ("", " live"):
        body = (
            f'<tessera-image prompt="blue square" steps="100000" size="64"{live}></tessera-image>'
        )
        page = visit(open_page, elsewhere.trusted, elsewhere, service, body)
        retry = page.get_by_role("button", name="Retry")
        retry.wait_for()
        assert page.evaluate("() => events.map(([name, {code}]) => [name, code])") == [
            ["error", "invalid_value"]
        ]
        page.evaluate(
            "() => {const [e] = document.getElementsByTagName('tessera-image');"
            " e.setAttribute('steps', '4')}"
        )
        page.wait_for_function(READY)
        expect(retry).to_be_hidden()


def test_leaving_the_page_stops_the_work(
    open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    body = (
        f'<tessera-image prompt="blue square" seed="9" steps="{MANY_STEPS}" live></tessera-image>'
    )
    page = visit(open_page, elsewhere.trusted, elsewhere, service, body)
    page.wait_for_function("() => events.some(([name]) => name === 'progress')")
    page.evaluate("() => {const [e] = document.getElementsByTagName('tessera-image'); e.remove()}")
    page.wait_for_timeout(500)
    count = page.evaluate("() => events.length")
    page.wait_for_timeout(200)
    assert page.evaluate("() => events.length") == count
    assert not page.evaluate(READY)


def examples(language: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "embed.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


ALL_SEEN = """() => {
  const images = [...document.querySelectorAll("img, tessera-image")]
    .map((element) => element.shadowRoot?.querySelector("img") ?? element);
  return images.length && images.every((image) => image.complete && image.naturalWidth > 0);
}"""


@pytest.mark.parametrize("example", examples("html"))
def test_the_examples_work_as_they_stand(
    example: str, open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    html = example.replace("https://pictures.example.org", service.url)
    elsewhere.html = f'<!doctype html><link rel="icon" href="data:,">{html}'
    page = open_page(elsewhere.trusted)
    if 'type="file"' in html:
        picture = httpx.get(f"{service.url}/v1/images/7.png", timeout=60).content
        page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": picture})
    page.wait_for_function(ALL_SEEN)


@pytest.mark.parametrize("example", examples("markdown"))
def test_the_examples_in_markdown_work_once_rendered(
    example: str, open_page: Open, service: Service, elsewhere: Elsewhere
) -> None:
    # As GitHub does: its flavour is CommonMark with tables and the like.
    html = MarkdownIt("gfm-like", {"linkify": False}).render(example)
    elsewhere.html = '<!doctype html><link rel="icon" href="data:,">' + html.replace(
        "https://pictures.example.org", service.url
    )
    page = open_page(elsewhere.stranger)
    page.wait_for_function(ALL_SEEN)
    assert page.locator("img").evaluate_all("(all) => all.every(({alt}) => alt)")
