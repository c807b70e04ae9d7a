"""A model that changes while it is served must not change what is served."""

import shutil
from pathlib import Path

import pytest

from app.engine import Engine, EngineMetrics, EngineSettings
from model.checkpoint import WEIGHTS
from model.copies import LOCK, PREFIX, PrivateCopies, remove_abandoned
from model.registry import open_checkpoint
from tests.tiny import tiny_flow


def test_a_copy_stays_what_it_was(tmp_path: Path) -> None:
    model = tiny_flow(tmp_path / "mine")
    copies = PrivateCopies()
    kept = copies.of(open_checkpoint(model))
    assert kept.spec == open_checkpoint(model).spec
    tiny_flow(model, seed=1)
    assert open_checkpoint(kept.folder).spec == kept.spec
    assert open_checkpoint(model).spec.digest != kept.spec.digest
    shutil.rmtree(model)
    assert open_checkpoint(kept.folder).spec == kept.spec
    copies.remove()
    assert not kept.folder.exists()


def test_a_copy_goes_with_what_made_it(tmp_path: Path) -> None:
    copies = PrivateCopies()
    folder = copies.of(open_checkpoint(tiny_flow(tmp_path / "mine"))).folder
    del copies
    assert not folder.exists()


def test_without_room_a_model_is_served_from_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = open_checkpoint(tiny_flow(tmp_path / "mine"))

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert PrivateCopies().of(checkpoint) is checkpoint
    assert "No space left on device" in caplog.text


def test_copies_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in ("abandoned", "unfinished"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    (tmp_path / f"{PREFIX}abandoned" / LOCK).touch()
    (tmp_path / f"{PREFIX}abandoned" / WEIGHTS).write_bytes(b"weights")
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / f"{PREFIX}unfinished"]


def test_copies_in_use_are_not_removed(tmp_path: Path) -> None:
    copies = PrivateCopies()
    kept = copies.of(open_checkpoint(tiny_flow(tmp_path / "mine")))
    PrivateCopies().of(open_checkpoint(tmp_path / "mine"))
    remove_abandoned(kept.folder.parent.parent)
    assert open_checkpoint(kept.folder).spec == kept.spec


def test_two_models_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    a, b = (tiny_flow(tmp_path / folder / "mine") for folder in "ab")
    with pytest.raises(ValueError, match=r"mine \(.*; name=folder gives another"):
        Engine(EngineSettings(models=(a, b)), EngineMetrics())
    engine = Engine(EngineSettings(models=(Path(f"cats={a}"), b)), EngineMetrics())
    assert list(engine.checkpoints) == ["cats", "mine"]
    # What the workers open are the copies, under the same names.
    for id_, checkpoint in engine.checkpoints.items():
        assert open_checkpoint(checkpoint.address).spec.id == id_
        assert not checkpoint.folder.is_relative_to(tmp_path)
