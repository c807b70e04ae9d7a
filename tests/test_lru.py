"""If these fail, memory grows with the number of pictures, or a picture is answered for another."""

from hypothesis import given
from hypothesis import strategies as st

from app.lru import OVERHEAD, Lru


def lru(limit: int) -> Lru[int, bytes]:
    return Lru(limit, size=lambda _, value: len(value))


def test_the_least_recently_used_goes_first() -> None:
    cache = lru(2 * (1000 + OVERHEAD))
    cache.put(1, b"1" * 1000)
    cache.put(2, b"2" * 1000)
    cache.get(1)
    cache.put(3, b"3" * 1000)
    assert cache.get(2) is None
    assert cache.get(1) == b"1" * 1000
    assert cache.get(3) == b"3" * 1000


def test_a_limit_of_nothing_keeps_nothing() -> None:
    cache = lru(0)
    cache.put(1, b"")
    assert cache.get(1) is None
    assert cache.bytes == 0


def test_what_is_too_large_pushes_nothing_out() -> None:
    cache = lru(2 * OVERHEAD)
    cache.put(1, b"1")
    cache.put(2, b"2" * 2 * OVERHEAD)
    assert cache.get(2) is None
    assert cache.get(1) == b"1"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5000))), st.integers(0, 20_000))
def test_it_never_holds_more_than_its_limit(puts: list[tuple[int, int]], limit: int) -> None:
    cache = lru(limit)
    kept: dict[int, bytes] = {}
    for key, size in puts:
        value = bytes([key]) * size
        cache.put(key, value)
        assert cache.bytes <= limit
        held = {one: each for one in range(21) if (each := cache.get(one)) is not None}
        assert cache.bytes == sum(len(each) + OVERHEAD for each in held.values())
        assert all(kept.setdefault(one, each) == each for one, each in held.items())
        kept = held
