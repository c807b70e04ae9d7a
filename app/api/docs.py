"""``/docs``: the interface for people, shown by Swagger UI out of ``/openapi.json``.

Everything comes from this service: the page works offline and under a strict policy. It holds
nothing itself, so it is open also where ``/openapi.json`` needs a key; it asks for one then.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

from app.api import page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; "  # answers that are pictures; the icons in its style sheet
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""As the page's, but without trusted types: Swagger UI sets the ``innerHTML`` of its icons."""

router = APIRouter(include_in_schema=False)
_assets = StaticFiles(directory=str(files("fastapi_offline") / "static"))


@router.get("/docs")
@router.head("/docs")
async def docs(request: Request) -> Response:
    """The page."""
    return await page.send("docs.html", request, policy=POLICY)


@router.get("/docs/{name}")
@router.head("/docs/{name}")
async def asset(name: str, request: Request) -> Response:
    """Swagger UI, out of the package ``fastapi-offline``, which ships it."""
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise HTTPException(404)
    return await page.send(name, request, folder=_assets, policy=POLICY)
