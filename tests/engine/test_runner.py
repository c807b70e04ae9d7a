"""If these fail, a worker mixes rows up, leaks them, or lets one model hold up another."""

from app.engine.messages import Assignment, Finished, Stepped
from app.engine.runner import Runner, preview_steps
from model.protocol import RowRequest
from tests.engine.fakes import FakeModel, FakeRow, drawn


def row(seed: int, *, steps: int = 3, guidance: float = 1.0, prompt: str = "a") -> RowRequest:
    return RowRequest(prompt, seed, steps=steps, guidance=guidance, solver="euler")


def assignment(request: RowRequest, *, watched: bool = False, seen: int = 0) -> Assignment:
    return Assignment(request.seed, "fast", request, watched, seen)


class Spy(FakeModel):
    """Remembers the rows that it started."""

    def __init__(self, tile: int) -> None:
        super().__init__("fast", tile)
        self.rows: list[FakeRow] = []

    def start(self, request: RowRequest) -> FakeRow:
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


def finished(steps: list[Stepped]) -> list[Finished]:
    return [row for step in steps for row in step.finished]


def test_every_row_becomes_its_own_picture() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=0)
    requests = [row(seed, steps=1 + seed % 5, guidance=1 + seed % 2) for seed in range(30)]
    for request in requests:
        runner.add(assignment(request))
    pictures = {one.id: one.result for one in finished(work(runner))}
    assert pictures == {request.seed: drawn(request) for request in requests}


def test_rows_join_a_running_batch_and_leave_it() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=0)
    runner.add(assignment(row(1, steps=3)))
    list(runner.admit())
    steps = [runner.step()]
    runner.add(assignment(row(2, steps=1)))
    list(runner.admit())
    steps += work(runner)  # one step more than was asked for each: the first is for encoding
    assert [step.joined for step in steps] == [0, 1, 0, 0]
    assert [step.left for step in steps] == [0, 0, 1, 0]
    assert [one.id for one in finished(steps)] == [2, 1]


def test_the_rows_under_way_never_take_more_places_than_the_tile() -> None:
    # The fake raises when a pass is too full; here, rows that encode must leave room for the two
    # places that they will take afterwards.
    spy = Spy(tile=4)
    runner = Runner(spy, previews=0)
    for seed in range(6):
        runner.add(assignment(row(seed, guidance=2.0)))
    list(runner.admit())
    assert len(spy.rows) == 2
    work(runner)
    assert len(spy.rows) == 6


def test_every_row_is_released_however_it_ends() -> None:
    spy = Spy(tile=4)
    runner = Runner(spy, previews=0)
    for seed in range(6):
        runner.add(assignment(row(seed, guidance=2.0)))
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
    runner.add(assignment(row(1, prompt="refuse")))
    runner.add(assignment(row(2)))
    (refused,) = runner.admit()
    assert (refused.id, refused.reason) == (1, "the prompt was refused")
    assert [one.id for one in finished(work(runner))] == [2]


def test_previews_come_at_fixed_steps_to_those_who_want_them() -> None:
    runner = Runner(FakeModel("fast", tile=4), previews=3)
    runner.add(assignment(row(1, steps=8), watched=True))
    runner.add(assignment(row(2, steps=8)))
    runner.add(assignment(row(3, steps=8), watched=True, seen=4))  # a replay
    runner.add(assignment(row(4, steps=8)))
    list(runner.admit())
    steps = [runner.step() for _ in range(4)]  # the first reads the prompt: three of eight
    runner.watch(4)
    steps += work(runner)
    seen = [(one.id, one.step) for step in steps for one in step.previewed]
    assert seen == [(1, 2), (1, 4), (4, 4), (1, 6), (3, 6), (4, 6)]


def test_preview_steps_are_even_and_never_the_last() -> None:
    assert preview_steps(20, 3) == {5, 10, 15}
    assert preview_steps(2, 7) == {1}
    assert preview_steps(1, 7) == set()
    assert preview_steps(20, 0) == set()
