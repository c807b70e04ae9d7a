"""If these fail, the page loads nothing, or lets in what it should not."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from app.api.pages import FOLDER


def address(file: Path) -> str:
    """Where it is served."""
    path = file.relative_to(FOLDER).as_posix()
    return path if path == "tessera.js" else f"web/{path}"


async def test_the_page_allows_nothing_inline_and_no_other_host(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", answer.text)


async def test_everything_that_the_page_names_is_there(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    named = set(re.findall(r'(?:src|href)="((?:web/|tessera)[^"#]+)"', page))
    assert "web/page/app.js" in named
    for module in FOLDER.rglob("*.js"):
        for name in re.findall(r'(?:from|import) "(\.[^"]+)"', module.read_text(encoding="utf-8")):
            named.add(urljoin(f"/{address(module)}", name).removeprefix("/"))
    for name in named:
        answer = await client.get(f"/{name}")
        assert answer.status_code == 200, name
        again = await client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304, name


async def test_the_element_may_be_loaded_from_anywhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/tessera.js", headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["nothing.js", "..%2Fsettings.py", "%2e%2e/main.py", "fonts"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/web/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_the_page_has_words_for_whatever_is_wrong_with_an_upload() -> None:
    uploads = FOLDER.parent / "generation" / "editing"
    files = [*uploads.glob("*.py"), *(FOLDER.parents[1] / "model" / "image_files").glob("*.py")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r'"(\w+_(?:image|mask|margin|size|aspect|too_large))"', source)
    codes = set(found) - {"empty_image"}  # which is a broken one
    assert {"no_mask", "ambiguous_mask", "no_margin", "image_aspect", "broken_image"} <= codes
    for language in ("en", "zh"):
        words = (FOLDER / "i18n" / f"{language}.js").read_text(encoding="utf-8")
        assert [code for code in sorted(codes) if f"    {code}: [" not in words] == []
