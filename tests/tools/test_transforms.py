"""The figures of transforms: images are corrupted as stated, and a loss is printed as a loss."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.data.emoji import _bucket
from model.evaluation.metrics import Quality, on_white, quality
from model.evaluation.sampling import Sampler
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import Picture
from tests.emoji_sets import make_set
from tests.tiny import tiny_flow
from tools.damage import TASKS
from tools.transforms import RepairLine, TransformEvaluation, repair_table

SIDE = 16


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two styles of six symbols, of which the second style's is held out for three."""
    codes = [f"{code:x}" for code in range(0x1F300, 0x1F500)]
    names = {
        code: f"thing {code}"
        for code in [
            *[code for code in codes if _bucket(code, 10) == 0][:3],
            *[code for code in codes if _bucket(code, 10) == 5][:3],
        ]
    }
    return [make_set(tmp_path / style, style, names) for style in ("noto", "fluent 3d")]


def ball() -> Picture:
    """A coloured disc on nothing."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[(rows - 8) ** 2 + (columns - 8) ** 2 < 36] = (200, 60, 20, 255)
    return Picture(SIDE, SIDE, 4, pixels.tobytes())


def task_source(name: str) -> tuple[np.ndarray, np.ndarray, bytes | None]:
    """Pixels before and after it is corrupted, and the mask."""
    (task,) = [task for task in TASKS if task.name == name]
    source = task.corrupt(ball(), np.random.default_rng(0))
    side = source.picture.width
    after = np.frombuffer(source.picture.pixels, np.uint8).reshape(side, side, 4)
    return np.frombuffer(ball().pixels, np.uint8).reshape(SIDE, SIDE, 4), after, source.mask


def test_nothing_of_the_hole_is_given_to_the_model() -> None:
    before, after, mask = task_source("inpaint")
    assert mask is not None
    hole = np.frombuffer(mask, np.uint8).reshape(SIDE, SIDE) == 255
    assert hole.sum() == (SIDE // 2) ** 2
    assert not after[hole].any()
    assert np.array_equal(after[~hole], before[~hole])


def test_nothing_of_the_colour_is_given_to_the_model() -> None:
    before, after, _ = task_source("colorize")
    assert np.array_equal(after[..., 3], before[..., 3])
    assert (np.ptp(after[..., :3], axis=2) == 0).all()


def test_noise_has_the_deviation_that_is_stated() -> None:
    before, after, _ = task_source("denoise 0.1")
    inside = before[..., 3] == 255
    # Only where 0 and 255 are four deviations away, so that nothing is cut.
    difference = after[inside][:, 0].astype(float) - 200
    assert 0.06 < difference.std() / 255 < 0.14
    assert np.array_equal(after[..., 3], before[..., 3])


def test_equal_pictures_reach_the_cap_and_others_do_not() -> None:
    real = on_white(ball())
    equal = quality([real], [real])
    assert equal.psnr == pytest.approx(60)
    assert equal.ssim == pytest.approx(1)
    worse = quality([np.clip(real + 0.1, 0, 1)], [real])
    assert 20 <= worse.psnr < 25
    assert worse.ssim < 1


def test_a_loss_is_printed_as_a_loss() -> None:
    good, bad = Quality(30, 0.9), Quality(20, 0.8)
    won = RepairLine("a", 3, 6, good, good, "blur", {"blur": bad})
    lost = RepairLine("b", 3, 6, bad, bad, "blur", {"blur": good})
    assert (won.ahead, lost.ahead) == ([], ["blur", "blur (PSNR)"])
    first, second = repair_table([won, lost]).splitlines()[2:]
    assert first.endswith("| none |")
    assert second.endswith("| blur, blur (PSNR) |")


def test_a_report_twice_is_the_same_report(folders: list[Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_flow(tmp_path / "tiny"))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    reports = []
    for name in ("one", "two"):
        evaluation = TransformEvaluation(
            Sampler(model, {"steps": 2, "guidance": 1}), folders, count=2
        )
        steps: list[int] = []
        assert len(list(evaluation.run(steps.append))) == len(TASKS) + 5
        assert sum(steps) == evaluation.steps, "the progress bar would not end at its end"
        evaluation.report().write(tmp_path / name)
        reports.append((tmp_path / name / "transform.json").read_bytes())
        assert (tmp_path / name / "transform.png").stat().st_size > 500
    assert reports[0] == reports[1]
    report = json.loads(reports[0])
    assert [line["task"] for line in report["repairs"]] == [task.name for task in TASKS]
    assert {line["of"] for line in report["repairs"]} == {2}
    assert [line["twin"]["of"] for line in report["restyle"]] == [2] * 5
    assert {line["chance"] for line in report["restyle"]} == {round(1 / 6, 5)}
