"""If these fail, whoever starts the service on a small device is left with a stack of kernels."""

from __future__ import annotations

from app.engine.device import no_memory
from model.loading import GIB, DeviceMemory


def test_only_settings_that_would_help_are_named() -> None:
    message = no_memory(
        doing="while emoji-flow was loaded",
        memory=DeviceMemory(total=80 * GIB, free=GIB, ours=70 * GIB),
        models=2,
        tile=64,
        dtype="fp32",
    )
    assert message == (
        "no memory left while emoji-flow was loaded (of 80.0 GiB, this worker holds 70.0 "
        "and other processes and the driver 9.0); what helps: a smaller TESSERA_TILE (it is 64), "
        "fewer TESSERA_MODELS (there are 2), TESSERA_DTYPE=bf16"
    )


def test_a_device_that_others_hold_is_told_from_one_too_small() -> None:
    message = no_memory(
        doing="while emoji-flow was tested",
        memory=DeviceMemory(total=80 * GIB, free=GIB, ours=2 * GIB),
        models=1,
        tile=2,
        dtype="bf16",
    )
    assert message.endswith("the driver 77.0); what helps: a device to itself (TESSERA_DEVICES)")


def test_without_figures_only_the_fact_is_reported() -> None:
    message = no_memory(doing="x", memory=None, models=1, tile=2, dtype="bf16")
    assert message == "no memory left x"
