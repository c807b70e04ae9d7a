"""If these fail, rows starve, run twice in a step, or a pass changes its shape."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.engine.batcher import admissible, choose, next_turn


@dataclass(frozen=True)
class Steppable:
    name: int
    kind: str
    evaluations: int


TILE = 8
lines = st.lists(
    st.tuples(st.sampled_from(["encode", "denoise"]), st.integers(1, TILE)), max_size=40
).map(lambda rows: [Steppable(i, kind, taken) for i, (kind, taken) in enumerate(rows)])


@given(lines)
def test_no_pass_has_more_evaluations_than_the_tile(line: list[Steppable]) -> None:
    taken: Counter[str] = Counter()
    for row in choose(line, TILE).rows:
        taken[row.kind] += row.evaluations
    assert all(sum_ <= TILE for sum_ in taken.values())
    assert sorted(choose(line, TILE).evaluations) == sorted(taken.values())


@given(lines)
def test_each_row_steps_once_or_waits(line: list[Steppable]) -> None:
    batch = choose(line, TILE)
    assert sorted([*batch.rows, *batch.rest], key=lambda row: row.name) == line


@given(lines)
def test_a_row_waits_only_where_it_does_not_fit(line: list[Steppable]) -> None:
    batch = choose(line, TILE)
    for row in batch.rest:
        ahead = sum(
            other.evaluations
            for other in batch.rows
            if other.kind == row.kind and other.name < row.name
        )
        assert ahead + row.evaluations > TILE


@given(lines.filter(bool))
def test_no_row_starves(line: list[Steppable]) -> None:
    # The first in line always steps, and whoever steps goes behind all who waited: after as many
    # steps as there are rows, each has stepped.
    stepped: set[Steppable] = set()
    waiting = list(line)
    for _ in line:
        batch = choose(waiting, TILE)
        stepped.update(batch.rows)
        waiting = [*batch.rest, *batch.rows]
    assert stepped == set(line)


@given(st.lists(st.integers(1, 2)), st.integers(0, TILE))
def test_admission_fills_the_tile_strictly_in_order(waiting: list[int], used: int) -> None:
    count = admissible(waiting, used, TILE)
    assert used + sum(waiting[:count]) <= TILE
    assert count == len(waiting) or used + sum(waiting[: count + 1]) > TILE


def test_a_row_that_does_not_fit_is_not_overtaken() -> None:
    # Otherwise rows without guidance would slip into every single place, and a row that needs two
    # would wait for as long as they keep coming.
    assert admissible([2, 1, 1], used=TILE - 1, tile=TILE) == 0


@given(st.sets(st.text(min_size=1), min_size=1, max_size=5))
def test_every_model_steps_once_in_a_round(models: set[str]) -> None:
    turns: list[str] = []
    for _ in range(2 * len(models)):
        turns.append(next_turn(sorted(models), turns[-1] if turns else None))
    assert sorted(turns) == sorted([*models, *models])
    assert set(turns[: len(models)]) == models
