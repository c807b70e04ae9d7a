"""An order that has a picture to start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.api.errors import ApiError, invalid
from app.api.intake import Intake
from app.api.orders import Order, Transformation
from app.operations import KINDS, Name, can, offered
from app.pictures import TRANSPARENT, Format
from app.uploads.decoding import UploadError
from app.uploads.prepare import Canvas, Prepared
from model.protocol import ModelSpec


def check_can(spec: ModelSpec, operation: Name) -> None:
    """Raises `ApiError` where the model cannot do that."""
    if not can(spec.operations, operation):
        others = ", ".join(offered(spec.operations))
        raise invalid("operation", f"{spec.id} cannot {operation}; it can {others}")


def own_background(operation: Name, spec: ModelSpec, format_: Format) -> str:
    """What lies behind where nothing is said: nothing, if the answer can say so."""
    can = format_ != "jpeg" and (spec.channels == 4 or KINDS[operation].keeps)
    return TRANSPARENT if can else "white"


async def transformed(
    order: Order,
    operation: Name,
    prepare: Callable[[Canvas], Prepared],
    *,
    size: int | None,
    intake: Intake,
) -> Order:
    """The order with a picture to start from, which ``prepare`` decodes in a thread of its own.

    ``size`` is what the client wants along the longer side of the answer. Raises `ApiError`.
    """
    spec = order.spec
    try:
        prepared = await intake.work(prepare, Canvas(spec.size, spec.channels))
    except UploadError as error:
        message = f"{error.upload}: {error}"
        raise ApiError(400, message, code=error.code, param=error.upload) from error
    width, height = prepared.scaled(size)
    return replace(
        order,
        request=replace(order.request, operation=KINDS[operation].does, source=prepared.source),
        encoding=replace(order.encoding, width=width, height=height),
        transformation=Transformation(operation, prepared.fit, prepared.frame),
    )
