"""`tessera models`, and what holds for all commands."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.conftest import Run


def test_models_lists_what_ships(run: Run) -> None:
    said = " ".join(run("models").stdout.replace("│", " ").split())
    values = "steps 20, guidance 2, solver_order 1, strength 1, noise"
    assert f"emoji-flow flow 64x64, resampled for other squares {values}" in said


def test_help_does_not_load_torch() -> None:
    """`tessera serve` goes through this package; its process stays free of torch."""
    code = "import sys, app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_options_of_a_model_are_found_without_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom app.cli import cli\n"
        "result = CliRunner().invoke(cli, 'generate x --model emoji-gpt --guidance 0')\n"
        "sys.exit(result.exit_code != 1 or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
