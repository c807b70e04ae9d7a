"""If these fail, a large request starves small ones, or rows get lost in the queue."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.ticket import Key, Ticket
from app.engine.waiting import Waiting
from model.protocol import RowRequest


def ticket(number: int) -> Ticket:
    key = Key("steady", RowRequest("a", number, steps=4, guidance=2.0, solver="euler"))
    return Ticket(number, key, accepted=0.0, cacheable=True, watched=False)


def order(waiting: Waiting) -> list[int]:
    return [waiting.pop().id for _ in range(len(waiting))]


def test_requests_take_turns() -> None:
    waiting = Waiting()
    waiting.push(1, [ticket(number) for number in (10, 11, 12)])
    waiting.push(2, [ticket(20)])
    waiting.push(3, [ticket(30), ticket(31)])
    assert order(waiting) == [10, 20, 30, 11, 31, 12]


def test_replayed_rows_come_first_and_keep_their_order() -> None:
    waiting = Waiting()
    waiting.push(1, [ticket(10)])
    waiting.push_again([ticket(1), ticket(2)])
    assert order(waiting) == [1, 2, 10]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=10), st.data())
def test_a_request_waits_for_at_most_its_own_rows_times_the_others(
    sizes: list[int], data: st.DataObject
) -> None:
    waiting = Waiting()
    for lane, size in enumerate(sizes):
        waiting.push(lane, [ticket(100 * lane + k) for k in range(size)])
    lane = data.draw(st.integers(0, len(sizes) - 1))
    last = max(place for place, number in enumerate(order(waiting)) if number // 100 == lane)
    assert last < sizes[lane] * len(sizes)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30), st.data())
def test_every_row_comes_out_once_unless_it_was_removed(
    pushes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    waiting = Waiting()
    tickets = [ticket(number) for number in range(len(pushes))]
    for one, (lane, again) in zip(tickets, pushes, strict=True):
        if again:
            waiting.push_again([one])
        else:
            waiting.push(lane, [one])
    removed = data.draw(st.sets(st.sampled_from(tickets) if tickets else st.nothing()))
    assert all(waiting.remove(one) for one in removed)
    assert not any(waiting.remove(one) for one in removed)
    assert waiting.peek() is None or waiting.peek() not in removed
    assert sorted(order(waiting)) == sorted(one.id for one in tickets if one not in removed)
    assert waiting.peek() is None
