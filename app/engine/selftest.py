"""Does a result depend on its request alone? Asked of every model before it serves.

A few probes are drawn (and a picture is described, where the model can) alone, then among
companions of other step counts and guidance that start with them or a step later, at other places
of the tile, with previews taken on the way; their results must be equal, bit by bit. The rows go
through the `Runner` that serves, so that its batches are what is tested. Each kind of pass runs on
the way: the model is warm afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.engine.messages import Assignment
from app.engine.runner import Runner
from model.protocol import ImageModel, ModelSpec, Picture, Result, RowRequest, Source

STEPS = 2


def seed_exact(model: ImageModel[Any]) -> bool:
    """Whether the model's results are the same alone and in company."""
    probes = _probes(model.spec)
    companions = _companions(model.spec, model.tile - sum(probe.places for probe in probes))
    alone = [_draw(model, [probe])[0] for probe in probes]
    last = _draw(model, [*companions, *probes])[-len(probes) :]
    ahead = _draw(model, probes[::-1], companions)[: len(probes)]
    return alone == last == ahead[::-1]


def _draw(
    model: ImageModel[Any], first: Sequence[RowRequest], later: Sequence[RowRequest] = ()
) -> list[Result]:
    """The rows' results, in the same order. Those of ``later`` join after the first step."""
    runner = Runner(model, previews=1)
    requests = (*first, *later)
    rows = [
        Assignment(index, model.spec.id, request, watched=len(requests) > 1, seen=0)
        for index, request in enumerate(requests)
    ]
    joining = iter((rows[: len(first)], rows[len(first) :]))
    results: dict[int, Result] = {}
    while len(results) < len(rows):
        for row in next(joining, ()):
            runner.add(row)
        for refused in runner.admit():
            raise RuntimeError(f"{model.spec.id} refused a row of its self-test: {refused.reason}")
        for finished in runner.step().finished:
            results[finished.id] = finished.result
    return [results[row.id] for row in rows]


def _probes(spec: ModelSpec) -> list[RowRequest]:
    """One with guidance, one without, and a description, whose probabilities tell the last bit.

    The strongest guidance there is: it multiplies differences in the last bit of the network's
    output until they show in 8-bit pixels. (With the fixed tile off, two steps of the shipped
    model in fp32: 12 of 12 rows differ; at guidance 2, 8 of 12.)
    """
    plain = _request(spec, prompt="", seed=1, steps=STEPS)
    guided = _request(spec, prompt="a", seed=2, steps=STEPS)
    drawings = [replace(guided, guidance=spec.guidance.high), plain]
    if "describe" not in spec.operations:
        return drawings
    pixels = hashlib.shake_128(b"a picture").digest(spec.size**2 * spec.channels)
    source = Source(Picture(spec.size, spec.size, spec.channels, pixels))
    described = _request(spec, prompt="", seed=3, steps=STEPS)
    labels = ("a", "b", "c")
    return [*drawings, replace(described, operation="describe", source=source, labels=labels)]


def _companions(spec: ModelSpec, room: int) -> list[RowRequest]:
    """As many as fit beside the probes; unequal step counts, so that rows come and go.

    Not more: whoever had to wait would wait for whole pictures, which a gpt draws in many steps.
    """
    one = _request(spec, prompt="b", seed=100, steps=1)
    return [
        _request(spec, prompt="b" * (1 + seed % 3), seed=100 + seed, steps=1 + seed % STEPS)
        for seed in range(max(1, room // one.places))
    ]


def _request(spec: ModelSpec, *, prompt: str, seed: int, steps: int) -> RowRequest:
    return RowRequest(
        prompt=prompt,
        seed=seed,
        steps=int(_clamp(steps, spec.steps.low, spec.steps.high)),
        guidance=spec.guidance.default,
        solver=spec.solver,
    )


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))
