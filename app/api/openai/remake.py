"""What edits and variations have in common: a picture made of a picture."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request, Response

from app.api.errors import invalid
from app.api.guard import Client
from app.api.intake import Hold
from app.api.openai.fields import WithUpload
from app.api.openai.reply import Kind, reply
from app.api.orders import Order, find_model, take_order
from app.api.services import Services
from app.api.transforming import check_can, transformed
from app.operations import KINDS, Name
from app.pictures import TRANSPARENT
from app.uploads.prepare import Canvas, Prepared

PICTURE = "PNG, JPEG, WebP or GIF (its first frame), of any size and aspect."


async def remake(
    fields: WithUpload,
    operation: Name,
    prepare: Callable[[Canvas], Prepared],
    kind: Kind,
    *,
    hold: Hold,
    request: Request,
    services: Services,
    client: Client,
) -> Response:
    """Carries the operation out and answers as the contract says. Raises `ApiError`."""
    settings = services.settings
    checkpoint, _ = find_model(fields.model, services.engine.checkpoints, settings.model_aliases)
    check_can(checkpoint.spec, operation)
    background = TRANSPARENT if fields.background == TRANSPARENT else "white"
    wanted = fields.sides
    longer = None if wanted is None else max(wanted)
    order = take_order(
        fields.drawing(checkpoint.spec, size=longer, background=background),
        engine=services.engine,
        settings=settings,
        seed=fields.seed,
        n=fields.n or 1,
        format=fields.format,
        keeps_alpha=KINDS[operation].keeps,
    )
    order = await transformed(
        order,
        operation,
        prepare,
        size=longer,
        own_background=fields.background in (None, "auto"),
        intake=services.intake,
        hold=hold,
    )
    if wanted is not None:
        _check_aspect(order, wanted)
    return await reply(order, fields, kind, request=request, services=services, client=client)


def _check_aspect(order: Order, wanted: tuple[int, int]) -> None:
    """Raises `ApiError` for a size in which the image would have to be squeezed or cut."""
    made = order.encoding.width, order.encoding.height
    if made != wanted:
        width, height = wanted
        message = (
            f"{width}x{height} was given, an image of this aspect can be answered as "
            f"{made[0]}x{made[1]}, or auto"
        )
        raise invalid("size", message)
