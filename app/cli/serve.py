"""``tessera serve`` and ``tessera sign``."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Annotated

import typer

from app.cli.console import UserError, one_line_errors, say


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of models or of training runs, names of models that ship, or "
            "hf:owner/name; name=folder names one. The first is the default model. [default: "
            "TESSERA_MODELS, or all that ship]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other machines in.", metavar="ADDRESS"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = None,
) -> None:
    """Serve models over HTTP, on 127.0.0.1:8000 where nothing else is said.

    All other settings are TESSERA_… variables, or lines of .env: README.md lists them. What is
    given here comes before TESSERA_MODELS, TESSERA_HOST and TESSERA_PORT.
    """
    from app.engine.process import spawn_ahead
    from app.settings import load_settings

    settings = load_settings(models=",".join(models or ()), host=host, port=port)
    with suppress(OSError):  # said where it is needed
        spawn_ahead(settings.engine.threads_each)
    from app.server import serve as run_server

    raise typer.Exit(run_server(settings))


def sign(
    address: Annotated[
        str, typer.Argument(help='For example "/v1/images/7.png?prompt=red%20apple".')
    ],
    hours: Annotated[float, typer.Option(min=0, help="Until it expires.")] = 24.0,
) -> None:
    """Sign an image's address, so that it can be fetched without a key (TESSERA_URL_SECRET)."""
    from app.api.signing import signer_of
    from app.settings import load_settings

    with one_line_errors():
        signer = signer_of(load_settings())
        if signer is None:
            raise UserError("no secret to sign with: set TESSERA_URL_SECRET, as the service has it")
        if not hours < LONGEST:  # NaN too
            raise UserError(f"--hours {hours:g} was given, at most {LONGEST} are accepted")
        found = _IMAGE.fullmatch(address)
        if found is None:
            raise UserError("ADDRESS should be that of an image: /v1/images/SEED.FORMAT?…")
        if _SIGNED.search(found["path"]):
            raise UserError("ADDRESS is signed already, or has an expiry")
        expires = int(time.time() + 3600 * hours)
        say(found["origin"] + signer.sign(found["path"], expires))


LONGEST = 1_000_000
"""Hours, a hundred years and more."""

_IMAGE = re.compile(
    r"(?P<origin>(?:https?://[^/?#]+)?)(?P<path>/v1/images/[^/?#]+\.(?:png|webp|jpe?g)(?:\?[^#]*)?)",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"[?&](?:expires|signature)=")
