"""What may change bits: configured here, and reported as one short hash.

Replicas with equal numerics draw equal pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model.runtime.packing import packs

if TYPE_CHECKING:
    from model.runtime.fixed_pass import Mode

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What networks are served in, by the names that settings have for it."""

SAMPLER_VERSION = 1
"""Raised whenever Tessera's own arithmetic (noise, solver, guidance, pixels) changes bits."""

CUDA_ENVIRONMENT = {
    # Eight buffers of 16 KiB, too small for the products that split their sums (split-K): these
    # would add up in an order that depends on where in the tile a row lies.
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "CUBLASLT_WORKSPACE_SIZE": "128",  # the same, for products with a bias; in KiB
}


def configure_determinism(device: str, threads: int | None = None) -> None:
    """Decides what torch leaves open on ``device``, which becomes the current one.

    For the whole process, before it computes anything: the libraries read their settings once.
    Training is better off without: some of its operations have no deterministic algorithm.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")  # no TF32 in products
    torch.backends.cudnn.allow_tf32 = False  # nor in convolutions
    torch.backends.cudnn.benchmark = False  # it may choose another algorithm each time
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums stay fp32
    if device.startswith("cuda"):
        os.environ.update(CUDA_ENVIRONMENT)
        torch.use_deterministic_algorithms(True)
        torch.cuda.set_device(device)


def numerics(
    *,
    digest: str,
    device: str,
    dtype: str,
    tile: int,
    mode: Mode,
    libraries: Mapping[str, str] | None = None,
) -> str:
    """12 hex digits over checkpoint, sampler, torch, device, threads, dtype, tile and mode.

    ``libraries`` are what else a family depends on, see `model.checkpoint.Checkpoint.libraries`.
    """
    parts: dict[str, object] = {
        "checkpoint": digest,
        "sampler": SAMPLER_VERSION,
        "torch": torch.__version__,
        "dtype": dtype,
        "tile": tile,
        "compile": mode,
        "device": device_name(device),
    }
    if libraries:
        parts["libraries"] = dict(libraries)
    if device.startswith("cuda"):
        parts |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "settings": CUDA_ENVIRONMENT,
        }
    else:
        parts |= {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "mkldnn": torch.backends.mkldnn.is_available(),
            "packed": packs(DTYPES[dtype]),
        }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def device_name(device: str) -> str:
    """The hardware's own name, e.g. "NVIDIA H200" or "AMD EPYC 25/17/1"."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return _cpu_name() or platform.processor() or platform.machine()


def _cpu_name() -> str:
    """Model name, family, model and stepping, where Linux has them; else empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    version = "/".join(facts.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{facts['model name']} {version}" if "model name" in facts else ""
