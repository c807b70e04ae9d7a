"""What may change bits, as one short hash: replicas with equal numerics draw equal pixels."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import torch

SAMPLER_VERSION = 1
"""Raised whenever Tessera's own arithmetic (noise, solver, guidance, pixels) changes bits."""


def numerics(*, digest: str, device: str, dtype: str, tile: int) -> str:
    """12 hex digits over checkpoint, sampler, torch, device, threads, dtype and tile."""
    parts: dict[str, object] = {
        "checkpoint": digest,
        "sampler": SAMPLER_VERSION,
        "torch": torch.__version__,
        "dtype": dtype,
        "tile": tile,
        "compile": "eager",
        "device": device_name(device),
    }
    if device.startswith("cuda"):
        parts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    else:
        parts |= {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "mkldnn": torch.backends.mkldnn.is_available(),
        }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def device_name(device: str) -> str:
    """The hardware's own name, e.g. "NVIDIA H200" or "AMD EPYC 25/17/1"."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return _cpu_name() or platform.processor() or platform.machine()


def _cpu_name() -> str:
    """Model name, family, model and stepping, where Linux tells them; else empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    version = "/".join(facts.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{facts['model name']} {version}" if "model name" in facts else ""
