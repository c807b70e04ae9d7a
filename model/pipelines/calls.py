"""Calls of one network: when two can share a pass, how they are joined and cut apart again.

A call is its keyword arguments. Some have an axis of rows (latents, timesteps, embeddings), others
are shared by all (position tables, flags). Two calls are of one kind if everything that is shared
is equal, and everything else has equal shapes and dtypes behind the axis of rows: then the network
computes for each row what it would compute for it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model.pipelines.catalogue import Entry

SCALARS = frozenset({"timestep", "timesteps", "t", "guidance", "timestep_r", "target_timestep"})
"""Arguments that may be one number for all rows of a call."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows lie in the arguments of one network."""

    shared: frozenset[str] = frozenset()  # no axis of rows, whatever their first axis has
    axes: Mapping[str, int] = field(default_factory=dict)  # the axis of rows where it is not 0
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Arguments whose rows have lengths of their own: lists of tensors, which the network pads to
    multiples of this, and masks, which it cuts at the longest row (1)."""

    @classmethod
    def of(cls, entry: Entry) -> Layout:
        return cls(entry.shared, entry.axes, entry.lengths)


Arguments = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Call:
    """A call of the network that waits for its pass."""

    arguments: Arguments  # by keyword, without those that are None
    layout: Layout
    evaluations: int  # rows of it: 2 where guidance doubles them
    kind: str  # hex digits, equal for calls that can share a pass

    @classmethod
    def of(cls, arguments: Mapping[str, Any], layout: Layout, extra: str, seen: Digests) -> Call:
        """``extra`` is what else keeps rows apart, e.g. their adapter; ``seen`` is the row's."""
        count = _count(arguments)
        settled = {
            name: _settle(name, value, count)
            for name, value in arguments.items()
            if value is not None
        }
        parts = [extra]
        for name, value in sorted(settled.items()):
            parts += _describe(name, value, count, layout, seen)
        kind = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
        return cls(settled, layout, count, kind)


class Digests:
    """Digests of the tensors that a row passes again and again, e.g. position tables."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Tensor, str]] = {}

    def of(self, name: str, tensor: Tensor) -> str:
        known = self._known.get(name)
        if known is not None and known[0] is tensor:
            return known[1]
        digest = hashlib.sha256(content_of(tensor)).hexdigest()[:16]
        self._known[name] = tensor, digest
        return digest


def join(calls: Sequence[Call], size: int) -> dict[str, Any]:
    """The arguments of one call of ``size`` rows: those of all calls in order, then copies of the
    first row, so that a pass has one size whoever takes part in it."""
    first = calls[0]
    counts = [call.evaluations for call in calls]
    padding = size - sum(counts)
    if padding < 0:
        raise ValueError(f"{sum(counts)} evaluations do not fit a pass of {size}")
    return {
        name: _join(name, [call.arguments[name] for call in calls], counts, padding, first.layout)
        for name in first.arguments
    }


def cut(output: Any, start: int, end: int) -> Any:
    """Rows ``start`` to ``end`` of what a network returned: tensors, tuples, lists of rows."""
    return _map(output, lambda tensor: tensor[start:end], lambda rows: rows[start:end])


def content_of(tensor: Tensor) -> bytes:
    """Its elements as they lie in memory, in order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def equal(some: Any, others: Any) -> bool:
    """Whether two outputs are the same, bit by bit."""
    return all(
        torch.equal(one, other) for one, other in zip(tensors(some), tensors(others), strict=True)
    )


def tensors(output: Any) -> Iterable[Tensor]:
    """Those of an output, or of arguments, in order."""
    match output:
        case Tensor():
            yield output
        case dict():
            for value in output.values():
                yield from tensors(value)
        case tuple() | list():
            for value in output:
                yield from tensors(value)


def _map(output: Any, change: Callable[[Tensor], Tensor], rows: Callable[[Any], Any]) -> Any:
    match output:
        case Tensor():
            return change(output) if output.ndim else output
        case list():
            return rows(output)
        case tuple():
            return tuple(_map(one, change, rows) for one in output)
        case dict():  # the libraries' outputs are dictionaries too
            return type(output)(**{name: _map(one, change, rows) for name, one in output.items()})
        case _:
            return output


def _count(arguments: Mapping[str, Any]) -> int:
    """Rows of a call: the first axis of its first tensor of three axes or more."""
    for value in arguments.values():
        if isinstance(value, Tensor) and value.ndim >= 3:
            return value.shape[0]
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return len(value)
    raise ValueError(f"no rows among the network's arguments: {', '.join(arguments)}")


def _settle(name: str, value: Any, count: int) -> Any:
    """One number for all rows as one for each."""
    if name not in SCALARS or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        value = torch.tensor(value)
    if isinstance(value, Tensor) and value.numel() == 1 and value.shape != (count,):
        return value.reshape(1).expand(count)
    return value


def _has_rows(name: str, value: Any, count: int, layout: Layout) -> bool:
    if name.rpartition(".")[2] in layout.shared:
        return False
    if isinstance(value, Tensor):
        axis = layout.axes.get(name, 0)
        return value.ndim > axis and value.shape[axis] == count
    return isinstance(value, list) and len(value) == count


def _describe(name: str, value: Any, count: int, layout: Layout, seen: Digests) -> Iterable[str]:
    """What of an argument two calls must have in common."""
    rows = _has_rows(name, value, count, layout)
    match value:
        case Tensor() if rows:
            axis = layout.axes.get(name, 0)
            shape = [*value.shape[:axis], *value.shape[axis + 1 :]]
            yield f"{name} {value.dtype} {shape}"
            if name in layout.lengths:
                yield f"{name} longest {int(value.reshape(count, -1).sum(1).max())}"
        case Tensor():
            yield f"{name} {value.dtype} {list(value.shape)} {seen.of(name, value)}"
        case dict():
            for key, one in sorted(value.items()):
                if one is not None:
                    yield from _describe(f"{name}.{key}", one, count, layout, seen)
        case list() if rows:
            multiple = layout.lengths.get(name, 1)
            yield f"{name} {sorted({_row(one, multiple) for one in value})}"
        case list() | tuple() if any(isinstance(one, Tensor) for one in value):
            for index, one in enumerate(value):
                yield from _describe(f"{name}.{index}", one, count, layout, seen)
        case _:
            yield f"{name} {value!r}"


def _row(value: Any, multiple: int) -> str:
    """Of an element of a list of rows."""
    if not isinstance(value, Tensor):
        return repr(value)
    length = -(-value.shape[0] // multiple) * multiple if value.ndim else 0
    return f"{value.dtype} {[length, *value.shape[1:]]}"


def _join(
    name: str, values: Sequence[Any], counts: Sequence[int], padding: int, layout: Layout
) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {
            key: None
            if first[key] is None
            else _join(f"{name}.{key}", [value[key] for value in values], counts, padding, layout)
            for key in first
        }
    if not _has_rows(name, first, counts[0], layout):
        if isinstance(first, list | tuple) and any(isinstance(one, Tensor) for one in first):
            joined = (
                _join(f"{name}.{index}", list(ones), counts, padding, layout)
                for index, ones in enumerate(zip(*values, strict=True))
            )
            return type(first)(joined)
        return first
    if isinstance(first, list):
        return [one for value in values for one in value] + first[:1] * padding
    axis = layout.axes.get(name, 0)
    parts = list(values)
    if padding:
        row = first.narrow(axis, 0, 1)
        shape = list(row.shape)
        shape[axis] = padding
        parts.append(row.expand(shape))
    return torch.cat(parts, dim=axis) if len(parts) > 1 else first
