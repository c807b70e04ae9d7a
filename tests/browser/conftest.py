"""Real headless Chromium on a real server with the tiny checkpoint."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import hills as family
from tests.service.running import Service, running
from tests.tiny import STYLES, tiny_flow

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

MANY_STEPS = 1500
"""So many that nobody sees the end of them."""

EXAMPLES = [f"emoji {number}" for number in range(9)] + ["红苹果", "猫脸"]

Open = Callable[..., Page]
Start = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Of one file's tests: Playwright keeps an event loop running in this thread meanwhile, and no
    asyncio test can run inside it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Elsewhere:
    """Another web site: serves the HTML that a test puts into ``html``."""

    port: int
    html: str = ""

    @property
    def trusted(self) -> str:
        """The origin that the service allows."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stranger(self) -> str:
        """The same site by a name that the service does not allow."""
        return f"http://localhost:{self.port}"


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Elsewhere]:
    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(site.html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        site = Elsewhere(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """``start(NAME="value")`` is a server; its model has styles and examples."""
    model = tiny_flow(tmp_path_factory.mktemp("models") / "emoji-tiny")
    config = model / "config.json"
    written = json.loads(config.read_text())
    written["sampling"] |= {"max_steps": MANY_STEPS, "steps_for": {"upscale": 6}}
    written["styles"] = [asdict(style) for style in STYLES]
    written["examples"] = EXAMPLES
    written["description_chinese"] = "测试用的随机权重"
    config.write_text(json.dumps(written))

    def start(**settings: str) -> AbstractContextManager[Service]:
        return running(model, tmp_path_factory.mktemp("service") / "log", **settings)

    return start


@pytest.fixture(scope="session")
def service(start: Start, elsewhere: Elsewhere) -> Iterator[Service]:
    with start(CORS_ORIGINS=elsewhere.trusted) as service:
        yield service.await_ready()


@pytest.fixture(scope="session")
def locked(start: Start) -> Iterator[Service]:
    """Its key is "open sesame"."""
    keys = f"ada={hashlib.sha256(b'open sesame').hexdigest()}"
    secret = "a secret that is long enough"
    with start(API_KEYS=keys, URL_SECRET=secret, DOCS_ACCESS="key") as service:
        yield service.await_ready()


@pytest.fixture(scope="session")
def hills(tmp_path_factory: pytest.TempPathFactory, elsewhere: Elsewhere) -> Iterator[Service]:
    """A server of the family in `tests.browser.hills`, which takes all that a pipeline may."""
    packages = tmp_path_factory.mktemp("packages")
    checkpoint = family.install(packages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(packages))
        with running(checkpoint, packages / "log", CORS_ORIGINS=elsewhere.trusted) as service:
            yield service.await_ready()


@dataclass
class Watch:
    """What a page must not do: log errors, or call other hosts than its own."""

    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        def asked(url: str) -> None:
            parts = urlsplit(url)
            if parts.scheme not in ("blob", "data") and parts.netloc not in self.hosts:
                self.strangers.append(url)

        page.on("request", lambda request: asked(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )


@pytest.fixture
def open_page(browser: Browser, service: Service, elsewhere: Elsewhere) -> Iterator[Open]:
    """``open_page(url)`` in a new profile. What it logs and which hosts it calls is checked.

    ``expected`` is a text that every logged error must have (an answer of 4xx is logged as one).
    """
    watches: list[tuple[Watch, str | None]] = []
    contexts = []

    def open_page(url: str, expected: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-GB", "reduced_motion": "reduce"} | options)
        context.set_default_timeout(15_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        hosts = {urlsplit(allowed).netloc for allowed in (url, service.url)}
        watch = Watch(hosts)
        watch.over(page)
        watches.append((watch, expected))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    for watch, expected in watches:
        assert not watch.strangers
        assert [error for error in watch.errors if expected is None or expected not in error] == []


@pytest.fixture
def page(open_page: Open, service: Service) -> Page:
    """The page, ready to draw."""
    page = open_page(service.url)
    page.locator("#state[data-state=ready]").wait_for()
    return page


@pytest.fixture(scope="session")
def axe_source() -> str:
    package = importlib.util.find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "axe.min.js").read_text("utf-8")
