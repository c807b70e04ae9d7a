"""Results without a service: runs rows through a model, tile by tile, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from model.protocol import ImageModel, R, Result
from model.request import ImageRequest, Picture


def generate(
    model: ImageModel[R],
    requests: Iterable[ImageRequest],
    on_step: Callable[[int], None] = lambda steps: None,
) -> Iterator[Picture]:
    """Yields one image for each request. ``on_step`` is called with the steps done, for progress.

    Raises ``PromptTooLong``. Equal to what the service answers with the same numerics.
    """
    for result in run(model, requests, on_step):
        assert isinstance(result, Picture)
        yield result


def run(
    model: ImageModel[R],
    requests: Iterable[ImageRequest],
    on_step: Callable[[int], None] = lambda steps: None,
) -> Iterator[Result]:
    """Yields one result for each request, as `generate` does; a description where it was asked."""
    used = 0
    batch: list[ImageRequest] = []
    for request in requests:
        cost = model.cost(request)
        if used + cost > model.tile:
            yield from _run_batch(model, batch, on_step)
            used, batch = 0, []
        used += cost
        batch.append(request)
    yield from _run_batch(model, batch, on_step)


def _run_batch(
    model: ImageModel[R], requests: list[ImageRequest], on_step: Callable[[int], None]
) -> list[Result]:
    """The results of requests that fit a tile. Rows are released whatever happens."""
    rows: list[R] = []
    try:
        rows.extend(model.start(request) for request in requests)  # keeps those before an error
        while unfinished := [row for row in rows if not row.done]:
            before = _steps_done(rows, requests)
            model.step(fitting(model, unfinished))
            on_step(_steps_done(rows, requests) - before)
        return [model.result(row) for row in rows]
    finally:
        for row in rows:
            model.release(row)


def _steps_done(rows: Sequence[R], requests: Sequence[ImageRequest]) -> int:
    """Of those that were asked for: a row may count its steps in more or fewer parts."""
    return sum(
        row.step * int(request.value("steps", row.steps)) // max(row.steps, 1)
        for row, request in zip(rows, requests, strict=True)
    )


def fitting(model: ImageModel[Any], rows: Sequence[R]) -> list[R]:
    """The first rows of each kind that one pass of it holds."""
    left: dict[str, int] = {}
    taken: list[R] = []
    for row in rows:
        room = left.setdefault(row.kind, model.capacity(row.kind))
        if row.evaluations <= room:
            left[row.kind] = room - row.evaluations
            taken.append(row)
    return taken
