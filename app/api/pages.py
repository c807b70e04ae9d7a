"""What browsers show: the page at ``/``, ``<tessera-image>`` at ``/tessera.js``, and ``/docs``.

Open to everyone: keys are asked for where images are. ``/docs`` is Swagger UI out of a package that
ships its files, because FastAPI's own loads them from another host; so it works offline and under
a strict policy. It holds nothing itself: it asks for a key where ``/openapi.json`` needs one.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "web"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; "  # previews and kept pictures are blobs
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy: nothing inline, nothing from another host."""

DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; "  # answers that are images; the icons in its style sheet
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""As the page's, but without trusted types: Swagger UI sets the ``innerHTML`` of its icons."""

router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)
_web = StaticFiles(directory=FOLDER)
_swagger = StaticFiles(directory=str(files("fastapi_offline") / "static"))


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


@docs_router.get("/docs")
@docs_router.head("/docs")
async def docs(request: Request) -> Response:
    """The interface for people."""
    return await send("docs.html", request, policy=DOCS_POLICY)


@docs_router.get("/docs/{name}")
@docs_router.head("/docs/{name}")
async def docs_asset(name: str, request: Request) -> Response:
    """Swagger UI, out of the package ``fastapi-offline``."""
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise HTTPException(404)
    return await send(name, request, folder=_swagger, policy=DOCS_POLICY)


async def send(
    path: str, request: Request, *, folder: StaticFiles = _web, policy: str = POLICY
) -> Response:
    """A file. It is asked for again every time, and answered 304: there are no hashes in names."""
    response = await folder.get_response(path, request.scope)
    response.headers.update({"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
    return response
