"""If these fail, memory grows with load, equal requests cost twice, tiles run half empty, rows get
lost with their worker, or healthy rows fail with one that crashes. On paper: no process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.engine import EngineError, Job, QueueFull, RequestRefused, WorkerCrashed
from app.engine.messages import (
    Admit,
    Advanced,
    Cancel,
    Finished,
    Left,
    NewRow,
    Previewed,
    Refused,
    RowNews,
    Step,
    Stepped,
    Watch,
)
from app.engine.row import Row, Waiter
from app.engine.scheduler import STRETCH, Pace, Scheduler, Send, Slots, Update, room
from model.protocol import Pass
from model.request import ImageRequest, Picture
from tests.engine.fakes import FakeCheckpoint, ask, request
from tests.engine.recorder import Recorder

TILE = 4
PLAIN = Slots(TILE, TILE)
PICTURE = Picture(1, 1, 1, b"x")
CHECKPOINTS = {name: FakeCheckpoint(Path(name)) for name in ("steady", "fast")}


class Stage:
    """A scheduler with workers played by hand, and jobs that end as those of the engine do."""

    def __init__(self, workers: int = 1, max_rows: int = 100, slots: Slots = PLAIN) -> None:
        self.slots = slots
        self.recorder = Recorder()
        self.scheduler: Scheduler[str] = Scheduler(
            CHECKPOINTS, max_rows=max_rows, metrics=self.recorder
        )
        self.sent: dict[str, list[object]] = {}
        self.updates: list[Update] = []
        self._names = itertools.count()
        for _ in range(workers):
            self.join()

    @property
    def alive(self) -> list[str]:
        return list(self.sent)

    def join(self) -> str:
        name = f"w{next(self._names)}"
        self.sent[name] = []
        self._follow(self.scheduler.add(name, dict.fromkeys(CHECKPOINTS, self.slots)))
        return name

    def restart(self, worker: str | None = None) -> str:
        """A worker dies; its successor."""
        worker = worker or self.alive[0]
        self.sent.pop(worker)
        self._follow(self.scheduler.lose(worker))
        return self.join()

    def submit(
        self, requests: list[ImageRequest], *, previews: bool = False, cacheable: bool = True
    ) -> Job:
        job = Job(requests, accepted=0.0, previews=previews, on_end=self._leave)
        self._follow(self.scheduler.submit(job, range(len(requests)), cacheable=cacheable))
        return job

    def report(self, worker: str, news: RowNews) -> None:
        self._follow(self.scheduler.update(worker, news))

    def step(
        self,
        worker: str,
        steps: Mapping[int, int],
        *,
        of: int = 4,
        finished: Iterable[int] = (),
        previewed: Iterable[int] = (),
    ) -> None:
        self.report(
            worker,
            Stepped(
                steps=(Step("steady", 1.0, (Pass("draw", len(steps), TILE),), 0, 0),),
                advanced=tuple(Advanced(row, step, of) for row, step in steps.items()),
                previewed=tuple(Previewed(row, steps[row], PICTURE) for row in previewed),
                finished=tuple(Finished(row, PICTURE, 0.0, 1.0) for row in finished),
                memory=0,
            ),
        )

    def finish(self, worker: str, *rows: int) -> None:
        self.step(worker, dict.fromkeys(rows, 4), finished=rows)

    def admitted(self, worker: str | None = None) -> list[NewRow]:
        """All rows that a worker was sent."""
        messages = self.sent[worker or self.alive[0]]
        return [row for message in messages if isinstance(message, Admit) for row in message.rows]

    def seeds(self, worker: str | None = None) -> list[int]:
        return [row.request.seed for row in self.admitted(worker)]

    def news(self, kind: type) -> list[tuple[int, object]]:
        """What was reported of rows, by seed."""
        return [
            (update.row.request.seed, update.news)
            for update in self.updates
            if isinstance(update.news, kind)
        ]

    def _leave(self, job: Job) -> None:
        self._follow(self.scheduler.leave(job))

    def _follow(self, outcomes: Iterable[Send[str] | Update]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Send):
                self.sent[outcome.worker].append(outcome.message)
            else:
                self.updates.append(outcome)
                if isinstance(outcome.news, EngineError):
                    for waiter in outcome.row.waiters:
                        waiter.job.fail(outcome.news)


def plain(n: int, seed: int = 0, **given: Any) -> list[ImageRequest]:
    """Requests that take one evaluation, with seeds from ``seed`` on."""
    return ask(n=n, seed=seed, guidance=1.0, **given)


# What is accepted, shared and refused --------------------------------------------------------


def test_the_queue_is_bounded_in_rows() -> None:
    stage = Stage(workers=0, max_rows=4)
    stage.submit(plain(3))
    with pytest.raises(QueueFull) as refused:
        stage.submit(plain(2, seed=20))
    assert refused.value.retry_after > 0
    stage.submit(plain(1, seed=30))
    assert stage.recorder.rejections == {"queue_full": 1}
    assert stage.recorder.waiting["steady"] == 4


def test_a_refused_job_leaves_nothing_behind() -> None:
    stage = Stage(workers=0, max_rows=1)
    with pytest.raises(QueueFull):
        stage.submit(plain(2))
    assert stage.scheduler.waiting == 0
    stage.submit(plain(1))


def test_a_request_that_fits_no_pass_is_refused() -> None:
    # It would wait until its deadline, and hold up all behind it.
    stage = Stage(workers=0)
    stage._follow(stage.scheduler.add("small", dict.fromkeys(CHECKPOINTS, Slots(1, 1))))
    with pytest.raises(RequestRefused, match=r"has 1 slots of .*, 2 are needed"):
        stage.submit(ask(guidance=2.0))


def test_equal_requests_share_a_row_until_the_last_one_leaves() -> None:
    stage = Stage()
    first, second = stage.submit(plain(1)), stage.submit(plain(1))
    (row,) = stage.admitted()
    assert stage.recorder.count["coalesced"] == 1
    first.cancel()
    assert stage.recorder.running["steady"] == 1
    stage.finish("w0", row.id)
    (update,) = (update for update in stage.updates if isinstance(update.news, Finished))
    assert update.row.waiters == [Waiter(second, 0)]
    assert stage.recorder.idle


def test_equal_requests_of_one_job_share_a_row() -> None:
    stage = Stage()
    job = stage.submit(plain(1) * 2)
    (row,) = stage.admitted()
    stage.finish("w0", row.id)
    assert [waiter.index for waiter in stage.updates[-1].row.waiters] == [0, 1]
    job.cancel()
    assert stage.recorder.idle


def test_overlapping_jobs_share_what_they_have_in_common() -> None:
    stage = Stage()
    stage.submit(plain(2, seed=1))
    stage.submit(plain(2, seed=2))
    assert stage.seeds() == [1, 2, 3]


def test_sharing_does_not_need_room_in_the_queue() -> None:
    stage = Stage(workers=0, max_rows=1)
    stage.submit(plain(1))
    stage.submit(plain(1))


def test_what_one_of_those_who_share_may_keep_is_kept() -> None:
    stage = Stage(workers=0)
    job = stage.submit(plain(1), cacheable=False)
    (row,) = stage.scheduler._rows[job]
    assert not row.cacheable
    stage.submit(plain(1), cacheable=True)
    assert row.cacheable


def test_a_job_that_wants_previews_of_a_row_under_way_gets_the_later_ones() -> None:
    stage = Stage()
    stage.submit(plain(1))
    (row,) = stage.admitted()
    assert not row.watched
    stage.submit(plain(1), previews=True)
    stage.submit(plain(1), previews=True)
    assert stage.sent["w0"][1:] == [Watch(row.id)]


def test_a_row_that_the_model_refuses_fails_its_jobs() -> None:
    stage = Stage()
    job = stage.submit(plain(2))
    first, second = stage.admitted()
    stage.report("w0", Refused(first.id, "too long"))
    assert [str(error) for _, error in stage.news(RequestRefused)] == ["too long"]
    assert job.finished
    assert Cancel((second.id,)) in stage.sent["w0"]


# Which worker has what -----------------------------------------------------------------------


def test_a_worker_gets_what_fits_its_tile_and_the_rest_waits() -> None:
    stage = Stage()
    stage.submit(plain(6))
    assert stage.seeds() == [0, 1, 2, 3]
    assert stage.scheduler.waiting == 2
    assert (stage.recorder.waiting["steady"], stage.recorder.running["steady"]) == (2, 4)


def test_rows_that_are_sent_at_once_are_one_message() -> None:
    # Else a worker would begin with the first of them, and the tile run half empty.
    stage = Stage()
    stage.submit(plain(3))
    assert len(stage.sent["w0"]) == 1


def test_the_next_row_is_sent_while_another_takes_its_last_step() -> None:
    # Sent only after a row is finished, it would miss a step: with models of one step, every
    # second pass would run empty.
    stage = Stage()
    stage.submit(plain(6))
    ids = [row.id for row in stage.admitted()]
    stage.step("w0", dict(zip(ids, (3, 2, 2, 2), strict=True)))
    assert stage.seeds() == [0, 1, 2, 3, 4]


def test_a_row_knows_its_steps_from_the_worker() -> None:
    # A family's estimate of them may be off: of an upload that is mostly kept, few are drawn.
    stage = Stage()
    stage.submit(plain(6, steps=100))
    stage.step("w0", {stage.admitted()[0].id: 4}, of=5)
    assert stage.seeds() == [0, 1, 2, 3, 4]


def test_a_worker_never_has_more_than_two_tiles() -> None:
    stage = Stage()
    stage.submit(plain(20, steps=1))
    assert len(stage.admitted()) == 2 * TILE


def test_room_counts_rows_of_that_model_alone() -> None:
    job = Job(plain(1), accepted=0.0, previews=False, on_end=lambda job: None)
    staying, leaving, guided = (
        Row(number, request(guidance=1.0), cost, 4, 0.0, due=5, waiters=[Waiter(job, 0)])
        for number, cost in enumerate((1, 1, 2))
    )
    leaving.step = 3
    new = Row(9, request(), 2, 4, 0.0, due=5)
    other = Row(9, request("fast"), 2, 4, 0.0, due=5)
    slots = Slots(TILE, TILE)
    assert room([], new, slots) == TILE
    assert room([staying, leaving, guided], new, slots) == 1
    assert room([staying, leaving, guided], other, slots) == TILE
    guided.waiters = []  # cancelled
    assert room([staying, leaving, guided], new, slots) == 3


def test_rows_go_to_the_emptiest_worker() -> None:
    stage = Stage(workers=2)
    stage.submit(plain(4))
    assert [len(stage.admitted(worker)) for worker in stage.alive] == [2, 2]


def test_jobs_alternate() -> None:
    stage = Stage(workers=0)
    stage.submit(plain(3, seed=10))
    stage.submit(plain(1, seed=20))
    stage.join()
    assert stage.seeds() == [10, 20, 11, 12]


def test_what_is_quick_comes_before_what_is_long() -> None:
    stage = Stage(workers=0)
    stage.submit(plain(2, seed=10, steps=50))
    stage.submit(plain(1, seed=20, steps=8))
    stage.join()
    assert stage.seeds() == [20, 10, 11]


def test_what_is_long_is_not_put_off_for_ever() -> None:
    # Time is the work that is done: at last, what comes is due later than what has waited.
    stage, rounds = Stage(), 0
    stage.submit(plain(TILE, seed=100))
    stage.submit(plain(1, seed=1, steps=24))
    while 1 not in stage.seeds():
        rounds += 1
        stage.submit(plain(TILE, seed=100 * rounds + 100))
        stage.finish("w0", *stage.scheduler._workers["w0"].held)
    # Each round does a tile's evaluations; the last row of a job is due after four times 4 steps.
    assert rounds == STRETCH * (24 - 4 * 4) / TILE + 1


def test_a_more_urgent_row_joins_where_there_are_slots_for_all() -> None:
    stage = Stage(slots=Slots(TILE, TILE + 2))
    stage.submit(plain(TILE + 1, seed=10, steps=50))
    assert stage.seeds() == [10, 11, 12, 13]
    stage.submit(plain(3, seed=20, steps=4))
    assert stage.seeds() == [10, 11, 12, 13, 20, 21], "no slots for the third one"
    (first,) = (row for row in stage.admitted() if row.request.seed == 20)
    stage.finish("w0", first.id)
    assert stage.seeds()[6:] == [22], "and none for the fifth long one, which waits its turn"


def test_a_row_is_due_when_the_first_job_needs_it() -> None:
    stage = Stage(workers=0)
    stage.submit(plain(3, seed=10, steps=8))
    stage.submit(plain(1, seed=12, steps=8))  # the third of them
    stage.join()
    assert stage.seeds() == [10, 12, 11]


def test_a_cancelled_row_leaves_queue_or_batch() -> None:
    stage = Stage()
    jobs = [stage.submit(plain(1, seed)) for seed in range(6)]
    first = stage.admitted()[0].id
    jobs[0].cancel()
    jobs[5].cancel()
    assert Cancel((first,)) in stage.sent["w0"]
    assert stage.seeds() == [0, 1, 2, 3, 4]  # its room is given on at once
    assert stage.recorder.count["cancelled"] == 1
    stage.report("w0", Left((first,)))
    assert stage.recorder.count["cancelled"] == 2
    assert stage.recorder.running["steady"] == 4


def test_a_row_is_sent_before_it_is_cancelled() -> None:
    # One job fails with its first row while another of its rows is handed out by the same news.
    stage = Stage()
    stage.submit(plain(3, seed=10))
    job = stage.submit(plain(2))
    (refused,) = (row for row in stage.admitted() if row.request.seed == 0)
    stage.report("w0", Refused(refused.id, "too long"))
    (late,) = (row for row in stage.admitted() if row.request.seed == 1)
    assert job.finished
    assert isinstance(stage.sent["w0"][-2], Admit)
    assert stage.sent["w0"][-1] == Cancel((late.id,))


# Workers that die ----------------------------------------------------------------------------


def test_a_lost_worker_gives_its_rows_to_the_next_one_first() -> None:
    stage = Stage()
    stage.submit(plain(6))
    stage.restart()
    assert stage.seeds() == [0, 1, 2, 3]
    assert stage.recorder.count["replayed"] == 4


def test_a_replay_reports_no_step_and_shows_no_preview_twice() -> None:
    stage = Stage()
    stage.submit(plain(1, steps=8), previews=True)
    (row,) = stage.admitted()
    stage.step("w0", {row.id: 1}, of=8)
    stage.step("w0", {row.id: 2}, of=8, previewed=[row.id])
    worker = stage.restart()
    assert stage.admitted() == [replace(row, seen=2)]
    for step in range(1, 9):
        stage.step(worker, {row.id: step}, of=8)
    reported = [news.step for _, news in stage.news(Advanced) if isinstance(news, Advanced)]
    assert reported == [1, 2, 3, 4, 5, 6, 7]
    assert len(stage.news(Previewed)) == 1


def test_a_cancelled_row_is_not_computed_again() -> None:
    stage = Stage()
    stage.submit(plain(1)).cancel()
    stage.restart()
    assert stage.admitted() == []
    assert stage.recorder.idle


def test_a_worker_that_was_never_added_is_lost_without_consequence() -> None:
    stage = Stage()
    stage.submit(plain(1))
    assert stage.scheduler.lose("unknown") == []


def test_after_two_crashes_rows_run_alone_and_only_the_one_that_crashes_fails() -> None:
    stage = Stage()
    stage.submit(plain(3))
    stage.restart()
    worker = stage.restart()
    ids = [row.id for row in stage.admitted()]
    assert stage.seeds() == [0]
    stage.finish(worker, ids[0])
    assert stage.seeds() == [0, 1]  # the second in quarantine: say that it crashes its worker
    stage.submit(plain(1, seed=9))
    worker = stage.restart()
    assert stage.seeds() == [2], "a row that crashed alone goes behind those not yet tried"
    stage.finish(worker, stage.admitted()[0].id)
    assert stage.seeds() == [2, 1]
    worker = stage.restart()
    assert [seed for seed, _ in stage.news(WorkerCrashed)] == [1]
    assert stage.seeds() == [9]
    stage.finish(worker, stage.admitted()[0].id)
    assert [seed for seed, _ in stage.news(Finished)] == [0, 2, 9]
    assert stage.recorder.idle


def test_while_one_worker_tries_rows_in_quarantine_the_others_serve() -> None:
    stage = Stage(workers=2)
    stage.submit(plain(1))
    stage.restart("w0")
    stage.restart(next(worker for worker in stage.alive if stage.seeds(worker)))
    alone = next(worker for worker in stage.alive if stage.seeds(worker))
    stage.submit(plain(2, seed=7))
    (other,) = (worker for worker in stage.alive if worker != alone)
    assert stage.seeds(alone) == [0]
    assert stage.seeds(other) == [7, 8]


def test_a_row_in_quarantine_can_be_cancelled() -> None:
    stage = Stage()
    jobs = [stage.submit(plain(1, seed)) for seed in range(2)]
    stage.restart()
    stage.restart()
    assert stage.recorder.waiting["steady"] == 1
    jobs[1].cancel()
    assert stage.recorder.waiting["steady"] == 0


def test_a_request_that_crashes_workers_is_refused_afterwards() -> None:
    stage = Stage()
    job = stage.submit(plain(1))
    for _ in range(4):
        stage.restart()
    assert job.finished
    with pytest.raises(WorkerCrashed, match="10 minutes"):
        stage.submit(plain(1))
    assert stage.recorder.rejections == {"poisonous": 1}
    assert stage.recorder.idle
    stage.submit(plain(1, seed=2))


def test_the_pace_is_that_of_the_workers_not_of_the_clock() -> None:
    pace = Pace()
    assert pace.seconds_for(100, workers=1) == 5.0  # nothing is known
    for _ in range(50):
        pace.stepped(finished=1, seconds=0.1)
        pace.stepped(finished=0, seconds=0.1)
    assert pace.seconds_for(100, workers=1) == pytest.approx(20.0)
    assert pace.seconds_for(100, workers=4) == pytest.approx(5.0)
    assert pace.seconds_for(1, workers=1) == 1.0
    assert pace.seconds_for(10_000, workers=1) == 60.0
