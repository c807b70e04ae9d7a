"""Does a result depend on its request alone? Asked of every model before it serves.

A few probes are computed alone, and beside other rows that have other step counts and start with
them or a step later, at other positions of the tile, with previews on the way; their results must
be equal, bit by bit. They are as small as the model draws them. The rows go through the `Runner`
that serves, so that its batches are what is tested. Each kind of pass runs on the way, decoding
included: the model is warm afterwards.

In between it is settled which sizes passes have (`model.runtime.rungs`): the smaller ones in which
rows that fill them have the results that they had in the tile, and in which some kind of pass gave
its bits. The probes that are computed alone then run in these.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.engine.messages import NewRow
from app.engine.runner import Runner
from model.protocol import ImageModel, Result, in_turn
from model.request import ImageRequest, Picture, Source
from model.spec import ModelSpec

STEPS = 2

FEW = 8
"""Steps in which each kind of pass has come, and most rows are done."""


@dataclass(slots=True)
class SelfTest:
    """What was found."""

    seed_exact: bool = False  # whether results are the same alone and beside other rows
    rungs: tuple[int, ...] = ()  # sizes of passes that give the same results
    slowest: float = 0.0  # seconds of the slowest step, at the native size, about


def examine(model: ImageModel[Any]) -> SelfTest:
    """Computes the probes alone and beside others, and settles which sizes passes have."""
    test, spec, rungs = SelfTest(), model.spec, model.rungs
    probes = _probes(spec)
    found: list[tuple[ImageRequest, Result | None]] = []
    for first, later in _crowds(model, probes):
        rungs.use(())  # nothing is remembered
        found += zip([*first, *later], _compute(model, test, first, later), strict=True)
    known = dict(found)
    enough = _others(model, max(rungs.smaller, default=1))
    if more := [other for other in enough if other not in known]:
        known |= zip(more, _compute(model, test, more, most=FEW), strict=True)
    rungs.use([size for size in rungs.smaller if _holds(model, test, size, known)])
    found += [(probe, _compute(model, test, [probe])[0]) for probe in probes]
    test.rungs = rungs.sizes
    test.seed_exact = all(result == known[request] for request, result in found)
    small, native = spec.sizes.smallest, spec.sizes.native
    test.slowest *= (native[0] * native[1]) / (small[0] * small[1])
    return test


def _crowds(
    model: ImageModel[Any], probes: Sequence[ImageRequest]
) -> Iterator[tuple[Sequence[ImageRequest], Sequence[ImageRequest]]]:
    """The probes beside others, once before and once behind them: the rows that begin, and those
    that join a step later. Both in one crowd where there is room: whole images take long."""
    taken, room = sum(map(model.cost, probes)), in_turn(model.tile, model.slots)
    few = _others(model, room - 2 * taken)
    if 2 * taken + sum(map(model.cost, few)) <= room:
        yield [*probes[::-1], *few[::2]], [*few[1::2], *probes]
        return
    others = _others(model, room - taken)
    yield [*others, *probes], ()
    yield probes[::-1], others


def _holds(
    model: ImageModel[Any], test: SelfTest, size: int, known: Mapping[ImageRequest, Result | None]
) -> bool:
    """Whether passes of a size give what is known, for the rows that are cheapest: as many as fill
    it, so that each of its places is used. For `FEW` steps: what takes more is known by its passes
    alone."""
    least = min(map(model.cost, known))
    rows = [request for request in known if model.cost(request) == least][: size // least]
    if not rows:
        return False
    model.rungs.use([size])
    found = zip(rows, _compute(model, test, rows, most=FEW), strict=True)
    same = all(result in (None, known[request]) for request, result in found)
    return same and size in model.rungs.sizes


def _compute(
    model: ImageModel[Any],
    test: SelfTest,
    first: Sequence[ImageRequest],
    later: Sequence[ImageRequest] = (),
    *,
    most: int | None = None,
) -> list[Result | None]:
    """The requests' results, in the same order. Those of ``later`` join after the first step. None
    for rows that take more than ``most`` steps."""
    runner = Runner(model, previews=1)
    requests = (*first, *later)
    rows = [
        NewRow(index, request, watched=len(requests) > 1, seen=0)
        for index, request in enumerate(requests)
    ]
    joining = iter((rows[: len(first)], rows[len(first) :]))
    results: dict[int, Result] = {}
    for _ in itertools.count() if most is None else range(most):
        for row in next(joining, ()):
            runner.add(row)
        for refused in runner.admit():
            raise RuntimeError(f"{model.spec.id} refused a row of its self-test: {refused.reason}")
        stepped = runner.step()
        test.slowest = max(test.slowest, stepped.seconds)
        for failed in stepped.failed:
            raise RuntimeError(f"{model.spec.id} failed in its self-test: {failed.reason}")
        for finished in stepped.finished:
            results[finished.id] = finished.result
        if len(results) == len(rows):
            break
    for row in rows:
        runner.cancel(row.id)
    return [results.get(row.id) for row in rows]


def _probes(spec: ModelSpec) -> list[ImageRequest]:
    """One with a prompt, one without, and a description, whose probabilities show the last bit.

    With the strongest guidance that the model takes: it multiplies differences in the last bit of
    the network's output until they show in 8-bit pixels. (With the fixed tile off, two steps of
    the shipped flow in fp32: 12 of 12 rows differ; at guidance 2, 8 of 12.)
    """
    guidance = spec.parameter("guidance")
    strongest = {"guidance": guidance.maximum} if guidance else {}
    probes = [
        _request(spec, _prompts(spec)[0], seed=2, steps=STEPS, **strongest),
        _request(spec, "", seed=1, steps=STEPS),
    ]
    if "describe" in spec.operations:
        width, height = spec.sizes.native
        pixels = hashlib.shake_128(b"a picture").digest(width * height * spec.channels)
        source = Source(Picture(width, height, spec.channels, pixels))
        labels = ("a", "b", "c")
        probes.append(spec.request(seed=3, operation="describe", source=source, labels=labels))
    return probes


def _others(model: ImageModel[Any], room: int) -> list[ImageRequest]:
    """As many as fit beside the probes; unequal step counts, so that rows come and go.

    Without guidance, if that can be: so many rows fill a pass of any size. Not more: whoever had to
    wait would wait for whole images, which a gpt draws in many steps.
    """
    spec, prompts = model.spec, _prompts(model.spec)[1:]
    guidance = spec.parameter("guidance")
    unguided = {"guidance": 1.0} if guidance and guidance.minimum <= 1 <= guidance.maximum else {}

    def other(seed: int) -> ImageRequest:
        prompt, steps = prompts[seed % len(prompts)], STEPS - seed % STEPS
        return _request(spec, prompt, seed=100 + seed, steps=steps, **unguided)

    return [other(seed) for seed in range(max(1, room // model.cost(other(0))))]


def _prompts(spec: ModelSpec) -> tuple[str, ...]:
    """At least two, of unequal lengths where the model takes any text."""
    return spec.examples if len(spec.examples) > 1 else ("a", "b", "bb", "bbb")


def _request(spec: ModelSpec, prompt: str, *, seed: int, steps: int, **given: Any) -> ImageRequest:
    if parameter := spec.parameter("steps"):
        given["steps"] = max(parameter.minimum, min(steps, parameter.maximum))
    return spec.request(prompt, seed, size=spec.sizes.smallest, **given)
