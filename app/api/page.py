"""The page at ``/``, its parts under ``/web``, and ``<tessera-image>`` at ``/tessera.js``.

Open to everyone: keys are asked for where pictures are.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "web"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; "  # previews and kept pictures are blobs
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy: nothing inline, nothing from another host."""

router = APIRouter(include_in_schema=False)
_files = StaticFiles(directory=FOLDER)


@router.get("/")
@router.head("/")
async def page(request: Request) -> Response:
    """The page: type a prompt, see it drawn."""
    return await send("index.html", request)


@router.get("/tessera.js")
@router.head("/tessera.js")
async def element(request: Request) -> Response:
    """``<tessera-image>``. Browsers load a module from another origin only where CORS lets them."""
    response = await send("tessera.js", request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


@router.get("/web/{path:path}")
@router.head("/web/{path:path}")
async def part(path: str, request: Request) -> Response:
    """A module, style sheet, font or icon of the page."""
    return await send(path, request)


async def send(
    path: str, request: Request, *, folder: StaticFiles = _files, policy: str = POLICY
) -> Response:
    """A file. It is asked for again every time, and answered 304: there are no hashes in names."""
    response = await folder.get_response(path, request.scope)
    response.headers.update({"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
    return response
