"""A run as one HTML file, complete in itself: its progress, loss and sheets, and how to serve it.

It reloads itself while the run goes on, also where it is opened as a file.
"""

from __future__ import annotations

import base64
import html
import io
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.files import write_aside

State = Literal["training", "finished", "interrupted", "failed"]

EVERY = 5.0
"""Seconds between two versions of the page, at least."""

SHEETS = 12
"""The most that are shown, the latest among them."""

POINTS = 160
"""Of the loss curve."""

WIDTH, HEIGHT, MARGIN = 720, 240, 46
"""Of its drawing."""

COLORS = ("var(--accent)", "var(--gold)")
"""Of a phase's line."""


@dataclass(frozen=True, slots=True)
class View:
    """What a run has to show."""

    state: State
    step: int
    steps: int
    seconds: float  # that it has taken
    left: float | None  # seconds
    facts: Sequence[str]  # what it trains on and how, a line each
    sheets: Mapping[int, Path]  # by step


class Page:
    """The file ``progress.html`` of a run's folder."""

    def __init__(self, run: Path, log: Sequence[Mapping[str, Any]]) -> None:
        """``log`` has the lines of the steps that are done."""
        self.path = run / "progress.html"
        self._run = run
        self._steps: list[int] = []
        self._losses: dict[str, list[float]] = {}
        self._written = -EVERY
        for line in log:
            values = {name: line[name] for name in line if name.endswith("loss")}
            self.add(int(line["step"]), values)

    @property
    def due(self) -> bool:
        """Whether the last version is out of date."""
        return time.monotonic() - self._written >= EVERY

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """The losses of a step that is done."""
        self._steps.append(step)
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(value)

    def write(self, view: View) -> None:
        """Raises ``OSError``."""
        self._written = time.monotonic()
        text = self._text(view)
        write_aside(self.path, lambda part: part.write_text(text, encoding="utf-8"))

    def _text(self, view: View) -> str:
        name = html.escape(self._run.resolve().name)
        sheets = _chosen(view.sheets)
        latest = sheets[-1:]
        return PAGE.format(
            name=name,
            state=view.state,
            reload=RELOAD if view.state == "training" else "",
            status=_status(view),
            share=100 * min(1.0, view.step / max(1, view.steps)),
            written=round(time.time() * 1000),
            latest="".join(_figure(step, view.sheets[step]) for step in latest) or WAITING,
            earlier="".join(_figure(step, view.sheets[step]) for step in reversed(sheets[:-1])),
            curve=curve(self._steps, self._losses),
            facts="".join(f"<li>{html.escape(fact)}</li>" for fact in view.facts),
            serve=_serving(self._run, view),
        )


def duration(seconds: float) -> str:
    """Such as "4 min 10 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def curve(steps: Sequence[int], losses: Mapping[str, Sequence[float]]) -> str:
    """The losses as an SVG, each point the mean of as many steps, on a logarithmic scale."""
    if len(steps) < 2:
        return '<p class="none">The curve begins with the second step.</p>'
    lines = {name: _thinned(steps, values) for name, values in losses.items()}
    floor = 1e-6  # a logarithm takes no 0, and a relativistic loss may be below
    values = np.log10(np.maximum(np.concatenate([y for _, y in lines.values()]), floor))
    low, high = float(values.min()), float(values.max())
    high = max(high, low + 0.1)

    def x(step: float) -> float:
        return MARGIN + (WIDTH - MARGIN - 8) * (step - steps[0]) / max(1, steps[-1] - steps[0])

    def y(value: float) -> float:
        return 8 + (HEIGHT - 34) * (high - np.log10(max(value, floor))) / (high - low)

    parts = []
    for place in np.linspace(low, high, 5):
        value = 10**place
        parts.append(
            f'<line class="grid" x1="{MARGIN}" x2="{WIDTH - 8}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{MARGIN - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.2g}</text>'
        )
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        step = steps[0] + share * (steps[-1] - steps[0])
        parts.append(
            f'<text x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">'
            f"{'step ' if share == 0 else ''}{step:,.0f}</text>"
        )
    for (name, (places, means)), color in zip(lines.items(), COLORS, strict=False):
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(places, means, strict=True))
        title = f"{name}: {means[-1]:.4f}"
        parts.append(
            f'<polyline points="{points}" stroke="{color}"><title>{title}</title></polyline>'
        )
    label = ", ".join(f"{name} {means[-1]:.4f}" for name, (_, means) in lines.items())
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _thinned(
    steps: Sequence[int], values: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `POINTS` means of neighbours."""
    parts = min(POINTS, len(steps))
    places = [part.mean() for part in np.array_split(np.asarray(steps, float), parts)]
    means = [part.mean() for part in np.array_split(np.asarray(values, float), parts)]
    return np.array(places), np.array(means)


def _status(view: View) -> str:
    done = f"step {view.step:,} of {'about ' if view.state == 'training' else ''}{view.steps:,}"
    taken = f"{duration(view.seconds)} of training"
    if view.state == "finished":
        return f"{view.step:,} steps · {taken}"
    left = "" if view.left is None else f" · {duration(view.left)} left"
    return f"{done} · {taken}{left}"


def _chosen(sheets: Mapping[int, Path]) -> list[int]:
    """Of many sheets the latest, and earlier ones at growing distances."""
    steps = sorted(sheets)
    if len(steps) <= SHEETS:
        return steps
    places = np.geomspace(1, len(steps), SHEETS)
    return [steps[place] for place in sorted({round(float(place)) - 1 for place in places})]


def _figure(step: int, path: Path) -> str:
    source = _embedded(path, path.stat().st_mtime_ns)
    return (
        f'<figure><a href="samples/{path.name}"><img src="{source}" '
        f'alt="What the model drew after step {step}"></a>'
        f"<figcaption>step {step:,}</figcaption></figure>"
    )


@lru_cache(2 * SHEETS)
def _embedded(path: Path, changed: int) -> str:
    """As a ``data:`` URL; ``changed`` tells versions of the file apart."""
    file = io.BytesIO()
    with Image.open(path) as image:
        image.save(file, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def serving_line(run: Path) -> str:
    """The command that serves what was trained there."""
    return f"tessera serve {shlex.quote(str(run))}"


def _serving(run: Path, view: View) -> str:
    line = html.escape(serving_line(run))
    when = {
        "finished": "The model is ready. This serves it on http://127.0.0.1:8000:",
        "interrupted": "The same training command goes on. What is learned so far is served by:",
        "failed": "It ended with an error. What was saved last is served by:",
        "training": "What has been saved last can be served beside the training:",
    }[view.state]
    return f"<p>{when}</p><pre><code>{line}</code></pre>"


RELOAD = '<noscript><meta http-equiv="refresh" content="10"></noscript>'

WAITING = '<p class="none">The first sheet comes after about a minute.</p>'

PAGE = """<!doctype html>
<html lang="en" data-state="{state}" data-written="{written}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{reload}
<title>{name} · {status}</title>
<style>
:root {{ color-scheme: light dark;
  --wall: light-dark(#eceef1, #0f1217); --panel: light-dark(#fbfcfd, #171b22);
  --ink: light-dark(#161a22, #e8ebf0); --soft: light-dark(#566070, #9ba5b4);
  --line: light-dark(#d5dae1, #2a313c); --accent: light-dark(#2746c9, #93a7ff);
  --gold: light-dark(#dd9611, #f0b03a); --good: light-dark(#1f8a55, #5fcf97); }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: clamp(1rem, 3vw, 2.5rem); background: var(--wall); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }}
main {{ max-width: 74rem; margin: auto; display: grid; gap: 1.25rem;
  grid-template-columns: repeat(12, 1fr); }}
header {{ grid-column: 1 / -1; }}
h1 {{ margin: 0; font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 .75rem; font-size: 1rem; }}
header p {{ margin: .25rem 0 .75rem; color: var(--soft); font-variant-numeric: tabular-nums; }}
.bar {{ height: .5rem; border-radius: 1rem; background: var(--line); overflow: hidden; }}
.bar i {{ display: block; height: 100%; border-radius: inherit; background: var(--accent); }}
[data-state="finished"] .bar i {{ background: var(--good); }}
[data-state="interrupted"] .bar i {{ background: var(--gold); }}
section {{ grid-column: span 12; min-width: 0; padding: 1.25rem; border-radius: 14px;
  background: var(--panel); border: 1px solid var(--line); }}
@media (min-width: 60rem) {{ .half {{ grid-column: span 6; }} }}
figure {{ margin: 0; }}
figure img {{ display: block; width: 100%; border-radius: 8px; background: #fff; }}
figcaption {{ color: var(--soft); font-size: .875rem; margin-top: .25rem; }}
.earlier {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }}
.earlier:empty, .earlier:empty + *, section:has(> .earlier:empty) {{ display: none; }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }}
.grid {{ stroke: var(--line); }}
polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
ul {{ margin: 0; padding-left: 1.1rem; overflow-wrap: anywhere; }}
pre {{ margin: 0; padding: .75rem 1rem; border-radius: 8px; background: var(--wall);
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; }}
section p {{ margin: 0 0 .5rem; }}
.none, #stale {{ color: var(--soft); }}
</style>
<main>
<header><h1>{name}</h1><p><b>{state}</b> · {status}<span id="stale"></span></p>
<div class="bar"><i style="width: {share:.1f}%"></i></div></header>
<section><h2>Drawn by the model so far</h2>{latest}</section>
<section class="half"><h2>Loss</h2>{curve}</section>
<section class="half"><h2>This run</h2><ul>{facts}</ul></section>
<section><h2>Serve it</h2>{serve}</section>
<section><h2>Earlier</h2><div class="earlier">{earlier}</div></section>
</main>
<script>
const {{ state, written }} = document.documentElement.dataset;
if (state === "training") {{
  const age = (Date.now() - written) / 1000;
  if (age > 300) stale.textContent =
    ` · last heard of ${{Math.round(age / 60)}} minutes ago: it may have been stopped`;
  setTimeout(() => location.reload(), age > 300 ? 60000 : 5000);
}}
</script>
"""
