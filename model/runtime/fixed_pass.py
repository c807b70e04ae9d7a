"""One kind of pass: a function of tensors that is run again and again with one shape.

On a CPU the function is simply called. On a GPU it is captured once, as a CUDA graph; from then on
a pass is asynchronous copies out of pinned memory, one replay, and asynchronous copies back into
pinned memory, all of them queued on the one stream that the process uses. Nothing in a pass makes
the host wait; `FixedPass.fetch` waits once, at its end.

A graph remembers addresses: whatever the function
reads beside its inputs (weights, encodings, a cache) must be changed in place, never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import torch
from torch import Tensor

from model.protocol import ImageModel, R

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

I = TypeVar("I", bound="DataclassInstance")  # noqa: E741
T = TypeVar("T", bound=tuple[Tensor, ...])

Mode = Literal["eager", "cuda graph"]
"""How the functions are run. They are the same, but their bits need not be: part of numerics."""

WARM_UP = 3
"""Calls before a capture, in which libraries choose kernels and allocate their workspaces."""


def mode_on(device: torch.device | str) -> Mode:
    """What a device is served with where nothing else is set."""
    return "cuda graph" if torch.device(device).type == "cuda" else "eager"


@dataclass(frozen=True, slots=True)
class Recording(Generic[T]):
    """Work that can be done again. ``replay`` queues it and leaves its results in ``outputs``."""

    outputs: T
    replay: Callable[[], None]


def cuda_graph(work: Callable[[], T]) -> Recording[T]:
    """Captures what ``work`` does on the current CUDA device.

    Memory for whatever it allocates is held as long as the recording.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work()
    return Recording(outputs, graph.replay)


class FixedPass(Generic[I, T]):
    """Runs ``function`` on its ``inputs``, whose shapes and dtypes never change.

    ``inputs`` is a dataclass of tensors. Fill `inputs`, then `launch` or `fetch`. What these return
    is overwritten by the next pass: clone what must stay. Belongs to one thread. A CUDA device must
    be the current one. With "cuda graph", the function is called a few times at once, on the inputs
    as they are, and never again.
    """

    def __init__(
        self, function: Callable[[I], T], inputs: I, device: torch.device, mode: Mode
    ) -> None:
        self._function = function
        on_gpu = device.type == "cuda"
        self._host = _map(inputs, lambda x: x.pin_memory() if on_gpu else x)
        self._device = self._host
        if device.type != "cpu" or mode == "cuda graph":
            self._device = _map(inputs, lambda x: x.to(device, copy=True))
        self._recording: Recording[T] | None = None
        if mode == "cuda graph":
            with torch.inference_mode():
                self._recording = cuda_graph(lambda: function(self._device))
        self._results: tuple[Tensor, ...] = ()
        self._read = torch.cuda.Event() if on_gpu else None
        self._written = torch.cuda.Event() if on_gpu else None

    def inputs(self) -> I:
        """The inputs on the host, to be filled in place. Waits if a pass has yet to read them."""
        if self._read is not None:
            self._read.synchronize()
        return self._host

    @torch.inference_mode()
    def launch(self) -> T:
        """Queues a pass. Its outputs stay on the device, for what is queued there next."""
        for there, here in zip(_tensors(self._device), _tensors(self._host), strict=True):
            if there is not here:
                there.copy_(here, non_blocking=True)
        if self._read is not None:
            self._read.record()
        if self._recording is None:
            return self._function(self._device)
        self._recording.replay()
        return self._recording.outputs

    @torch.inference_mode()
    def fetch(self) -> tuple[Tensor, ...]:
        """Runs a pass and waits for its outputs, on the host."""
        outputs = self.launch()
        if self._written is None:
            return outputs
        if not self._results:
            self._results = tuple(
                torch.empty(output.shape, dtype=output.dtype, pin_memory=True) for output in outputs
            )
        for here, there in zip(self._results, outputs, strict=True):
            here.copy_(there, non_blocking=True)
        self._written.record()
        self._written.synchronize()
        return self._results


def by_kind(model: ImageModel[R], rows: Sequence[R]) -> dict[str, list[R]]:
    """Rows by the kind of their next pass.

    Raises ``ValueError`` if those of one kind need more evaluations than its pass holds.
    """
    kinds: dict[str, list[R]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    for kind, together in kinds.items():
        needed, capacity = sum(row.evaluations for row in together), model.capacity(kind)
        if needed > capacity:
            raise ValueError(f"{needed} evaluations do not fit a pass of {capacity} ({kind})")
    return kinds


def _tensors(inputs: DataclassInstance) -> list[Tensor]:
    return [getattr(inputs, field.name) for field in fields(inputs)]


def _map(inputs: I, change: Callable[[Tensor], Tensor]) -> I:
    return replace(
        inputs, **{field.name: change(getattr(inputs, field.name)) for field in fields(inputs)}
    )
