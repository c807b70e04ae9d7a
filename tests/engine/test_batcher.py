"""If these fail, rows starve, run twice in a step, or a pass changes its shape."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.batcher import admissible, choose, next_model


@dataclass(frozen=True)
class Steppable:
    name: int
    kind: str
    evaluations: int


TILE = 8
CAPACITY = {"encode": TILE, "denoise": TILE, "decode": 2}
kinds = st.sampled_from(sorted(CAPACITY))
lines = st.lists(
    kinds.flatmap(lambda kind: st.tuples(st.just(kind), st.integers(1, CAPACITY[kind]))),
    max_size=40,
).map(lambda rows: [Steppable(i, kind, taken) for i, (kind, taken) in enumerate(rows)])


def capacity(kind: str) -> int:
    return CAPACITY[kind]


@given(lines)
def test_no_pass_has_more_evaluations_than_its_kind_holds(line: list[Steppable]) -> None:
    taken: Counter[str] = Counter()
    for row in choose(line, capacity):
        taken[row.kind] += row.evaluations
    assert all(taken[kind] <= capacity(kind) for kind in taken)


@given(lines)
def test_a_row_waits_only_where_it_does_not_fit(line: list[Steppable]) -> None:
    rows = choose(line, capacity)
    for row in line:
        if row not in rows:
            ahead = sum(
                other.evaluations
                for other in rows
                if other.kind == row.kind and other.name < row.name
            )
            assert ahead + row.evaluations > capacity(row.kind)


@given(lines.filter(bool))
def test_rows_step_in_line_order_and_the_first_one_always(line: list[Steppable]) -> None:
    rows = choose(line, capacity)
    assert rows == sorted(set(rows), key=line.index)
    assert rows[0] == line[0]


def test_a_row_that_no_pass_can_hold_is_an_error() -> None:
    # Otherwise it would wait for ever, and the worker step nothing in a busy loop.
    with pytest.raises(ValueError, match="takes 3 evaluations of a pass of kind 'decode'"):
        choose([Steppable(0, "decode", 3)], capacity)


@given(st.lists(st.integers(1, 2)), st.integers(0, TILE))
def test_admission_fills_the_tile_strictly_in_order(waiting: list[int], used: int) -> None:
    count = admissible(waiting, used, TILE)
    assert used + sum(waiting[:count]) <= TILE
    assert count == len(waiting) or used + sum(waiting[: count + 1]) > TILE


def test_a_row_that_does_not_fit_is_not_overtaken() -> None:
    # Otherwise rows without guidance would slip into every gap, and a row that needs two
    # would wait for as long as they keep coming.
    assert admissible([2, 1, 1], used=TILE - 1, tile=TILE) == 0


def test_no_more_is_asked_of_rows_that_wait_than_it_takes() -> None:
    """A thousand may wait, at every step."""
    waiting = iter([1] * 1000)
    assert admissible(waiting, used=TILE - 2, tile=TILE) == 2
    assert len(list(waiting)) == 997


@given(st.sets(st.text(min_size=1), min_size=1, max_size=5))
def test_every_model_steps_once_in_a_round(models: set[str]) -> None:
    order: list[str] = []
    for _ in range(2 * len(models)):
        order.append(next_model(sorted(models), order[-1] if order else None))
    assert sorted(order) == sorted([*models, *models])
    assert set(order[: len(models)]) == models
