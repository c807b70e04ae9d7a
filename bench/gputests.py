"""Runs the tests marked ``gpu`` and tells how they went."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.machine import ROOT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: "passed", "skipped" or "failed", and why."""

    name: str
    how: str
    why: str = ""


def run_tests(folder: str) -> tuple[Outcome, ...]:
    """Runs them in a process of their own, with their output on the terminal."""
    with tempfile.TemporaryDirectory() as temporary:
        xml = Path(temporary) / "tests.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={xml}", folder],
            cwd=ROOT,
            check=False,  # what failed is in the file
        )
        outcomes = read_outcomes(xml.read_text(encoding="utf-8")) if xml.is_file() else ()
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        # Not all were run: it was interrupted, or found none.
        outcomes += (Outcome("pytest", "failed", f"it ended with status {done.returncode}"),)
    return outcomes


def read_outcomes(xml: str) -> tuple[Outcome, ...]:
    """Reads pytest's JUnit file."""
    outcomes = []
    for case in ElementTree.fromstring(xml).iter("testcase"):  # noqa: S314 - pytest wrote it
        name = f"{case.get('classname')}.{case.get('name')}"
        how, why = "passed", ""
        for tag, meaning in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
            for found in case.iter(tag):
                how, why = meaning, (found.get("message") or "").partition("\n")[0]
        outcomes.append(Outcome(name, how, why))
    return tuple(outcomes)
