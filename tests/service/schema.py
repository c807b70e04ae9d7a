"""Schemathesis, let loose on a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.service.running import Service

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


def check_schema(
    service: Service, folder: Path, *options: str, examples: int, deterministic: bool
) -> int:
    """Sends what /openapi.json says may be sent, and what not; how many requests that were.

    Fails where an answer contradicts the document.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{service.url}/openapi.json", "--max-examples", str(examples)),
            *options,
            *(("--generation-deterministic",) if deterministic else ()),
        ],
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.process.poll() is None
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None
    return int(found[1])
