"""If these fail, whoever starts the service on a small device is left with a stack of kernels."""

from __future__ import annotations

import pytest
import torch

from model.loading import DeviceMemory, is_shortage


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


def test_a_cpu_does_not_report_it() -> None:
    assert DeviceMemory.on("cpu") is None
