"""Word pieces and their vectors, but for the encoder that knows them (a package of its own)."""

import numpy as np

from tools.word_vectors import choose, main_directions, quantized

KNOWN = [("▁the", 7, -1.0), ("▁red", 8, -2.0), ("▁", 9, -2.5), ("▁rocket", 10, -4.0), ("s", 11, -5)]


def test_pieces_of_our_words_come_before_likelier_ones() -> None:
    chosen = choose(KNOWN, ["red rockets", "Rocket"], 4)
    assert [text for text, _, _ in chosen] == ["▁red", "▁rocket", "s", "▁the"]


def test_main_directions_keep_what_differs_most() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 6)) * np.array([5.0, 3.0, 1.0, 0.1, 0.1, 0.1])
    kept = main_directions((values + 100).astype(np.float32), 3)
    assert kept.shape == (500, 3)
    assert kept.var(0).sum() > 0.99 * values.var(0).sum()
    distances = [np.linalg.norm(one[0] - one[1:], axis=1) for one in (values, kept)]
    np.testing.assert_allclose(distances[0], distances[1], atol=0.5)


def test_eight_bits_are_close() -> None:
    values = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32) * 7
    codes, scales = quantized(values)
    assert codes.dtype == np.int8
    restored = codes * scales[:, None]
    expected = values / np.sqrt(np.square(values).mean())
    assert np.abs(restored - expected).max() < 0.02
