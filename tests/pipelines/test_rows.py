"""Rows of pipelines in a process of their own: how they begin, wait, share passes and end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greenlet import greenlet

from app.engine.batcher import choose
from model.loading import load_model
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.gate import Gate
from model.pipelines.row import PipelineRow, log
from model.pipelines.sampler import PipelineModel
from model.pipelines.settings import PipelineSettings
from model.protocol import RowFailed
from model.request import ImageRequest, Picture
from tests.free_batch import library_products
from tests.pipelines import made_up
from tests.pipelines.questions import SIZES

pytestmark = pytest.mark.timeout(300)


def load(folder: Path, **settings: Any) -> PipelineModel:
    checkpoint = PipelineCheckpoint.open(folder)
    loras = settings.pop("loras", None)
    if loras is not None:
        checkpoint = checkpoint.with_loras(loras)
    model = load_model(
        checkpoint,
        device="cpu",
        dtype="fp32",
        tile=4,
        pipelines=PipelineSettings(**settings),
    )
    assert isinstance(model, PipelineModel)
    return model


@pytest.fixture(scope="module")
def sd3(folders: Mapping[str, Path]) -> PipelineModel:
    return load(folders["sd3"])


@pytest.fixture(scope="module")
def strange(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> PipelineModel:
    """A class that is found by inspection, and that raises where it is told to."""
    home = tmp_path_factory.mktemp("made-up")
    made_up.make(home / "made-up")
    made_up.install(home / "packages")
    monkeypatch_module.syspath_prepend(home / "packages")
    return load(home / "made-up", prompt_cache_bytes=0)  # `held` counts what rows hold


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def ask(model: PipelineModel, seed: int, prompt: str = "a red apple", **given: Any) -> ImageRequest:
    given = {"steps": 3, "size": SIZES.get(model.spec.id, (32, 32)), **given}
    return model.spec.request(prompt, seed, **given)


def finish(model: PipelineModel, rows: Sequence[PipelineRow]) -> list[Picture | RowFailed]:
    """Steps them all to their ends, as a runner does, and releases them."""
    while waiting := [row for row in rows if not row.done]:
        model.step(choose(waiting, model.capacity))
    results: list[Picture | RowFailed] = []
    for row in rows:
        try:
            results.append(model.result(row))  # type: ignore[arg-type]
        except RowFailed as error:
            results.append(error)
        model.release(row)
    return results


def pixels(picture: Picture | RowFailed) -> Any:
    assert isinstance(picture, Picture)
    flat = np.frombuffer(picture.pixels, np.uint8).astype(int)
    return flat.reshape(picture.height, picture.width, 3)


def previews(model: PipelineModel, row: PipelineRow) -> Iterator[Any]:
    """Runs a row to its end; a preview after each of its steps."""
    while not row.done:
        before = row.step
        model.step([row])
        if row.step > before and not row.done:
            model.preview(row)
            assert row.kind == "decode"
            model.step([row])
            assert row.kind != "encode"
            assert row.picture is not None
            yield pixels(row.picture)


def held() -> tuple[int, int]:
    """Greenlets and tensors that are alive."""
    gc.collect()
    objects = gc.get_objects()
    return (
        sum(issubclass(type(each), greenlet) for each in objects),
        sum(type(each) is torch.Tensor for each in objects),
    )


def test_nothing_is_left_of_a_row_however_it_ended(
    strange: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished, cancelled at each of its stops, never begun, failed by itself."""
    monkeypatch.setattr(log, "disabled", True)  # pytest keeps what is logged, tensors and all
    finish(strange, [strange.start(ask(strange, 0))])  # whatever is made once
    before = held()
    for steps in range(6):
        row = strange.start(ask(strange, 1))
        for _ in range(steps):
            if not row.done:
                strange.step([row])
        assert row.run.done or held()[0] > before[0]
        strange.release(row)
        strange.release(row)
        gone = weakref.ref(row)
        del row
        gc.collect()
        assert gone() is None
    finish(strange, [strange.start(ask(strange, 2, prompt)) for prompt in ("x", made_up.BROKEN)])
    assert held() == before


def test_what_one_row_raises_is_its_own(strange: PipelineModel) -> None:
    """Neighbours in the same passes end as they do alone."""
    prompts = ("a cat", made_up.BROKEN, "a dog", made_up.REFUSED)
    rows = [strange.start(ask(strange, 5, prompt, steps=4, guidance=1.0)) for prompt in prompts]
    cat, broken, dog, refused = finish(strange, rows)
    assert isinstance(broken, RowFailed)
    assert isinstance(refused, RowFailed)
    assert not broken.refused
    assert "nothing is right here" in str(broken)
    assert refused.refused
    assert "not for me" in str(refused)
    for picture, prompt in ((cat, "a cat"), (dog, "a dog")):
        alone = strange.start(ask(strange, 5, prompt, steps=4, guidance=1.0))
        assert finish(strange, [alone]) == [picture]


def test_an_exception_in_a_shared_pass_is_the_worker_s(
    strange: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [strange.start(ask(strange, seed, guidance=1.0)) for seed in (1, 2)]
    for row in rows:
        strange.step([row])

    def broken(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(strange._passes, "run", broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        strange.step(rows)
    for row in rows:
        strange.release(row)


def test_rows_at_other_steps_share_passes(sd3: PipelineModel) -> None:
    """Also where one has joined later, has other steps, and is not guided."""
    first = sd3.start(ask(sd3, 1, steps=6, guidance=1.0))
    second = sd3.start(ask(sd3, 2, "an old tree", steps=4, guidance=1.0))
    guided = sd3.start(ask(sd3, 3, steps=3, guidance=3.0))
    for _ in range(3):
        sd3.step([first])
    for row in (second, guided):
        sd3.step([row])
    assert first.step == 2
    assert second.step == 0
    assert first.kind == second.kind == guided.kind
    assert [row.evaluations for row in (first, second, guided)] == [1, 1, 2]
    sd3.step([first, second, guided])
    assert [row.step for row in (first, second, guided)] == [3, 1, 1]
    finish(sd3, [first, second, guided])


def test_rows_of_other_sizes_do_not(sd3: PipelineModel) -> None:
    rows = [sd3.start(ask(sd3, 1, size=size)) for size in ((32, 32), (32, 24))]
    for row in rows:
        sd3.step([row])
    assert rows[0].kind != rows[1].kind
    small, wide = finish(sd3, rows)
    assert pixels(small).shape == (32, 32, 3)
    assert pixels(wide).shape == (24, 32, 3)


def test_a_pass_has_one_size_and_without_that_bits_differ(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half is the inverse: small passes that nobody compared before."""
    with library_products():
        model = load(folders["sd3"])
    requests = [ask(model, seed, guidance=1.0, steps=6) for seed in (1, 2, 3, 4)]
    together = finish(model, [model.start(request) for request in requests])
    assert finish(model, [model.start(requests[0])]) == together[:1]
    monkeypatch.setattr(model.rungs, "holding", lambda kind, count: count)
    monkeypatch.setattr(model.rungs, "tested", lambda kind, size: True)
    free = finish(model, [model.start(requests[0])])
    if free == together[:1]:
        pytest.skip("this CPU computes the same bits at every size")


def test_previews_approach_the_image_and_change_nothing(sd3: PipelineModel) -> None:
    [alone] = finish(sd3, [sd3.start(ask(sd3, 1, steps=8))])
    row = sd3.start(ask(sd3, 1, steps=8))
    distances = [np.abs(one - pixels(alone)).mean() for one in previews(sd3, row)]
    assert sd3.result(row) == alone
    sd3.release(row)
    assert len(distances) == 8
    assert distances[-1] < 2, "the last estimate is the image"
    assert distances[0] > 3 * distances[-1]


@pytest.mark.parametrize("name", ["sd3", "pixart-sigma", "sana"])
def test_a_prompt_is_read_once(
    name: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second image of a prompt costs no text encoder, one of another prompt but the same
    negative prompt half of them; both have the bits of one that cost them all."""
    read: list[Gate] = []
    compute = Gate.compute

    def counted(gate: Gate, *args: Any, **kwargs: Any) -> Any:
        read.extend([gate] if gate.stage == "encode" else [])
        return compute(gate, *args, **kwargs)

    monkeypatch.setattr(Gate, "compute", counted)

    def drawn(model: PipelineModel, prompt: str) -> tuple[Any, int]:
        read.clear()
        request = model.spec.request(prompt, 1, steps=2, guidance=4.0)
        return finish(model, [model.start(request)]), len(read)

    model = load(folders[name])
    first, encoders = drawn(model, "a red fox")
    assert encoders >= 2
    assert drawn(model, "a red fox") == (first, 0)
    other, fewer = drawn(model, "a blue whale")
    assert fewer == encoders // 2
    assert 0 < model._prompts.bytes < 10 * 2**20

    forgetful = load(folders[name], prompt_cache_bytes=0)
    assert drawn(forgetful, "a red fox") == (first, encoders)
    assert drawn(forgetful, "a blue whale") == (other, encoders)
    assert forgetful._prompts.bytes == 0
