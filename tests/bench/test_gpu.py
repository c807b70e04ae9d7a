"""If these fail, `make gpu` says that a GPU is fine where it is not, or was not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench import gpu
from bench.gpu import run_tests, summary
from tests.conftest import has_cuda
from tests.tiny import tiny_flow

app = typer.Typer()
app.command()(gpu.main)
run = CliRunner()

TESTS = """
import pytest
pytestmark = pytest.mark.gpu
def test_good(): pass
def test_bad(): assert 1 == 2, "it is not"
@pytest.mark.skip(reason="no time")
def test_later(): pass
@pytest.fixture
def broken(): raise RuntimeError("broken")
def test_of_it(broken): pass
"""


@pytest.mark.skipif(has_cuda(), reason="there is a CUDA device")
def test_without_a_gpu_nothing_is_claimed(tmp_path: Path) -> None:
    result = run.invoke(app, f"-o {tmp_path / 'out'}")
    assert result.exit_code == gpu.NO_GPU
    assert "no CUDA device here" in result.output
    assert not (tmp_path / "out").exists()


def test_the_summary_says_what_was_not_passed_and_why(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    done = run_tests(str(tmp_path))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    *lines, counts = summary(done.stdout)  # where CI is set, reasons may have further lines
    kinds = ("SKIPPED", "ERROR", "FAILED")
    skipped, error, failed = (
        next(line for line in lines if line.startswith(kind)) for kind in kinds
    )
    assert skipped.endswith("no time")
    assert "test_bad" in failed
    assert "it is not" in failed
    assert "test_of_it" in error
    assert "broken" in error
    assert "1 failed, 1 passed, 1 skipped" in counts


def test_a_run_without_a_result_has_failed(tmp_path: Path) -> None:
    done = run_tests(str(tmp_path / "nothing"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert " passed" not in summary(done.stdout)[-1]


@pytest.mark.parametrize(("tests", "status"), [("good", 0), ("good or bad", 1), ("later", 1)])
def test_a_report_is_written_and_the_status_tells(tmp_path: Path, tests: str, status: int) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    for name in tests.split(" or "):
        body = TESTS.partition(f"def test_{name}")
        mark = "@pytest.mark.skip(reason='no time')\n" if name == "later" else ""
        test = f"{mark}def test_{name}{body[2].splitlines()[0]}\n"
        (folder / f"test_{name}.py").write_text(
            f"import pytest\npytestmark = pytest.mark.gpu\n{test}"
        )
    result = run.invoke(
        app,
        f"--device cpu -o {tmp_path / 'out'} --model {tiny_flow(tmp_path / 'tiny')} "
        f"--tests {folder} --tiles 2,8 --seconds 0.01 --images 8",
    )
    assert result.exit_code == status, result.output
    (path,) = (tmp_path / "out").iterdir()
    report = path.read_text(encoding="utf-8")
    assert path.name.startswith("gpu-")
    assert "| model | tiny (" in report
    assert "| fp32 | eager | 8 |" in report
    assert "8 images at once in " in report
    assert "of the same model stepped in a bare loop (eager)" in report
    assert ("no time" in report) == (tests == "later")


def test_what_was_measured_before_a_failure_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(gpu, "measure_served", broken)
    result = run.invoke(
        app,
        f"--device cpu -o {tmp_path / 'out'} --model {tiny_flow(tmp_path / 'tiny')} "
        f"--tests {tmp_path / 'none'} --tiles 2,8 --seconds 0.01",
    )
    assert str(result.exception) == "the driver is gone"
    [report] = (tmp_path / "out").iterdir()
    written = report.read_text(encoding="utf-8")
    rows = [line for line in result.output.splitlines() if line.startswith("| bf16 | eager | ")]
    assert len(rows) == 2  # also while it measures
    assert all(row in written for row in rows)
    assert "The engine" not in written
