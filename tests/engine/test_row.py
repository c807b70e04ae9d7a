"""If these fail, rows get lost in the queue, or leave it in another order than they are due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.row import Row, RowQueue
from tests.engine.fakes import request


def row(number: int, due: int) -> Row:
    return Row(number, request(seed=number), cost=1, steps=4, accepted=0.0, due=due)


@given(st.lists(st.integers(0, 5), max_size=30), st.data())
def test_rows_come_out_once_as_they_are_due_and_came(dues: list[int], data: st.DataObject) -> None:
    queue = RowQueue()
    rows = [row(number, due) for number, due in enumerate(dues)]
    for one in data.draw(st.permutations(rows)):
        queue.push(one)
    removed = data.draw(st.sets(st.sampled_from(rows) if rows else st.nothing()))
    assert all(queue.remove(one) for one in removed)
    assert not any(queue.remove(one) for one in removed)
    expected = sorted(set(rows) - removed, key=lambda one: (one.due, one.id))
    assert len(queue) == len(expected)
    assert queue.peek() is (expected[0] if expected else None)
    assert [queue.pop() for _ in range(len(queue))] == expected
    assert queue.peek() is None
    with pytest.raises(IndexError):
        queue.pop()
