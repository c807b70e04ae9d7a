"""What a measurement was made on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from model.numerics import device_name

ROOT = Path(__file__).resolve().parents[1]


def facts(device: str) -> dict[str, str]:
    """Whatever may explain a figure, in words."""
    told = {"device": device_name(device)}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        told |= {
            "memory": f"{properties.total_memory / 2**30:.1f} GiB",
            "multiprocessors": str(properties.multi_processor_count),
            "compute capability": f"{properties.major}.{properties.minor}",
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
        }
    return told | {
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "CPU": f"{device_name('cpu')}, {torch.get_num_threads()} threads",
        "commit": _commit(),
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
