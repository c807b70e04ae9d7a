"""If these fail, whoever starts the service on a small device is left with a stack of kernels."""

from __future__ import annotations

import pytest
import torch

from model.memory import GIB, Room, explain, is_shortage


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_everyone_who_notices_is_understood(error: Exception) -> None:
    assert is_shortage(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_shortage(error)


def test_the_cpus_own_words_are_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56)
    assert is_shortage(caught.value)


def test_only_settings_that_would_help_are_named() -> None:
    said = explain(
        doing="while emoji-flow was loaded",
        room=Room(total=80 * GIB, free=GIB, ours=70 * GIB),
        models=2,
        tile=64,
        dtype="fp32",
    )
    assert said == (
        "no memory left while emoji-flow was loaded (of 80.0 GiB, this worker holds 70.0 "
        "and other processes and the driver 9.0); what helps: a smaller TESSERA_TILE (it is 64), "
        "fewer TESSERA_MODELS (there are 2), TESSERA_DTYPE=bf16"
    )


def test_a_device_that_others_hold_is_told_from_one_too_small() -> None:
    said = explain(
        doing="while emoji-flow was tested",
        room=Room(total=80 * GIB, free=GIB, ours=2 * GIB),
        models=1,
        tile=2,
        dtype="bf16",
    )
    assert said.endswith("the driver 77.0); what helps: a device to itself (TESSERA_DEVICES)")


def test_a_cpu_does_not_tell() -> None:
    assert Room.on("cpu") is None
    said = explain(doing="x", room=None, models=1, tile=2, dtype="bf16")
    assert said == "no memory left x"
