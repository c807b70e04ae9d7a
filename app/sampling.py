"""How a model shall draw tokens: what is asked for, with the model's own defaults filled in.

Knows nothing of HTTP or of the command line, which both ask for the same things.
"""

from __future__ import annotations

from app.operations import Misfit
from model.protocol import ModelSpec, Range, TokenSampling


def token_sampling(
    spec: ModelSpec, *, temperature: float | None, top_k: int | None, top_p: float | None
) -> TokenSampling | None:
    """None for a model that draws no tokens.

    Raises `Misfit` for what is out of its range, and for anything that is said to such a model.
    """
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if spec.tokens is None:
        for name, value in given.items():
            if value is not None:
                message = f"means nothing to {spec.id}, which draws no tokens"
                raise Misfit(name, message)
        return None
    ranges = spec.tokens
    return TokenSampling(
        temperature=_chosen(spec, "temperature", temperature, ranges.temperature),
        top_k=int(_chosen(spec, "top_k", top_k, ranges.top_k)),
        top_p=_chosen(spec, "top_p", top_p, ranges.top_p),
    )


def _chosen(spec: ModelSpec, name: str, given: float | None, numbers: Range) -> float:
    value = numbers.default if given is None else given
    if not numbers.low <= value <= numbers.high:
        accepted = f"{numbers.low:g} to {numbers.high:g}"
        raise Misfit(name, f"{value:g} was given, {spec.id} takes {accepted}")
    return value
