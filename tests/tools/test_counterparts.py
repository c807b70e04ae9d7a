"""If these fail, a style is completed with what is held out of it, or with something else."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.data import load
from model.data.concepts import Concepts
from model.data.emoji import CAPTIONS, read_pictures, read_records, select
from model.data.pictures import PictureFormat
from model.flow.config import SamplingConfig
from tests.commands import tool
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_knowing_flow
from tools.concept_flow import load_network, open_knowing
from tools.counterparts import __main__ as counterparts
from tools.counterparts.drawing import drawn, redrawn
from tools.counterparts.guess import guess
from tools.counterparts.learning import CounterpartSteps
from tools.counterparts.network import SHAPES, CounterpartNetwork, Shape
from tools.counterparts.sources import DISTORTIONS, Sources, reduced
from tools.counterparts.symbols import Symbols

TONES = {"1f44d": "thumbs up", "1f44d_1f3fb": "thumbs up: light", "1f44d_1f3ff": "thumbs up: dark"}


SHAPE = Shape(128, 64, 32, (16, 16, 24))

command = partial(tool, counterparts.main)


def sources(sets: list[Path]) -> Sources:
    symbols, images = symbols_of(sets), images_of(sets)
    guesses = guess(reduced(images, 32), symbols, symbols.lacking(symbols.styles))
    return Sources(images, symbols, guesses, SHAPE.shown)


def images_of(sets: list[Path]) -> torch.Tensor:
    return torch.from_numpy(np.array(load(sets, PictureFormat(128, 4)).pictures))


def symbols_of(sets: list[Path]) -> Symbols:
    return Symbols.of(select(read_records(sets), "train"))


@pytest.mark.parametrize("size", [128, 32])
def test_sets_of_what_styles_lack_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    narrow = replace(SHAPES[size], widths=(16, 16, 24))
    monkeypatch.setitem(SHAPES, size, narrow)
    noto = make_set(tmp_path / "noto", "noto", dict(list(MANY.items())[2:]))
    twemoji = make_set(tmp_path / "twemoji", "twemoji", dict(list(MANY.items())[:-3]))
    pixel = make_set(tmp_path / "pixel", "pixel", {**MANY, "1f0cf": "in no other"})
    styles = ("noto", "twemoji")
    out = tmp_path / "out"
    command(
        f"{noto} {twemoji} {pixel} -o {out} --style noto --style twemoji --steps 2 --batch 4 "
        f"--device cpu --no-compile --size {size}"
    )
    real = read_records([noto, twemoji, pixel])
    made = read_records([out / style for style in styles])
    assert {record.style for record in made} == set(styles)
    for style in styles:
        seen = {r.codepoints for r in select(real, "train") if r.style == style}
        elsewhere = {r.codepoints for r in select(real, "train") if r.style != style}
        own = {r.codepoints for r in made if r.style == style}
        assert own == (elsewhere - seen) & set(MANY)
    held = {(r.style, r.codepoints) for r in select(real, "held-out style")}
    assert held & {(r.style, r.codepoints) for r in made}
    assert select(made, "train") == made  # as these are no real images
    names = {record.codepoints: record.name for record in real}
    assert all(record.name == names[record.codepoints] for record in made)
    assert {image.size for image in read_pictures(made)} == {(128, 128)}
    assert {image.mode for image in read_pictures(made)} == {"RGBA"}


def test_a_style_that_no_set_has_is_named(tmp_path: Path) -> None:
    noto = make_set(tmp_path / "noto", "noto", MANY)
    with pytest.raises(AssertionError, match="'blob' is none of the styles: noto"):
        command(f"{noto} -o {tmp_path / 'out'} --style blob --steps 1 --device cpu")


def test_looks_of_one_drawing_teach_nothing(tmp_path: Path) -> None:
    looks = ("fluent 3d", "fluent flat")
    sets = [make_set(tmp_path / style.replace(" ", "_"), style, MANY) for style in looks]
    given = " ".join(map(str, sets))
    with pytest.raises(AssertionError, match="no symbol is in two styles of other drawings"):
        command(f"{given} -o {tmp_path / 'out'} --style 'fluent 3d' --device cpu")


def test_a_size_that_no_network_has_is_refused(tmp_path: Path) -> None:
    noto = make_set(tmp_path / "noto", "noto", MANY)
    with pytest.raises(AssertionError, match="--size 64 was given, accepted are 128 and 32"):
        command(f"{noto} -o {tmp_path / 'out'} --style noto --size 64 --device cpu")


def test_a_flow_of_another_size_is_refused(tmp_path: Path) -> None:
    noto = make_set(tmp_path / "noto", "noto", MANY)
    flow = tiny_knowing_flow(tmp_path / "flow", Concepts.of(read_records([noto])))
    with pytest.raises(AssertionError, match="draws 16 pixels along a side, 128 are needed"):
        command(f"{noto} -o {tmp_path / 'out'} --style noto --flow {flow} --device cpu")


def test_skin_tones_are_drawn_where_the_style_has_none(tmp_path: Path) -> None:
    full = make_set(tmp_path / "noto", "noto", {**MANY, **TONES})
    lines = (full / CAPTIONS).read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        if row["codepoints"] in TONES and "_" in row["codepoints"]:
            lines[number] = json.dumps(row | {"skin_tone": [row["name"].split(": ")[1]]})
    (full / CAPTIONS).write_text("\n".join(lines), encoding="utf-8")
    plain = make_set(tmp_path / "twemoji", "twemoji", {**MANY, "1f44d": "thumbs up"})
    bare = make_set(tmp_path / "pixel", "pixel", MANY)
    symbols = symbols_of([full, plain, bare])
    assert set(TONES) <= set(symbols.codepoints)
    found = {
        symbols.lacked(index, style).style: set[str]()
        for index, style in symbols.lacking(["twemoji", "pixel"]).tolist()
    }
    for index, style in symbols.lacking(["twemoji", "pixel"]).tolist():
        record = symbols.lacked(index, style)
        found[record.style].add(record.codepoints)
    assert not found["twemoji"] & set(TONES)
    assert found["pixel"] >= set(TONES)
    assert not symbols.lacking(["pixel"])[:, 1].eq(symbols.styles.index("twemoji")).any()


def test_what_is_drawn_is_not_shown_and_all_is_distorted_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same squares in two styles: what is shown is what is to be drawn, reduced."""
    # A plain square that is only enlarged looks as before: colours tell more of them apart.
    monkeypatch.setattr("tools.counterparts.sources.RECOLOURED", 0.35)
    sets = [make_set(tmp_path / style, style, MANY) for style in ("noto", "twemoji")]
    symbols, given = symbols_of(sets), sources(sets)
    torch.manual_seed(0)
    pairs = symbols.pairs().repeat(8, 1)
    asked, target = given.lesson(pairs)
    rows = torch.arange(len(pairs))
    assert not asked.mask[rows, pairs[:, 1]].any()
    assert not asked.shown[rows, pairs[:, 1]].any()
    assert asked.mask[:, :-1].any(1).all()  # but never nothing
    assert asked.mask[:, -1].all()  # and always a guess
    shown = asked.shown[:, :-1].sum(1)
    wanted = F.avg_pool2d((target + 1) / 2, 2)
    assert (shown - wanted).abs().mean() < 0.01
    assert asked.distortion.shape == (len(pairs), DISTORTIONS)
    plain = ~asked.distortion.bool().any(1)
    assert 0.1 < plain.float().mean() < 0.3
    mirrored = asked.distortion[:, 0].bool()
    assert 0.4 < mirrored.float().mean() < 0.6
    whole = given.asked(pairs).shown[:, :-1].sum(1)
    torch.testing.assert_close(shown[plain], whole[plain], atol=1e-4, rtol=0)
    moved = asked.distortion.bool().any(1)
    assert ((shown - whole).abs().amax((1, 2, 3))[moved & ~mirrored] > 0.01).float().mean() > 0.9


def test_other_looks_of_a_drawing_are_mostly_hidden(tmp_path: Path) -> None:
    styles = ("fluent 3d", "fluent flat", "noto")
    sets = [make_set(tmp_path / style.replace(" ", "_"), style, MANY) for style in styles]
    symbols, given = symbols_of(sets), sources(sets)
    look = symbols.styles.index("fluent flat")
    pairs = symbols.pairs()
    pairs = pairs[pairs[:, 1] == symbols.styles.index("fluent 3d")].repeat(20, 1)
    torch.manual_seed(0)
    asked, _ = given.lesson(pairs)
    both = symbols.rows[pairs[:, 0]][:, [look, symbols.styles.index("noto")]].ge(0).all(1)
    assert 0.05 < asked.mask[both][:, look].float().mean() < 0.25


def test_images_are_those_of_their_pairs_whatever_is_drawn_beside_them(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / style, style, MANY) for style in ("noto", "twemoji")]
    symbols, given = symbols_of(sets), sources(sets)
    torch.manual_seed(0)
    network = CounterpartNetwork(2, SHAPE)
    pairs = symbols.pairs()[:6]
    together = torch.stack(list(drawn(network, given, pairs, steps=1, batch=6)))
    apart = torch.stack(list(drawn(network, given, pairs, steps=1, batch=2)))
    assert together.shape == (6, 4, 128, 128)
    assert (together - apart).abs().max() <= 1 / 127.5
    assert len(set(map(bytes, together.numpy()))) == 6


def test_a_guess_at_a_known_image_does_not_see_it(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / style, style, MANY) for style in ("noto", "twemoji")]
    symbols, images = symbols_of(sets), reduced(images_of(sets), 32)
    pair = symbols.pairs()[:1]
    none = torch.empty(0, 2, dtype=torch.long)
    before = guess(images, symbols, none)
    changed = images.clone()
    changed[symbols.rows[*pair[0]]] = 255 - changed[symbols.rows[*pair[0]]]
    after = guess(changed, symbols, none)
    assert torch.equal(before.of(pair, 32), after.of(pair, 32))
    style = symbols.pairs()[symbols.pairs()[:, 1] == pair[0, 1]]
    assert not torch.equal(before.of(style, 32), after.of(style, 32))  # others' guesses do


def test_a_guess_is_nearer_than_the_mean(tmp_path: Path) -> None:
    """Of images that lie between a few, in a style that is the negative of another."""
    names = {f"{0x1F400 + k:x}": f"symbol {k}" for k in range(60)}
    sets = [make_set(tmp_path / style, style, names) for style in ("noto", "twemoji")]
    symbols = symbols_of(sets)
    draw = torch.Generator().manual_seed(0)
    images = torch.zeros(len(symbols.records), 4, 32, 32, dtype=torch.uint8)
    few = torch.rand(3, 4, 32, 32, generator=draw)
    for rows in symbols.rows.tolist():
        shares = torch.rand(3, generator=draw).softmax(0)
        image = torch.einsum("k,kchw->chw", shares, few) * 255
        for row, drawn_so in zip(rows, (image, 255 - image), strict=True):
            if row >= 0:  # not held out
                images[row] = drawn_so.byte()
    lacking = symbols.pairs()[symbols.pairs()[:, 1] == 1][::7]
    hidden = replace(symbols, rows=symbols.rows.clone())
    hidden.rows[lacking[:, 0], 1] = -1
    found = guess(images, hidden, lacking)
    truth = images[symbols.rows[*lacking.T]].float() / 255
    mean = images[hidden.rows[hidden.rows[:, 1] >= 0, 1]].float().mean(0) / 255
    assert (found.of(lacking, 32) - truth).abs().mean() < 0.3 * (mean - truth).abs().mean()
    learned = hidden.pairs()
    assert (found.rows[*learned.T] >= 0).all()
    assert len(found.images) == len(learned) + len(lacking)


def test_a_flow_draws_again_what_it_was_given(tmp_path: Path) -> None:
    """With the concepts of each image, and from what was drawn before."""
    records = read_records([make_set(tmp_path / "noto", "noto", MANY)])
    concepts = Concepts.of(records)
    network = load_network(open_knowing(tiny_knowing_flow(tmp_path / "flow", concepts))[0])
    torch.manual_seed(0)
    for parameter in network.parameters():  # a flow begins by drawing nothing
        torch.nn.init.normal_(parameter, std=0.2)
    numbers = torch.tensor([concepts.numbers(record) for record in records[:5]])
    given = torch.rand(5, 4, 16, 16) * 2 - 1

    def redraw(numbers: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        found = redrawn(network, SamplingConfig(steps=2), numbers, iter(images), batch=2)
        return torch.stack(list(found))

    images = redraw(numbers, given)
    assert images.shape == given.shape
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    others = redraw(numbers.roll(1, 0), given), redraw(numbers, given.roll(1, 0))
    for other in others:
        assert (images != other).flatten(1).any(1).all()


def test_the_average_forgets_the_random_weights_that_it_began_with(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / style, style, MANY) for style in ("noto", "twemoji")]
    torch.manual_seed(0)
    network = CounterpartNetwork(2, SHAPE)
    before = network.out.weight.detach().clone()
    steps = CounterpartSteps(
        network, sources(sets), batch=2, drawing_steps=1, weight_decay=0.0, compiled=False
    )
    for pair in symbols_of(sets).pairs()[:6].split(2):
        steps.step(pair, 1e-2)
    now, mean = network.out.weight.detach(), steps.average.state["out.weight"]
    assert (mean - now).norm() < 0.3 * (mean - before).norm()
