"""What a worker needs of the code that owns its device, and that code for torch's devices.

Torch is imported when a device is opened, in the worker's process. Tests name another opener by
`WorkerSettings.opener`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.engine.messages import WorkerSettings
from app.memory import keep_freed_memory
from model.protocol import ImageModel, LoadedModel

if TYPE_CHECKING:
    from app.engine.selftest import SelfTest
    from model.loading import DeviceMemory


class DeviceError(Exception):
    """Why a device cannot be used. ``str()`` says all there is to say."""


class Device(Protocol):
    """A device that this process owns."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and, where "auto" was asked for, those of the other devices after it."""

    def load(self, folder: Path) -> ImageModel[Any]:
        """Loads a checkpoint. Whatever it raises is reported as the reason of a failed start."""

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        """What is known of a model that it loaded."""

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        """The same error in words that help, if it is one of the device's: no memory, mostly."""

    def memory(self) -> int:
        """Bytes held on the device; 0 where it does not tell."""

    def after_a_pause(self) -> AbstractContextManager[None]:
        """What the first step is done in, after there was nothing to do."""


class TorchDevice:
    """A CPU or a CUDA device. Raises `DeviceError` for one that there is not, or without memory."""

    def __init__(self, settings: WorkerSettings) -> None:
        from model.loading import resolve_dtype
        from model.runtime import waiting
        from model.runtime.fixed_pass import Mode, mode_on
        from model.runtime.numerics import configure_determinism

        self.names = _names(settings.device)
        self._name = self.names[0]
        self._settings = settings.engine
        self._mode: Mode = mode_on(self._name) if self._settings.cuda_graphs else "eager"
        self._dtype = self._settings.dtype
        self._libraries: dict[str, Mapping[str, str]] = {}  # by model
        self._less_memory: dict[str, None] = {}  # settings of families
        try:
            configure_determinism(self._name, self._settings.threads)
            if self._name == "cpu":
                keep_freed_memory()
                waiting.adapt(self._settings.threads or 1)
            self._dtype = resolve_dtype(self._dtype, self._name)
        except RuntimeError as error:  # a driver needs memory of its own to begin with
            if explained := self.explain(error, "while the device was opened"):
                raise explained from error
            raise

    def load(self, folder: Path) -> ImageModel[Any]:
        """See `Device.load`."""
        from model.loading import load_model
        from model.registry import open_checkpoint

        checkpoint = open_checkpoint(folder).with_loras(self._settings.loras)
        self._less_memory |= dict.fromkeys(checkpoint.less_memory(self._settings))
        self._libraries[checkpoint.spec.id] = checkpoint.libraries(self._settings)
        return load_model(
            checkpoint,
            device=self._name,
            dtype=self._dtype,
            tile=self._settings.tile,
            mode=self._mode,
            pipelines=self._settings,
        )

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        """See `Device.describe`."""
        import torch

        from model.runtime.numerics import device_name, numerics

        name = self._name
        threads = f", {torch.get_num_threads()} threads" if name == "cpu" else ""
        return LoadedModel(
            spec=model.spec,
            numerics=numerics(
                digest=model.spec.digest,
                device=name,
                dtype=self._dtype,
                tile=model.tile,
                mode=self._mode,
                libraries=self._libraries.get(model.spec.id),
            ),
            seed_exact=test.seed_exact,
            slowest=test.slowest,
            rungs=test.rungs,
            tile=model.tile,
            slots=model.slots,
            device=f"{name} ({device_name(name)}{threads})",
            dtype=self._dtype,
        )

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        """See `Device.explain`."""
        from model.loading import DeviceMemory, is_shortage

        if not is_shortage(error):
            return None
        return DeviceError(
            no_memory(
                doing=doing,
                memory=DeviceMemory.on(self._name),
                models=len(self._settings.models),
                tile=self._settings.tile,
                dtype=self._dtype,
                more=tuple(self._less_memory),
            )
        )

    def memory(self) -> int:
        """See `Device.memory`."""
        import torch

        return torch.cuda.memory_allocated() if self._name.startswith("cuda") else 0

    def after_a_pause(self) -> AbstractContextManager[None]:
        """See `Device.after_a_pause`."""
        from model.runtime.placement import apart

        return apart() if self._name == "cpu" else nullcontext()


def no_memory(
    *,
    doing: str,
    memory: DeviceMemory | None,
    models: int,
    tile: int | None,
    dtype: str,
    more: Sequence[str] = (),
) -> str:
    """Why there was too little memory for ``doing``, and the settings that need less of it.

    ``tile`` is None where each model has its own; ``more`` are further settings that help.
    """
    helps = []
    if tile is None:
        helps.append("a small TESSERA_TILE")
    elif tile > 2:
        helps.append(f"a smaller TESSERA_TILE (it is {tile})")
    if models > 1:
        helps.append(f"fewer TESSERA_MODELS (there are {models})")
    if dtype == "fp32":
        helps.append("TESSERA_DTYPE=bf16")
    helps += more
    if memory is not None and memory.others > memory.total / 4:
        helps.append("a device to itself (TESSERA_DEVICES)")
    found = f" ({memory})" if memory else ""
    what_helps = f"; what helps: {', '.join(helps)}" if helps else ""
    return f"no memory left {doing}{found}{what_helps}"


def _names(device: str) -> tuple[str, ...]:
    import torch

    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    if device == "auto":
        return gpus or ("cpu",)
    if device != "cpu" and device not in gpus:
        raise DeviceError(f"there is no such device here, only {', '.join(('cpu', *gpus))}")
    return (device,)
