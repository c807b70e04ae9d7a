"""If these fail, places of the tile stay empty, rows get lost with their worker, or the innocent
fail with the guilty. Played on paper: no process, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from app.engine.dispatcher import Dispatcher, room
from app.engine.job import Job
from app.engine.messages import Advanced, Cancel, Finished, Left, Stepped
from app.engine.ticket import Key, Subscriber, Ticket
from model.protocol import LoadedModel, Picture, RowRequest
from tests.engine.fakes import FakePort, ask, spec
from tests.engine.recorder import Recorder

TILE = 4
PICTURE = Picture(1, 1, 1, b"x")


class Ends:
    """An `Outcome` that remembers."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failed: list[int] = []

    def finished(self, ticket: Ticket, row: Finished, ended: float) -> None:
        self.done.append(ticket.id)

    def refused(self, ticket: Ticket, reason: str) -> None:
        self.failed.append(ticket.id)

    def poisonous(self, ticket: Ticket) -> None:
        self.failed.append(ticket.id)


class Stage:
    """A dispatcher with its surroundings; "m" is the only model."""

    def __init__(self, workers: int = 1) -> None:
        self.ends = Ends()
        self.recorder = Recorder()
        self.dispatcher = Dispatcher(["m"], self.ends, self.recorder)
        self.ports = [FakePort() for _ in range(workers)]
        for port in self.ports:
            self.join(port)

    def join(self, port: FakePort) -> None:
        loaded = LoadedModel(spec("m"), "n", True, TILE, "cpu", "fp32")
        self.dispatcher.add(port, {"m": loaded})

    def restart(self, place: int = 0) -> FakePort:
        self.dispatcher.lose(self.ports[place])
        self.ports[place] = FakePort()
        self.join(self.ports[place])
        return self.ports[place]

    def step(self, port: FakePort, steps: dict[int, int], finished: Iterable[int] = ()) -> None:
        self.dispatcher.hear(
            port,
            Stepped(
                model="m",
                began=0.0,
                ended=1.0,
                tile=TILE,
                evaluations=(1,),
                joined=0,
                left=0,
                advanced=tuple(Advanced(row, step) for row, step in steps.items()),
                previewed=(),
                finished=tuple(Finished(row, PICTURE, 0.0) for row in finished),
                memory=0,
            ),
        )


def ticket(number: int, *, steps: int = 4, guidance: float = 1.0) -> Ticket:
    key = Key("m", RowRequest("a", number, steps=steps, guidance=guidance, solver="euler"))
    one = Ticket(number, key, accepted=0.0, cacheable=True, watched=False)
    job = Job(ask("m"), accepted=0.0, previews=False, on_end=lambda job: None)
    one.subscribers.append(Subscriber(job, 0))
    return one


def tickets(count: int, **changes: int) -> list[Ticket]:
    return [ticket(number, **changes) for number in range(count)]


def test_a_worker_gets_what_fits_its_tile_and_the_rest_waits() -> None:
    stage = Stage()
    stage.dispatcher.put(0, tickets(6))
    assert stage.ports[0].admitted == [0, 1, 2, 3]
    assert stage.dispatcher.waiting == 2
    assert (stage.recorder.waiting["m"], stage.recorder.running["m"]) == (2, 4)


def test_the_next_row_is_sent_while_another_takes_its_last_step() -> None:
    # Sent only after a row is finished, it would miss a step: with models of one step, every
    # second pass would run empty.
    stage = Stage()
    stage.dispatcher.put(0, tickets(6))
    stage.step(stage.ports[0], {0: 3, 1: 2, 2: 2, 3: 2})
    assert stage.ports[0].admitted == [0, 1, 2, 3, 4]


def test_a_worker_never_has_more_than_two_tiles() -> None:
    stage = Stage()
    stage.dispatcher.put(0, tickets(20, steps=1))
    assert len(stage.ports[0].admitted) == 2 * TILE


def test_room_counts_places_of_that_model_alone() -> None:
    staying, leaving, guided = ticket(1), ticket(2), ticket(3, guidance=2.0)
    leaving.step = 3
    assert room([], "m", TILE) == TILE
    assert room([staying, leaving, guided], "m", TILE) == 1
    assert room([staying, leaving, guided], "other", TILE) == TILE


def test_rows_go_to_the_emptiest_worker() -> None:
    stage = Stage(workers=2)
    stage.dispatcher.put(0, tickets(4))
    assert [len(port.admitted) for port in stage.ports] == [2, 2]


def test_a_lost_worker_gives_its_rows_to_the_next_one_first() -> None:
    stage = Stage()
    stage.dispatcher.put(0, tickets(6))
    port = stage.restart()
    assert port.admitted == [0, 1, 2, 3]
    assert stage.recorder.count["replayed"] == 4


def test_a_cancelled_row_leaves_queue_or_batch() -> None:
    stage = Stage()
    rows = tickets(6)
    stage.dispatcher.put(0, rows)
    for one in (rows[0], rows[5]):
        one.subscribers.clear()
        stage.dispatcher.withdraw(one)
    port = stage.ports[0]
    assert Cancel((0,)) in port.sent
    assert port.admitted == [0, 1, 2, 3, 4]  # its place is given on at once
    assert stage.recorder.count["cancelled"] == 1
    stage.dispatcher.hear(port, Left((0,)))
    assert stage.recorder.count["cancelled"] == 2
    assert stage.recorder.running["m"] == 4


def test_a_cancelled_row_is_not_computed_again() -> None:
    stage = Stage()
    (row,) = tickets(1)
    stage.dispatcher.put(0, [row])
    row.subscribers.clear()
    stage.dispatcher.withdraw(row)
    assert stage.restart().admitted == []
    assert stage.recorder.idle


def test_after_two_crashes_rows_run_alone_and_only_the_guilty_one_fails() -> None:
    stage = Stage()
    stage.dispatcher.put(0, tickets(3))
    stage.restart()
    port = stage.restart()
    assert port.admitted == [0]
    stage.step(port, {0: 4}, finished=[0])
    assert port.admitted == [0, 1]  # the second suspect, alone: say that it is the poisonous one
    stage.dispatcher.put(1, [ticket(9)])
    port = stage.restart()
    assert port.admitted == [2], "a suspect that crashed alone goes behind those not yet tried"
    stage.step(port, {2: 4}, finished=[2])
    assert port.admitted == [2, 1]
    port = stage.restart()
    assert stage.ends.failed == [1]
    assert port.admitted == [9]
    stage.step(port, {9: 4}, finished=[9])
    assert sorted(stage.ends.done) == [0, 2, 9]
    assert stage.recorder.idle


def test_while_one_worker_tries_suspects_the_others_serve() -> None:
    stage = Stage(workers=2)
    stage.dispatcher.put(0, tickets(1))
    stage.restart(0)
    stage.restart(1 if stage.ports[1].admitted else 0)
    alone = next(port for port in stage.ports if 0 in port.admitted)
    stage.dispatcher.put(1, [ticket(7), ticket(8)])
    (other,) = (port for port in stage.ports if port is not alone)
    assert alone.admitted == [0]
    assert other.admitted == [7, 8]
