"""If these fail, what is kept in memory weighs more than is counted."""

from app.engine.cache import result_cache
from app.engine.ticket import Key
from app.lru import OVERHEAD
from model.protocol import Description, Label, Picture, Result, RowRequest, Source

PICTURE = Picture(10, 10, 4, bytes(400))


def weight(result: Result, *, prompt: str = "", source: Source | None = None) -> int:
    """What one entry adds."""
    cache = result_cache(100_000)
    key = Key("steady", RowRequest(prompt, 1, steps=4, guidance=2.0, source=source))
    cache.put(key, result)
    assert cache.get(key) == result
    return cache.bytes - OVERHEAD


def test_pictures_weigh_their_pixels() -> None:
    assert weight(PICTURE) == 400


def test_so_does_what_was_asked() -> None:
    assert weight(PICTURE, prompt="红苹果") == 400 + 4 * 3
    assert weight(PICTURE, source=Source(PICTURE)) >= 2 * 400


def test_descriptions_weigh_their_text() -> None:
    described = Description("a caption", (Label("one", 0.75), Label("two", 0.25)))
    assert weight(described) == 4 * len("a captiononetwo")
