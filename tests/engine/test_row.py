"""If these fail, a large job starves small ones, or rows get lost in the queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.row import Row, RowQueue
from tests.engine.fakes import request


def row(number: int) -> Row:
    return Row(number, request(seed=number), cost=1, steps=4, accepted=0.0)


def order(queue: RowQueue) -> list[int]:
    return [queue.pop().id for _ in range(len(queue))]


def test_owners_alternate() -> None:
    queue = RowQueue()
    for owner, number in ((1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)):
        queue.push(owner, row(number))
    assert order(queue) == [10, 20, 30, 11, 31, 12]


def test_restored_rows_come_first_and_keep_their_order() -> None:
    queue = RowQueue()
    queue.push(1, row(10))
    queue.restore([row(1), row(2)])
    assert order(queue) == [1, 2, 10]
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(st.integers(1, 10), min_size=1, max_size=10), st.data())
def test_an_owner_waits_for_at_most_its_own_rows_times_the_others(
    sizes: list[int], data: st.DataObject
) -> None:
    queue = RowQueue()
    for owner, size in enumerate(sizes):
        for k in range(size):
            queue.push(owner, row(100 * owner + k))
    owner = data.draw(st.integers(0, len(sizes) - 1))
    last = max(place for place, number in enumerate(order(queue)) if number // 100 == owner)
    assert last < sizes[owner] * len(sizes)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30), st.data())
def test_every_row_comes_out_once_unless_it_was_removed(
    pushes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    queue = RowQueue()
    rows = [row(number) for number in range(len(pushes))]
    for pushed, (owner, restored) in zip(rows, pushes, strict=True):
        if restored:
            queue.restore([pushed])
        else:
            queue.push(owner, pushed)
    removed = data.draw(st.sets(st.sampled_from(rows) if rows else st.nothing()))
    assert all(queue.remove(row) for row in removed)
    assert not any(queue.remove(row) for row in removed)
    assert queue.peek() is None or queue.peek() not in removed
    assert sorted(order(queue)) == sorted(row.id for row in rows if row not in removed)
    assert queue.peek() is None
