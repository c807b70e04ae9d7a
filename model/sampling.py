"""Results without a service: runs rows through a model, tile by tile, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from model.protocol import ImageModel, Picture, R, Result, RowRequest


def generate(
    model: ImageModel[R],
    requests: Iterable[RowRequest],
    on_step: Callable[[int], None] = lambda steps: None,
) -> Iterator[Picture]:
    """Yields one picture for each request. ``on_step`` hears of steps done, for progress.

    Raises ``PromptTooLong``. Equal to what the service answers with the same numerics.
    """
    for result in run(model, requests, on_step):
        assert isinstance(result, Picture)
        yield result


def run(
    model: ImageModel[R],
    requests: Iterable[RowRequest],
    on_step: Callable[[int], None] = lambda steps: None,
) -> Iterator[Result]:
    """Yields one result for each request, as `generate` does; a description where it was asked."""
    places = 0
    together: list[RowRequest] = []
    for request in requests:
        if places + request.places > model.tile:
            yield from _together(model, together, on_step)
            places, together = 0, []
        places += request.places
        together.append(request)
    yield from _together(model, together, on_step)


def _together(
    model: ImageModel[R], requests: list[RowRequest], on_step: Callable[[int], None]
) -> list[Result]:
    """The results of requests that fit a tile. Rows are let go whatever happens."""
    rows: list[R] = []
    try:
        rows.extend(model.start(request) for request in requests)  # keeps those before an error
        while unfinished := [row for row in rows if not row.done]:
            before = sum(row.step for row in rows)
            model.step(unfinished)
            on_step(sum(row.step for row in rows) - before)
        return [model.result(row) for row in rows]
    finally:
        for row in rows:
            model.release(row)
