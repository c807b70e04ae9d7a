"""Training: an interrupted run must end where an undisturbed one does."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.engine.selftest import examine
from model.checkpoint import CheckpointError
from model.flow.config import FlowCheckpoint
from model.loading import load_model
from model.registry import open_checkpoint
from model.runtime.generate import generate
from model.tokenizer import PromptTokenizer
from model.training.choices import Choices
from model.training.optimizer import OptimizerConfig
from model.training.recipe import TrainingError, TrainingOptions
from model.training.run_folder import RunFolder
from model.training.schedule import Schedule, TrainConfig
from model.training.start import start_training
from tests.emoji_sets import make_set
from tests.training import Listener, make_vectors, tiny_training


@pytest.fixture
def options(tmp_path: Path) -> TrainingOptions:
    names = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog", "1f419": "octopus"}
    data = make_set(tmp_path / "noto", "noto", names)
    rates = {"learning_rate": 1e-3, "sample_every": 100, "save_every": 100}
    return tiny_training(data, tmp_path / "run", **rates)


def test_an_interrupted_run_goes_on_to_the_same_place(
    options: TrainingOptions, tmp_path: Path
) -> None:
    whole = start_training(replace(options, out=tmp_path / "whole"), Listener())
    first = Listener(interrupt_after=2)
    start_training(options, first)
    assert len(first.losses) == 2
    assert first.notes[-1] == "interrupted after step 2; the same command goes on"
    second = Listener()
    again = start_training(options, second)
    assert "going on after step 2" in second.notes
    assert len(second.losses) == 4
    expected = load_file(whole / "model.safetensors")
    for name, weight in load_file(again / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name
    log = (options.out / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in log]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_run_leaves_a_checkpoint_samples_and_a_curve(options: TrainingOptions) -> None:
    folder = start_training(options, Listener())
    checkpoint = open_checkpoint(folder)
    assert checkpoint.spec.description == "squares"
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=4)
    assert (
        next(generate(model, [checkpoint.spec.request("rocket", 0, steps=2, guidance=2.0)])).width
        == 16
    )
    assert (options.out / "samples" / "0000006.png").stat().st_size > 500
    page = (options.out / "progress.html").read_text()
    assert page.count("<polyline") == 1
    assert "data:image/webp;base64," in page
    assert f"tessera serve {options.out}" in page


def test_it_learns(options: TrainingOptions) -> None:
    listener = Listener()
    start_training(replace(options, steps=120, batch=16, cooldown=0.2), listener)
    assert sum(listener.losses[-20:]) / 20 < 0.4 * sum(listener.losses[:5]) / 5


def test_another_shape_in_the_same_folder_is_refused(options: TrainingOptions) -> None:
    start_training(replace(options, steps=1), Listener())
    with pytest.raises(TrainingError, match=r"another --batch \(4, now 8\); give the same"):
        start_training(replace(options, batch=8), Listener())


def test_more_steps_prolong_a_finished_run(options: TrainingOptions) -> None:
    start_training(replace(options, steps=2), Listener())
    listener = Listener()
    start_training(replace(options, steps=3), listener)
    assert len(listener.losses) == 1


def test_beginning_from_another_checkpoint_takes_what_fits(
    options: TrainingOptions, tmp_path: Path
) -> None:
    """Coarse to fine: larger patches first, then the same trunk on smaller ones."""
    coarse = start_training(replace(options, steps=1), Listener())
    listener = Listener()
    fine = replace(options, patch=2, init=coarse, steps=1, out=tmp_path / "fine")
    start_training(fine, listener)
    [note] = [note for note in listener.notes if note.startswith("took over")]
    assert "patch_embed.weight" in note
    assert "blocks" not in note.split("new ones:")[1]


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (24, 6), (32, 8)])
def test_images_of_another_size_begin_with_resized_patch_layers(
    options: TrainingOptions, tmp_path: Path, size: int, patch: int
) -> None:
    """The loss of the first step is about where the smaller one's ended."""
    small = start_training(replace(options, steps=40, batch=16), Listener())
    again, larger = Listener(), Listener()
    same = replace(options, init=small, steps=1, batch=64, vocabulary=400)
    start_training(replace(same, out=tmp_path / "again"), again)
    grown = replace(same, size=size, patch=patch, detail_width=8, polish_channels=4)
    folder = start_training(replace(grown, out=tmp_path / "larger"), larger)
    [note] = [note for note in larger.notes if note.startswith("took over")]
    new = note.split("new ones: ")[1].split(", ")
    assert all(name.startswith(("detail.", "polish.")) for name in new)
    assert larger.losses[0] < 2 * again.losses[0]
    checkpoint = open_checkpoint(folder)
    assert isinstance(checkpoint, FlowCheckpoint)
    assert checkpoint.config.network.detail_width == 8
    assert checkpoint.config.network.enlarged == size / 16
    model = load_model(checkpoint, device="cpu", dtype="bf16", tile=2)
    [image] = generate(model, [checkpoint.spec.request("red apple", 1, steps=2)])
    assert (image.width, image.height) == (size, size)
    assert examine(model).seed_exact
    # The start is not needed to go on.
    on = Listener()
    start_training(replace(grown, out=tmp_path / "larger", init=None, steps=2), on)
    assert len(on.losses) == 1
    assert checkpoint.tokenizer.vocabulary <= 400


def test_a_run_begins_from_a_model_by_its_name_or_its_runs_folder(
    options: TrainingOptions, tmp_path: Path
) -> None:
    start_training(replace(options, steps=1), Listener())
    for init in (Path("emoji-flow"), options.out):
        listener = Listener()
        start_training(
            replace(options, steps=1, init=init, out=tmp_path / f"from-{init.name}"), listener
        )
        assert any(note.startswith("took over") for note in listener.notes)


def test_a_start_that_fits_nowhere_is_refused(
    options: TrainingOptions, tiny_models: Mapping[str, Path]
) -> None:
    with pytest.raises(TrainingError, match="no weights of this network's shapes"):
        start_training(replace(options, init=tiny_models["gpt"]), Listener())


def test_rate_and_cool_down_may_change_when_a_run_goes_on(options: TrainingOptions) -> None:
    start_training(replace(options, steps=4, cooldown=0.0), Listener())
    listener = Listener()
    changed = replace(options, steps=8, cooldown=0.5, learning_rate=1e-4)
    start_training(changed, listener)
    assert len(listener.losses) == 4


def test_the_rate_warms_up_stays_and_falls_to_nothing() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, cooldown=0.4)
    rates = [config.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:61] == [1.0] * 52
    assert rates[80] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.025)


def test_vectors_of_words_are_kept_as_they_are(options: TrainingOptions, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    vectors = make_vectors(folder, ["red", "apple", "rocket", "dog"])
    tokenizer = PromptTokenizer.load(folder / "tokenizer.json")
    given = replace(options, vectors=folder)
    start_training(given, Listener(interrupt_after=2))
    shutil.rmtree(folder)  # a run depends on nothing but what it saved
    trained = start_training(given, Listener())
    checkpoint = open_checkpoint(trained)
    assert isinstance(checkpoint, FlowCheckpoint)
    assert checkpoint.config.network.text.frozen_channels == 8
    assert checkpoint.tokenizer.tokens("Red apple") == tokenizer.tokens("red apple")
    weights = load_file(trained / "model.safetensors")
    assert torch.equal(weights["reader.encoder.embedding.codes"], vectors["codes"])
    model = load_model(checkpoint, device="cpu", dtype="bf16", tile=4)
    assert next(generate(model, [checkpoint.spec.request("rocket", 0, steps=2)])).width == 16
    # And so does what begins with these weights.
    begun = replace(options, init=trained, out=tmp_path / "again")
    start_training(begun, Listener(interrupt_after=2))
    shutil.rmtree(trained)
    again = start_training(begun, Listener())
    kept = load_file(again / "model.safetensors")["reader.encoder.embedding.codes"]
    assert torch.equal(kept, vectors["codes"])


def test_vectors_that_are_not_there_are_named(options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vectors\.safetensors: missing"):
        start_training(replace(options, vectors=tmp_path), Listener())


class TestBudgets:
    """`Schedule` with a clock that is told the time."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr("model.training.schedule.time.perf_counter", lambda: now[0])
        return now

    def run(self, schedule: Schedule, clock: list[float], seconds: Callable[[int], float]) -> int:
        step = 0
        while step < schedule.steps:
            clock[0] += seconds(step)
            step += 1
            schedule.done(step)
        return step

    def config(self, minutes: float | None, steps: int = 10_000) -> TrainConfig:
        return TrainConfig(OptimizerConfig(cooldown=0.5), steps=steps, minutes=minutes)

    def test_a_run_ends_when_its_time_is_over(self, clock: list[float]) -> None:
        schedule = Schedule(self.config(minutes=2), 0, {})
        steps = self.run(schedule, clock, lambda step: 30 if step == 0 else 0.5)
        assert 210 <= clock[0] <= 220  # of 100 to 220; the first step compiled
        assert steps == schedule.state["settled"]
        assert 170 <= steps <= 185

    def test_steps_that_grow_slower_are_noticed_until_the_rate_falls(
        self, clock: list[float]
    ) -> None:
        schedule = Schedule(self.config(minutes=2), 0, {})
        steps = self.run(schedule, clock, lambda step: 0.1 if step < 100 else 0.4)
        assert 215 <= clock[0] <= 255
        assert steps < 450

    def test_steps_are_the_most(self, clock: list[float]) -> None:
        assert self.run(Schedule(self.config(2, steps=7), 0, {}), clock, lambda _: 0.1) == 7

    def test_what_was_settled_holds_when_the_run_goes_on(self, clock: list[float]) -> None:
        state = {"settled": 150, "minutes": 2, "seconds": 70.0}
        assert Schedule(self.config(minutes=2), 80, state).steps == 150
        assert Schedule(self.config(minutes=None), 80, state).steps == 10_000
        assert Schedule(self.config(minutes=4), 80, state).steps == 10_000  # it is prolonged

    def test_processes_share_a_budget(self, clock: list[float]) -> None:
        first = Schedule(self.config(minutes=2), 0, {})
        for step in range(1, 41):
            clock[0] += 1
            first.done(step)
        assert first.state == {"settled": None, "minutes": 2, "seconds": 40.0}
        second = Schedule(self.config(minutes=2), 40, first.state)
        while second.state["settled"] is None:
            clock[0] += 1
            step += 1
            second.done(step)
        assert (second.steps, second.seconds, step) == (120, 60.0, 60)

    def test_sheets_come_ever_more_rarely(self, clock: list[float]) -> None:
        config = replace(self.config(minutes=60), sample_every=None, save_every=None)
        schedule = Schedule(config, 0, {})
        sheets, saves, step = [], 0, 0
        while step < schedule.steps:
            clock[0] += 1
            step += 1
            schedule.done(step)
            if schedule.save_due:
                saves += 1
                clock[0] += 2  # two per cent of a hundred seconds
                schedule.saved(2)
            if schedule.sheet_due:
                sheets.append(step)
                schedule.shown()
        assert 55 <= sheets[0] <= 60
        assert all(1.3 < b / a < 1.8 for a, b in pairwise(sheets[:-1])), sheets
        assert sheets[-1] == step
        assert saves - len(sheets) < 36


@pytest.mark.parametrize("after", [8, 20], ids=["before", "after"])
def test_a_budget_that_was_interrupted_ends_as_a_run_of_so_many_steps(
    options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """To the byte, interrupted before or after the number of steps was settled."""

    def a_second_later(schedule: Schedule) -> None:
        schedule.seconds += 1

    monkeypatch.setattr(Schedule, "_pass_time", a_second_later)
    timed = replace(options, steps=1000, minutes=0.5)
    start_training(timed, Listener(interrupt_after=after))
    second = Listener()
    folder = start_training(timed, second)
    steps = after + len(second.losses)
    assert 25 <= steps <= 30
    whole = replace(options, out=tmp_path / "whole", steps=steps)
    expected = load_file(start_training(whole, Listener()) / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name


def test_choices_are_made_once(options: TrainingOptions, tmp_path: Path) -> None:
    """And are kept with the run, whatever its data and the machine become."""
    given = Choices(width=32, depth=1, batch=4, steps=2, compiled=False)
    chosen = replace(options, given=given)
    start_training(chosen, Listener())
    state = RunFolder(options.out).load()
    assert state is not None
    assert state["choices"]["size"] == 64
    assert state["choices"]["patch"] == 8
    listener = Listener()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("model.training.automatic.choose", None)
        start_training(replace(chosen, given=Choices(steps=3)), listener)
    assert len(listener.losses) == 1


def test_a_network_has_the_shape_of_the_one_it_begins_with(
    options: TrainingOptions, tmp_path: Path
) -> None:
    start_training(replace(options, steps=1, width=48), Listener())
    given = Choices(size=32, batch=4, steps=1, compiled=False)
    listener = Listener()
    next_run = replace(options, init=options.out, out=tmp_path / "next", given=given)
    start_training(next_run, listener)
    assert any("--width 48 --depth 1" in note for note in listener.notes)
    assert any("--size 32 --patch 8" in note for note in listener.notes)
    [note] = [note for note in listener.notes if note.startswith("took over")]
    assert note.endswith("new ones: none")
