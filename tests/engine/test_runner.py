"""If these fail, a worker mixes rows up, leaks them, or lets one model hold up another."""

from dataclasses import replace

import pytest

from app.engine.messages import Finished, NewRow, Previewed, Stepped
from app.engine.runner import Runner, preview_steps
from model.protocol import Pass
from model.request import ImageRequest
from tests.engine.fakes import FakeModel, FakeRow, drawn, request


def row(seed: int, *, steps: int = 3, guidance: float = 1.0, prompt: str = "a") -> ImageRequest:
    return request("fast", seed, prompt=prompt, steps=steps, guidance=guidance)


def new(request: ImageRequest, *, watched: bool = False, seen: int = 0) -> NewRow:
    return NewRow(request.seed, request, watched, seen)


class Spy(FakeModel):
    """Remembers the rows that it started."""

    def __init__(self, tile: int) -> None:
        super().__init__("fast", tile)
        self.rows: list[FakeRow] = []

    def start(self, request: ImageRequest) -> FakeRow:
        self.rows.append(super().start(request))
        return self.rows[-1]


def work(runner: Runner) -> list[Stepped]:
    """Steps until nothing is left."""
    steps: list[Stepped] = []
    while True:
        assert not list(runner.admit())
        if not runner.running:
            return steps
        steps.append(runner.step())


def passes(steps: list[Stepped]) -> list[tuple[Pass, ...]]:
    return [step.passes for one in steps for step in one.steps]


def finished(steps: list[Stepped]) -> list[Finished]:
    return [row for step in steps for row in step.finished]


def previewed(steps: list[Stepped]) -> list[Previewed]:
    return [preview for step in steps for preview in step.previewed]


@pytest.mark.parametrize("model", ["fast", "decoding"])
def test_every_row_becomes_its_own_image(model: str) -> None:
    runner = Runner(FakeModel(model, tile=4), previews=0)
    requests = [row(seed, steps=1 + seed % 5, guidance=1 + seed % 2) for seed in range(30)]
    for each in requests:
        runner.add(new(each))
    pictures = {one.id: one.result for one in finished(work(runner))}
    assert pictures == {each.seed: drawn(each) for each in requests}


def test_rows_join_a_running_batch_and_leave_it() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=0)
    runner.add(new(row(1, steps=3)))
    list(runner.admit())
    steps = [runner.step()]
    runner.add(new(row(2, steps=1)))
    list(runner.admit())
    steps += work(runner)  # one step more than was asked for each: the first is for encoding
    counted = [(step.joined, step.left) for one in steps for step in one.steps]
    assert counted == [(0, 0), (1, 0), (0, 1), (0, 0)]
    assert [one.id for one in finished(steps)] == [2, 1]


def test_passes_are_reported_as_they_were() -> None:
    runner = Runner(FakeModel("decoding", tile=4), previews=0)
    runner.add(new(row(1, steps=1)))
    runner.add(new(row(2, steps=1, guidance=2.0)))
    assert passes(work(runner)) == [
        (Pass("encode", 2, 4),),
        (Pass("draw", 3, 4),),
        (Pass("decode", 1, 1),),
        (Pass("decode", 1, 1),),
    ]


def test_a_row_that_is_drawn_still_waits_for_its_decoding() -> None:
    runner = Runner(FakeModel("decoding", tile=4), previews=0)
    for seed in range(3):
        runner.add(new(row(seed, steps=1)))
    steps = work(runner)
    assert [[one.id for one in step.finished] for step in steps] == [[], [], [0], [1], [2]]
    assert [(one.step, one.steps) for one in steps[1].advanced] == [(1, 1)] * 3


def test_decoding_does_not_stop_the_other_rows() -> None:
    runner = Runner(FakeModel("decoding", tile=4), previews=0)
    runner.add(new(row(1, steps=1)))
    runner.add(new(row(2, steps=3)))
    steps = work(runner)
    assert passes(steps)[2] == (Pass("decode", 1, 1), Pass("draw", 1, 4))


def test_the_rows_under_way_never_cost_more_than_the_tile() -> None:
    # The fake raises when a pass is too full; here, rows that encode must leave room for the two
    # evaluations that they will take afterwards.
    spy = Spy(tile=4)
    runner = Runner(spy, previews=0)
    for seed in range(6):
        runner.add(new(row(seed, guidance=2.0)))
    list(runner.admit())
    assert len(spy.rows) == 2
    work(runner)
    assert len(spy.rows) == 6


def test_rows_that_are_due_first_step_and_the_others_wait_for_them() -> None:
    spy = Spy(tile=4)
    spy.slots = 8
    runner = Runner(spy, previews=0)
    for seed in range(4):
        runner.add(replace(new(row(seed, steps=9)), due=10 + seed))
    list(runner.admit())
    runner.step()
    for seed in range(4, 7):
        runner.add(replace(new(row(seed, steps=1)), due=seed))
    steps = work(runner)
    assert [[one.id for one in step.advanced] for step in steps[:3]] == [
        [4, 5, 6, 0, 1, 2, 3],  # the new ones encode, in a pass of their own
        [4, 5, 6, 0],
        [0, 1, 2, 3],
    ]
    assert [one.id for one in finished(steps)] == [4, 5, 6, 0, 1, 2, 3]


def test_every_row_is_released_however_it_ends() -> None:
    spy = Spy(tile=4)
    runner = Runner(spy, previews=0)
    for seed in range(6):
        runner.add(new(row(seed, guidance=2.0)))
    list(runner.admit())
    runner.step()
    assert runner.cancel(1)  # under way
    assert runner.cancel(5)  # not started
    assert not runner.cancel(1)
    assert sorted(one.id for one in finished(work(runner))) == [0, 2, 3, 4]
    assert all(one.released for one in spy.rows)
    assert len(spy.rows) == 5


def test_a_row_that_the_model_refuses_does_not_hold_up_the_others() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=0)
    runner.add(new(row(1, prompt="refuse")))
    runner.add(new(row(2)))
    (refused,) = runner.admit()
    assert (refused.id, refused.reason) == (1, "the prompt was refused")
    assert [one.id for one in finished(work(runner))] == [2]


def test_previews_come_at_fixed_steps_to_those_who_want_them() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=3)
    runner.add(new(row(1, steps=8), watched=True))
    runner.add(new(row(2, steps=8)))
    runner.add(new(row(3, steps=8), watched=True, seen=4))  # a replay
    runner.add(new(row(4, steps=8)))
    list(runner.admit())
    steps = [runner.step() for _ in range(4)]  # the first reads the prompt: three of eight
    runner.watch(4)
    steps += work(runner)
    seen = [(preview.id, preview.step) for preview in previewed(steps)]
    assert seen == [(1, 2), (1, 4), (4, 4), (1, 6), (3, 6), (4, 6)]


def test_a_row_that_is_not_started_yet_can_be_watched() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=1)
    runner.add(new(row(1, steps=2)))
    runner.watch(1)
    assert [preview.step for preview in previewed(work(runner))] == [1]


def test_previews_that_are_decoded_wait_for_their_pass_and_keep_their_step() -> None:
    runner = Runner(FakeModel("decoding", tile=4), previews=3)
    for seed in (1, 2, 3):
        runner.add(new(row(seed, steps=8), watched=seed != 3))
    steps = work(runner)
    seen = [(preview.id, preview.step) for preview in previewed(steps)]
    assert sorted(seen) == [(1, 2), (1, 4), (1, 6), (2, 2), (2, 4), (2, 6)]
    assert not any(len(step.previewed) > 1 for step in steps)  # one is decoded at a time
    pictures = {(one.id, one.step): one.picture for one in previewed(steps)}
    immediate = Runner(FakeModel("fast", tile=4), previews=3)
    for seed in (1, 2):
        immediate.add(new(row(seed, steps=8), watched=True))
    assert pictures == {(one.id, one.step): one.picture for one in previewed(work(immediate))}


def test_previews_change_no_result() -> None:
    runner = Runner(FakeModel("decoding", tile=4), previews=7)
    for seed in range(4):
        runner.add(new(row(seed, steps=8), watched=True))
    assert all(one.result == drawn(row(one.id, steps=8)) for one in finished(work(runner)))


def test_a_step_that_encodes_shows_no_preview_again() -> None:
    # A row that begins part way on, as one that completes an upload does, stands at a step at
    # which previews are due while its first passes encode; they must not repeat the preview.
    class PartWay(FakeModel):
        def start(self, request: ImageRequest) -> FakeRow:
            started = super().start(request)
            started.step = 2
            return started

    runner = Runner(PartWay("fast", tile=4), previews=3)
    runner.add(new(row(1, steps=8), watched=True))
    assert [preview.step for preview in previewed(work(runner))] == [4, 6]


def test_preview_steps_are_even_and_never_the_last() -> None:
    assert preview_steps(20, 3) == {5, 10, 15}
    assert preview_steps(2, 7) == {1}
    assert preview_steps(1, 7) == set()
    assert preview_steps(20, 0) == set()
