"""What a service's metrics say."""

from __future__ import annotations

import re


def metric_in(text: str, name: str) -> float:
    """A metric's sum over its labels, or over those that are in ``name``; 0 where there is none."""
    pattern = rf"^tessera_{re.escape(name)}(?:{{.*}})? (\S+)$"
    return sum(map(float, re.findall(pattern, text, re.MULTILINE)))
