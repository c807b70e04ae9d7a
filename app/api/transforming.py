"""An order that has a picture to start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.api.errors import ApiError, invalid
from app.api.intake import Hold, Intake
from app.api.orders import Order, Transformation
from app.operations import KINDS, Name, can, offered
from app.pictures import TRANSPARENT
from app.settings import BYTES_PER_PIXEL
from app.uploads.decoding import UploadError
from app.uploads.prepare import Canvas, Prepared
from model.protocol import ModelSpec


def check_can(spec: ModelSpec, operation: Name) -> None:
    """Raises `ApiError` where the model cannot do that."""
    if not can(spec.operations, operation):
        others = ", ".join(offered(spec.operations))
        raise invalid("operation", f"{spec.id} cannot {operation}; it can {others}")


async def opened(
    prepare: Callable[[Canvas], Prepared], spec: ModelSpec, intake: Intake
) -> Prepared:
    """An upload made ready for the model, in a thread of its own. Raises `ApiError`."""
    try:
        return await intake.work(prepare, Canvas(spec.size, spec.channels))
    except UploadError as error:
        message = f"{error.upload}: {error}"
        raise ApiError(400, message, code=error.code, param=error.upload) from error


async def transformed(
    order: Order,
    operation: Name,
    prepare: Callable[[Canvas], Prepared],
    *,
    size: int | None,
    own_background: bool,
    intake: Intake,
    hold: Hold,
) -> Order:
    """The order with a picture to start from, which ``prepare`` decodes in a thread of its own.

    Raises `ApiError`.

    Args:
        size: what the client wants along the longer side of the answer.
        own_background: whether what can be seen through shall stay so, where that is possible.
        hold: what the request holds, to which its answer comes.
    """
    spec, encoding, kind = order.spec, order.encoding, KINDS[operation]
    prepared = await opened(prepare, spec, intake)
    width, height = prepared.scaled(size)
    pixels = order.request.n * width * height
    if pixels > intake.most_pixels:
        message = (
            f"{order.request.n} pictures of {width} x {height} pixels were asked for; "
            f"at most {intake.most_pixels} pixels are accepted, all together"
        )
        raise invalid("n", message)
    hold.take(BYTES_PER_PIXEL * pixels)
    can_be_clear = encoding.format != "jpeg" and (spec.channels == 4 or kind.keeps)
    clear = own_background and can_be_clear and not prepared.opaque
    return replace(
        order,
        request=replace(order.request, operation=kind.does, source=prepared.source),
        encoding=replace(
            encoding,
            width=width,
            height=height,
            background=TRANSPARENT if clear else encoding.background,
        ),
        transformation=Transformation(operation, prepared.fit, prepared.frame),
    )
