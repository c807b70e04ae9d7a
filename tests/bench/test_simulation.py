"""If these fail, the simulation answers for another service than this one."""

from __future__ import annotations

import pytest

from bench import scale
from bench.simulation import Fleet, Load, Seen, Simulation

STEPS = {2: 0.01, 4: 0.02, 8: 0.03}
ONE = Fleet(1, STEPS)
Plan = list[tuple[float, int, int]]  # when, which address, how many steps


def followed(fleet: Fleet, plan: Plan) -> Seen:
    return Simulation(fleet, Load()).follow(iter(plan))


def test_a_step_takes_as_long_as_the_smallest_pass_that_holds_its_rows() -> None:
    alone = followed(ONE, [(0.0, 1, 20)])
    assert alone.latencies == [pytest.approx(20 * STEPS[2], abs=0.02)]
    three = followed(ONE, [(0.0, k, 20) for k in range(3)])
    assert max(three.latencies) == pytest.approx(20 * STEPS[8], abs=0.05)


def test_rows_join_at_the_next_step_and_leave_at_their_last() -> None:
    seen = followed(ONE, [(0.0, 1, 100), (0.5, 2, 2)])
    assert min(seen.latencies) < 0.06  # two steps of two rows, and the rest of the present one
    assert max(seen.latencies) == pytest.approx(100 * STEPS[2] + 2 * (STEPS[4] - STEPS[2]), abs=0.1)


def test_an_address_is_drawn_once_and_then_in_memory() -> None:
    seen = followed(ONE, [(0.0, 1, 20), (0.05, 1, 20), (9.0, 1, 20)])
    assert seen.drawn == 1
    assert seen.latencies[1] == pytest.approx(seen.latencies[0] - 0.05, abs=0.01)
    assert seen.latencies[2] == pytest.approx(ONE.answer_seconds)


def test_a_full_queue_refuses_and_a_deadline_ends() -> None:
    small = Fleet(1, STEPS, waiting=2)
    seen = followed(small, [(0.0, k, 20) for k in range(10)])
    assert 0 < seen.refused <= 8
    assert seen.refused + seen.drawn == 10
    late = followed(Fleet(1, STEPS, deadline=0.1), [(0.0, 1, 20)])
    assert (late.late, late.drawn, late.requests) == (1, 0, 1)


def test_what_a_dead_replica_had_is_drawn_by_another() -> None:
    fleet = Fleet(4, STEPS, start_seconds=1.0)
    load = Load(rate=40, seconds=4, repeats=0.5, addresses=100, deaths=2)
    seen = Simulation(fleet, load).run()
    assert (seen.refused, seen.late) == (0, 0)
    calm = Simulation(fleet, Load(rate=40, seconds=4, repeats=0.5, addresses=100)).run()
    assert seen.requests == calm.requests
    assert seen.drawn > calm.drawn  # memories were lost, too


def test_one_popular_address_keeps_one_front_busy_unless_a_cache_has_it() -> None:
    load = Load(rate=4000, seconds=0.5, repeats=1.0, addresses=10)
    by_address, cached, by_load = (
        Simulation(fleet, load).run()
        for fleet in (
            Fleet(20, STEPS),
            Fleet(20, STEPS, cache=True),
            Fleet(20, STEPS, by_address=False),
        )
    )
    assert by_address.busiest_front > 0.5
    assert cached.busiest_front == 0
    assert by_load.busiest_front < by_address.busiest_front / 2
    assert by_address.drawn == cached.drawn == 0


def test_every_load_is_a_row_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", "--factors", "1", "2", "--seconds", "0.5"])
    scale.main()
    _, table = capsys.readouterr().out.rsplit("busiest front", 1)
    names = [name for name, _, _ in scale.scenarios((1, 2), 0.5)]
    assert len(names) == 10
    for name in names:
        assert name in table
