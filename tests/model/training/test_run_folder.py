"""Nothing that happens to a process, a disk or a user's other data may spoil a run."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from model.flow.config import FlowCheckpointConfig
from model.flow.network import FlowTransformer
from model.loading import load_weights, save_checkpoint
from model.registry import open_checkpoint
from model.training.recipe import TrainingError, TrainingOptions
from model.training.run_folder import RunFolder, changed
from model.training.start import start_training
from tests.emoji_sets import make_set
from tests.tiny import TOKENIZER as TINY_TOKENIZER
from tests.tiny import tiny_flow
from tests.training import Listener, tiny_training

NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog", "1f419": "octopus"}
SAVE = 16  # operations on files in one: four each of weights, tokenizer, config and resume.pt


@pytest.fixture
def options(tmp_path: Path) -> TrainingOptions:
    data = make_set(tmp_path / "noto", "noto", NAMES)
    return tiny_training(data, tmp_path / "run", save_every=1, steps=3)


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(operation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is done to files fails from the operation of that number on."""
    done = 0

    def counted(does: Callable[..., object]) -> Callable[..., object]:
        def do(*given: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done > operation:
                raise Killed
            return does(*given, **named)

        return do

    for owner, name in ((Path, "chmod"), (Path, "replace"), (os, "fsync")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)


def test_a_kill_at_any_moment_of_a_save_spoils_nothing(
    options: TrainingOptions, tmp_path: Path, full: bool
) -> None:
    whole = start_training(replace(options, out=tmp_path / "whole"), Listener())
    expected = load_file(whole / WEIGHTS)
    start_training(replace(options, steps=1), Listener())
    begun = tmp_path / "begun"
    options.out.rename(begun)
    logged = 12  # the log is cut anew when a run goes on, and run.json and the page are written
    for operation in range(0, SAVE + 1, 1 if full else 3):
        shutil.copytree(begun, options.out)
        with pytest.MonkeyPatch.context() as patched:
            kill_at(logged + operation, patched)
            with pytest.raises(Killed):
                start_training(options, Listener())
        open_checkpoint(options.out / "checkpoint")
        again = start_training(options, Listener())
        for name, weight in load_file(again / WEIGHTS).items():
            assert torch.equal(weight, expected[name]), (operation, name)
        shutil.rmtree(options.out)


@pytest.mark.timeout(3600)  # 500 kills in the full counts
def test_killed_processes_go_on(options: TrainingOptions, full: bool, tmp_path: Path) -> None:
    """The real signal, at random moments of a run that saves each step.

    Every process goes on where the last one was killed, and whoever opens the checkpoint beside
    them finds one that is whole, with the digest that was read.
    """
    draw = random.Random(0)
    options = replace(options, steps=1_000_000)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["model.flow.training", "model.training.start"])
    opens: list[str] = []
    over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        beside = thread.submit(open_all_the_time, options.out, tmp_path / "copies", opens, over)
        try:
            for _ in range(500 if full else 4):
                before, seen = _saved(options.out), len(opens)
                process = processes.Process(target=_train, args=(options,))
                process.start()
                deadline = time.monotonic() + 120
                while _saved(options.out) == before or len(opens) == seen:
                    assert process.is_alive(), process.exitcode
                    assert not beside.done(), beside.result()
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                time.sleep(draw.random() / 4)
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
        finally:
            over.set()
        beside.result()
    state = RunFolder(options.out).load()
    assert state is not None
    assert state["step"] >= 4  # each process has saved once at least
    assert len(set(opens)) > 1  # it was written meanwhile


def _train(options: TrainingOptions) -> None:
    torch.set_num_threads(1)
    start_training(options, Listener())


def open_all_the_time(run: Path, copies: Path, opens: list[str], over: threading.Event) -> None:
    while not (run / "checkpoint" / CONFIG).exists() and not over.is_set():
        time.sleep(0.01)
    while not over.is_set():
        copies.mkdir()
        copy = open_checkpoint(run).copied(copies)
        assert open_checkpoint(copy.folder).spec.digest == copy.spec.digest
        assert all(
            torch.isfinite(value).all() for value in load_weights(copy.folder / WEIGHTS).values()
        )
        opens.append(copy.spec.digest)
        shutil.rmtree(copies)


def _saved(run: Path) -> int:
    """Which of the files that were renamed to it a resume reads."""
    resume = run / "resume.pt"
    return resume.stat().st_mtime_ns if resume.exists() else 0


def test_a_checkpoint_that_is_written_all_the_time_can_be_opened(tmp_path: Path) -> None:
    """What is copied for a service has the digest of what was copied."""
    folder = tiny_flow(tmp_path / "mine")
    config = FlowCheckpointConfig.model_validate_json((folder / CONFIG).read_bytes())
    network = FlowTransformer(config.network)
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            torch.nn.init.normal_(network.patch_out.bias)
            save_checkpoint(folder, config, network.state_dict(), TINY_TOKENIZER)

    writer = threading.Thread(target=write)
    writer.start()
    digests = set()
    try:
        for number in range(40):
            (within := tmp_path / str(number)).mkdir()
            copy = open_checkpoint(folder).copied(within)
            assert open_checkpoint(copy.folder).spec.digest == copy.spec.digest
            digests.add(copy.spec.digest)
    finally:
        over.set()
        writer.join()
    assert len(digests) > 1  # it was written meanwhile


def test_a_run_needs_nothing_but_its_resume_state(options: TrainingOptions, tmp_path: Path) -> None:
    init = start_training(replace(options, steps=1, out=tmp_path / "first"), Listener())
    begun = replace(options, init=init, steps=2)
    start_training(begun, Listener())
    shutil.rmtree(options.out / "checkpoint")
    (options.out / "log.jsonl").unlink()
    listener = Listener()
    folder = start_training(replace(begun, steps=3), listener)
    assert len(listener.losses) == 1
    open_checkpoint(folder)


def test_a_torn_log_is_cut(options: TrainingOptions) -> None:
    start_training(replace(options, steps=2), Listener())
    log = options.out / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'\xff{"step": 3, "lo')
    start_training(options, Listener())
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("left", [0, 1000])
def test_a_broken_resume_state_is_named(options: TrainingOptions, left: int) -> None:
    start_training(replace(options, steps=1), Listener())
    resume = options.out / "resume.pt"
    resume.write_bytes(resume.read_bytes()[:left])
    with pytest.raises(TrainingError, match=r"resume\.pt: cannot be read .* --init"):
        start_training(options, Listener())


def test_a_run_of_an_older_release_goes_on(options: TrainingOptions) -> None:
    """It has no tokenizer, no fingerprint, and nothing of layers that came later."""
    start_training(replace(options, steps=1), Listener())
    resume = options.out / "resume.pt"
    state = torch.load(resume, weights_only=True)
    del state["tokenizer"]
    config = json.loads(state["config"])
    del config["data"]
    for name in ("detail_width", "polish_channels", "enlarged"):
        del config["network"][name]
    config["optimizer"] |= {"learning_rate": 1e-3, "cooldown": 0.4}
    torch.save({**state, "config": json.dumps(config)}, resume)
    listener = Listener()
    start_training(options, listener)
    assert len(listener.losses) == 2


def test_other_data_do_not_go_on_with_a_run(options: TrainingOptions, tmp_path: Path) -> None:
    start_training(replace(options, steps=1), Listener())
    names = {**NAMES, "1f431": "cat"}
    other = replace(options, data=(make_set(tmp_path / "more", "noto", names),))
    with pytest.raises(TrainingError, match=r"data\.images \(4, now 5\).* --new-data"):
        start_training(other, Listener())
    listener = Listener()
    start_training(replace(other, new_data=True), listener)
    assert len(listener.losses) == 2
    start_training(replace(other, steps=4), Listener())  # it has these from now on


def test_a_finished_run_says_so(options: TrainingOptions) -> None:
    start_training(options, Listener())
    listener = Listener()
    start_training(options, listener)
    assert listener.notes[-1] == "finished: all 3 steps are done; more --steps prolong it"


def test_a_long_caption_ends_no_run(options: TrainingOptions, tmp_path: Path) -> None:
    """It is cut, and said to be, before the first step."""
    names = {**NAMES, "1f34e": " ".join(f"word{number}" for number in range(120))}
    listener = Listener()
    data = (make_set(tmp_path / "long", "noto", names),)
    start_training(replace(options, data=data, sample_every=1, steps=1), listener)
    cut = "1 captions have more than 24 tokens and are cut"
    assert any(note.startswith(cut) for note in listener.notes)
    assert (options.out / "samples" / "0000001.png").exists()


def test_a_sheet_may_come_before_the_first_save(options: TrainingOptions) -> None:
    start_training(replace(options, sample_every=1, save_every=100, steps=2), Listener())
    assert (options.out / "samples" / "0000001.png").exists()


def test_a_sheet_that_fails_ends_no_run(
    options: TrainingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr("model.training.recipe.contact_sheet", fail)
    listener = Listener()
    start_training(options, listener)
    assert "no sheet of step 3: no font" in listener.notes


def test_two_runs_in_one_folder_are_refused(options: TrainingOptions) -> None:
    message = f"process {os.getpid()} trains here"
    with RunFolder(options.out).locked(), pytest.raises(TrainingError, match=message):
        start_training(options, Listener())
    start_training(options, Listener())


def test_no_empty_folder_is_left(options: TrainingOptions) -> None:
    with pytest.raises(Exception, match="no such folder"):
        start_training(replace(options, data=(options.out / "nothing",)), Listener())
    assert not options.out.exists()


def test_a_full_disk_is_one_line_and_spoils_nothing(
    options: TrainingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_training(replace(options, steps=1), Listener())
    before = {name: (options.out / name).read_bytes() for name in ("resume.pt",)}

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"not saved: .*No space left.* MB are free"):
        start_training(options, Listener())
    assert {name: (options.out / name).read_bytes() for name in before} == before
    assert not list(options.out.rglob("*.part"))


def test_a_run_that_is_interrupted_says_by_what(options: TrainingOptions) -> None:
    listener = Listener(interrupt_after=1)
    start_training(replace(options, save_every=100), listener)
    assert listener.signal == signal.SIGINT
    assert (options.out / "checkpoint" / TOKENIZER).exists()


def test_differences_have_the_options_names() -> None:
    asked = {"network": {"patch_size": 8, "levels": (8, 8), "detail_width": 0}, "batch": 4}
    had = {"network": {"patch_size": 4, "levels": [8, 8]}, "batch": 4}
    assert changed(asked, had) == ["--patch (4, now 8)"]


def test_two_runs_are_served_under_their_own_names(
    options: TrainingOptions, tmp_path: Path
) -> None:
    for name in ("cats", "dogs"):
        start_training(replace(options, steps=1, out=tmp_path / name), Listener())
        for given in (tmp_path / name, tmp_path / name / "checkpoint"):
            assert open_checkpoint(given).spec.id == name


def test_a_run_says_how_it_is_for_programs(options: TrainingOptions) -> None:
    def said() -> dict[str, object]:
        found: dict[str, object] = json.loads((options.out / "run.json").read_text())
        return found

    start_training(options, Listener(interrupt_after=1))
    assert (said()["state"], said()["step"], said()["steps"]) == ("interrupted", 1, 3)
    start_training(options, Listener())
    assert (said()["state"], said()["step"], said()["error"]) == ("finished", 3, None)
    config, choices = said()["config"], said()["choices"]
    assert isinstance(config, dict)
    assert isinstance(choices, dict)
    assert (config["network"]["width"], config["data"]["images"]) == (32, 4)
    assert (choices["batch"], choices["steps"]) == (4, 3)
    with pytest.raises(TrainingError, match="a lower learning rate than 1e\\+30 may help"):
        start_training(replace(options, steps=50, learning_rate=1e30), Listener())
    assert said()["state"] == "failed"
    assert "may help" in str(said()["error"])
    start_training(replace(options, steps=6, learning_rate=1e-4), Listener())
    assert said()["state"] == "finished"


def test_the_images_are_kept_with_the_run(options: TrainingOptions, tmp_path: Path) -> None:
    first, second, third = Listener(), Listener(), Listener()
    start_training(replace(options, steps=1), first)
    assert first.read[-1] == (4, 4)
    start_training(replace(options, steps=2), second)
    assert second.read == []
    shutil.rmtree(options.out / "data")
    start_training(options, third)  # and needs none of it
    assert third.read[-1] == (4, 4)
