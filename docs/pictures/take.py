"""Takes the pictures of the page in this folder, of a running service, with Debian's Chromium.

python docs/pictures/take.py http://127.0.0.1:8000
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent
PROMPTS = [
    "cat face, noto style",
    "sailboat, twemoji style",
    "cactus, fluent 3d style",
    "octopus, blob style",
    "snowman, fluent flat style",
    "cherry blossom, fluent 3d style",
    "red apple, emojitwo style",
    "spouting whale, fluent 3d style",
    "owl, fluent color style",
]


def main(url: str, only: str = "") -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--font-render-hinting=none"],
        )
        for take in (desktop, drawing, repaint, compare, describe, dark, chinese, phone, error):
            if only in take.__name__:
                take(browser, url)
        browser.close()


def desktop(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    for prompt in PROMPTS:
        draw(page, prompt, seed="7")
    page.locator("#count label").nth(2).click()
    draw(page, "red apple, noto style", seed="2")
    page.mouse.move(0, 0)
    page.locator("h1").click()
    shot(page, "desktop")


def drawing(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    shot(page, "first")
    page.locator("#count label").nth(3).click()
    page.locator("#fine summary").click()
    page.fill("#prompt", "sailboat, noto style")
    page.keyboard.press("Enter")
    page.locator("#frame img").wait_for()
    page.wait_for_timeout(900)
    shot(page, "drawing")


def repaint(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    draw(page, "red apple, noto style", seed="7")
    page.get_by_role("button", name="Start from this").click()
    page.locator("[value=inpaint]").check()
    page.locator("#brush-size").fill("9")
    box = page.locator(".mask").bounding_box()
    assert box is not None
    path = [(0.25, 0.3), (0.4, 0.22), (0.55, 0.25), (0.72, 0.3)]
    for place, (x, y) in enumerate(path):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if place == 0:
            page.mouse.down()
    page.mouse.up()
    shot(page, "repaint")


def compare(browser: Browser, url: str) -> None:
    page = opened(browser, url, scheme="dark")
    page.locator("#count label").nth(2).click()
    for prompt, operation in (
        ("parrot, noto style", "colorize"),
        ("cat face, noto style", "upscale"),
    ):
        draw(page, prompt, seed="3")
        page.get_by_role("button", name="Start from this").click()
        page.locator(f"[value={operation}]").check()
        page.click("#draw")
        page.locator("#draw:visible").wait_for(timeout=60_000)
        if operation == "colorize":
            page.get_by_role("button", name="Put the picture away").click()
    page.mouse.move(0, 0)
    shot(page, "compare")


def describe(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    draw(page, "snowman, noto style", seed="3")
    page.get_by_role("button", name="Start from this").click()
    page.locator("[value=describe]").check()
    page.click("#draw")
    page.locator("#details .labels").wait_for(timeout=60_000)
    page.mouse.move(0, 0)
    shot(page, "describe")


def dark(browser: Browser, url: str) -> None:
    page = opened(browser, url, scheme="dark")
    for prompt in PROMPTS[::-1]:
        draw(page, prompt, seed="3")
    shot(page, "dark")


def chinese(browser: Browser, url: str) -> None:
    page = opened(browser, url, locale="zh-CN")
    for prompt in ("章鱼", "帆船", "仙人掌", "樱花", "蝴蝶"):
        draw(page, prompt, seed="5")
    shot(page, "chinese")


def phone(browser: Browser, url: str) -> None:
    page = opened(browser, url, width=390, height=844)
    shot(page, "phone-first")
    draw(page, "cactus", seed="7")
    draw(page, "cherry blossom", seed="7")
    page.wait_for_timeout(1200)
    shot(page, "phone")


def error(browser: Browser, url: str) -> None:
    page = opened(browser, url)
    draw(page, "snowman", seed="7")
    page.fill("#prompt", "very " * 80 + "red apple")
    page.keyboard.press("Enter")
    page.locator(".problem[role=alert]").wait_for()
    shot(page, "error")


def opened(
    browser: Browser,
    url: str,
    width: int = 1280,
    height: int = 860,
    scheme: str = "light",
    locale: str = "en-GB",
) -> Page:
    page = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=2 if width < 500 else 1.5,
        color_scheme="dark" if scheme == "dark" else "light",
        locale=locale,
        has_touch=width < 500,
    ).new_page()
    page.goto(url)
    page.locator("#state[data-state=ready]").wait_for()
    return page


def draw(page: Page, prompt: str, seed: str) -> None:
    page.fill("#seed", seed)
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    page.locator("#draw:visible").wait_for(timeout=60_000)


def shot(page: Page, name: str) -> None:
    with Image.open(BytesIO(page.screenshot())) as picture:
        picture.save(FOLDER / f"{name}.webp", quality=88, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
