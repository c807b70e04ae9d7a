"""Do all workers draw the same bits, and the ones that were expected?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from model.protocol import LoadedModel


def agree(first: Iterable[LoadedModel], second: Iterable[LoadedModel]) -> str | None:
    """What keeps two workers from sharing requests, in a sentence; None where nothing does."""
    others = {model.spec.id: model for model in second}
    for one in first:
        other = others[one.spec.id]
        if one.numerics != other.numerics:
            return (
                f"{one.spec.id} would draw other pixels on {other.device} (numerics "
                f"{other.numerics}) than on {one.device} (numerics {one.numerics})"
            )
    return None


def as_expected(models: Iterable[LoadedModel], expected: str | None) -> str | None:
    """What differs from `EngineSettings.expect_numerics`, in a sentence; None for nothing."""
    if expected is None:
        return None
    accepted = {one.strip() for one in expected.split(",")}
    for model in models:
        if model.numerics not in accepted:
            return (
                f"{model.spec.id} on {model.device} has numerics {model.numerics}, "
                f"expected {' or '.join(sorted(accepted))}"
            )
    return None


def together(workers: Sequence[Iterable[LoadedModel]]) -> dict[str, LoadedModel]:
    """Each model by its id, as the first worker reports it; seed-exact where it is on all."""
    exact = {model.spec.id: True for worker in workers for model in worker}
    for worker in workers:
        for model in worker:
            exact[model.spec.id] &= model.seed_exact
    return {model.spec.id: replace(model, seed_exact=exact[model.spec.id]) for model in workers[0]}
