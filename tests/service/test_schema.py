"""If this fails, /openapi.json tells a client something else than the service does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Start

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")

# No schema can say which of their fields go together, so that 400 is no contradiction there: that
# some are accepted shows that their answers were held against the schema at all.
FORMS = ("transform", "edits", "variations")


@pytest.mark.timeout(900)
def test_the_schema_holds_for_whatever_is_sent(start: Start, full: bool, tmp_path: Path) -> None:
    # Nothing may be refused for its load or its prompt's tokens: 11 characters are at most 48.
    with start(
        MAX_ROWS_WAITING="10000",
        REQUEST_TIMEOUT="600",
        MAX_PROMPT_CHARACTERS="11",
    ) as service:
        service.await_ready()
        examples, least = (200, 2000) if full else (20, 300)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{service.url}/openapi.json", "--max-examples", str(examples)),
                *(() if full else ("--generation-deterministic",)),
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert service.process.poll() is None
        metrics = httpx.get(f"{service.url}/metrics").text
        for form in FORMS:
            count = rf'_count{{outcome="ok",route="/v1/images/{form}"}} \d'
            assert re.search(count, metrics), f"no {form} was accepted"
        found = re.search(r"(\d+) generated", done.stdout)
        assert found is not None
        assert int(found[1]) >= least
