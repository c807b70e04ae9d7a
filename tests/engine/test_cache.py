"""If these fail, memory grows with the number of pictures, or a picture is answered for another."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.cache import OVERHEAD, ResultCache
from app.engine.ticket import Key
from model.protocol import Description, Label, Picture, RowRequest


def key(number: int) -> Key:
    return Key("steady", RowRequest("", number, steps=4, guidance=2.0, solver="euler"))


def picture(number: int, size: int = 1000) -> Picture:
    return Picture(size, 1, 1, bytes([number % 256]) * size)


def test_the_least_recently_used_picture_goes_first() -> None:
    cache = ResultCache(2 * (1000 + OVERHEAD))
    cache.put(key(1), picture(1))
    cache.put(key(2), picture(2))
    cache.get(key(1))
    cache.put(key(3), picture(3))
    assert cache.get(key(2)) is None
    assert cache.get(key(1)) == picture(1)
    assert cache.get(key(3)) == picture(3)


def test_descriptions_are_kept_and_weighed_too() -> None:
    described = Description("a caption", (Label("one", 0.75), Label("two", 0.25)))
    cache = ResultCache(2 * OVERHEAD)
    cache.put(key(1), described)
    assert cache.get(key(1)) == described
    assert cache.bytes == OVERHEAD + 4 * len("a captiononetwo")


def test_a_limit_of_nothing_keeps_nothing() -> None:
    cache = ResultCache(0)
    cache.put(key(1), picture(1))
    assert cache.get(key(1)) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5000))), st.integers(0, 20_000))
def test_it_never_holds_more_than_its_limit(puts: list[tuple[int, int]], limit: int) -> None:
    cache = ResultCache(limit)
    for number, size in puts:
        cache.put(key(number), picture(number, size))
        assert cache.bytes <= limit
        kept = cache.get(key(number))
        assert kept is None or kept in [picture(number, size) for _, size in puts]
