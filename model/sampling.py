"""Pictures without a service: runs rows through a model, tile by tile, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from model.protocol import ImageModel, Picture, R, RowRequest


def generate(
    model: ImageModel[R],
    requests: Iterable[RowRequest],
    on_step: Callable[[int], None] = lambda steps: None,
) -> Iterator[Picture]:
    """Yields one picture for each request. ``on_step`` hears of solver steps done, for progress.

    Raises ``PromptTooLong``. Equal to what the service answers with the same numerics.
    """
    waiting = iter(requests)
    running: list[R] = []
    for request in waiting:
        running.append(model.start(request))
        if 2 * (len(running) + 1) > model.tile:
            yield from _finish(model, running, on_step)
            running = []
    if running:
        yield from _finish(model, running, on_step)


def _finish(
    model: ImageModel[R], rows: list[R], on_step: Callable[[int], None]
) -> Iterator[Picture]:
    while unfinished := [row for row in rows if not row.done]:
        before = sum(row.step for row in rows)
        model.step(unfinished)
        on_step(sum(row.step for row in rows) - before)
    for row in rows:
        yield model.result(row)
        model.release(row)
