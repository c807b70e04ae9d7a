"""Which images a model draws, in pixels. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log, sqrt

from model.request import InvalidField

FARTHEST_ASPECT = 1.05
"""By which factor an image's aspect may be beyond those that are drawn, see `Sizes.nearest`."""


def aspect_of(width: int, height: int) -> float:
    """The longer side as a multiple of the shorter one."""
    return max(width, height) / min(width, height)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which images a model draws, in pixels: width x height.

    Beside the native size, those of ``others``, and, where ``multiple`` is not 0, all whose sides
    are multiples of it from ``low`` to ``high`` with at most ``pixels`` in all. An answer of any
    other size is resampled from the native one, but only where there is no ``multiple``: then
    requests have what they ask for, or are refused.
    """

    width: int  # the native size
    height: int
    others: tuple[tuple[int, int], ...] = ()
    multiple: int = 0
    low: int = 0
    high: int = 0
    pixels: int = 0
    upscaled: int = 0  # along each side, the most that "upscale" makes; 0: the native size

    @property
    def native(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def listed(self) -> tuple[tuple[int, int], ...]:
        """Those that are named one by one, the native size first."""
        return self.native, *self.others

    @property
    def several(self) -> bool:
        """Whether there are more than the native one."""
        return bool(self.others or self.multiple)

    @property
    def longest(self) -> int:
        """Pixels along the longest side that is drawn."""
        return max(self.high if self.multiple else 0, *map(max, self.listed))

    @property
    def most(self) -> int:
        """Pixels of the largest image that is drawn."""
        listed = (width * height for width, height in self.listed)
        return max(self.pixels if self.multiple else 0, *listed)

    @property
    def smallest(self) -> tuple[int, int]:
        """A small one that is drawn, for tests of the model."""
        return (self._shortest,) * 2 if self.multiple else self.native

    def allow(self, width: int, height: int) -> bool:
        """Whether the model draws this size."""
        if (width, height) in self.listed:
            return True
        return (
            bool(self.multiple)
            and all(
                side % self.multiple == 0 and self.low <= side <= self.high
                for side in (width, height)
            )
            and width * height <= self.pixels
        )

    def upscales_to(self, width: int, height: int) -> bool:
        """Whether "upscale" makes this size: the native one, or a larger one up to `upscaled`."""
        return all(
            native <= side <= max(native, self.upscaled)
            for native, side in zip(self.native, (width, height), strict=True)
        )

    def upscaled_from(self, width: int, height: int, factor: int) -> tuple[int, int] | None:
        """What "upscale" draws of an image of this size: the native size where the result fits into
        it, else one with room for it; None where that would be too large."""
        size = max(self.width, factor * width), max(self.height, factor * height)
        return size if self.upscales_to(*size) else None

    def drawn(self, width: int, height: int) -> tuple[int, int] | None:
        """The size to draw for an answer of this size: itself where the model draws it, else the
        native one where that is resampled; None for what cannot be answered."""
        if self.allow(width, height):
            return width, height
        resampled = not self.multiple and width * self.height == height * self.width
        return self.native if resampled else None

    def nearest(self, width: int, height: int) -> tuple[int, int]:
        """The size to draw for an image of this size: of its aspect as nearly as there is one, and
        of about as many pixels as the native size.

        Raises:
            InvalidField: the aspect is beyond those that multiples have. (Where there are none,
                the nearest of the listed sizes is always good enough: something lies around.)
        """

        def order(size: tuple[int, int]) -> tuple[float, float]:
            stretch = abs(log(size[0] * height / (size[1] * width)))
            return round(stretch, 9), abs(log(size[0] * size[1] / (self.width * self.height)))

        if self.multiple and aspect_of(width, height) > FARTHEST_ASPECT * self.widest:
            raise InvalidField(
                "image",
                f"has {width} x {height} pixels; at most {self.widest:.3g} times as long as wide "
                f"can be drawn ({self})",
            )
        return min((*self.listed, *self._multiples_near(width, height)), key=order)

    @property
    def widest(self) -> float:
        """The longest side that is drawn beside a short one, as a multiple of that."""
        listed = max(aspect_of(*size) for size in self.listed)
        if not self.multiple:
            return listed
        short = self._shortest
        long = floor(min(self.high, self.pixels / short) / self.multiple) * self.multiple
        return max(listed, long / short)

    @property
    def _shortest(self) -> int:
        return ceil(max(self.low, 1) / self.multiple) * self.multiple

    def _multiples_near(self, width: int, height: int) -> Iterator[tuple[int, int]]:
        """Those about the point of this aspect with the native number of pixels, or as near to it
        as the bounds allow."""
        if not self.multiple:
            return
        aspect = aspect_of(width, height)
        ideal = min(sqrt(self.width * self.height / aspect), self.high / aspect)
        for short in self._about(ideal, self._shortest, min(self.high, sqrt(self.pixels))):
            for long in self._about(short * aspect, short, min(self.high, self.pixels / short)):
                size = (long, short) if width >= height else (short, long)
                if self.allow(*size):
                    yield size

    def _about(self, side: float, low: int, high: float) -> set[int]:
        """The multiples below and above, within bounds."""
        most = floor(high / self.multiple)
        return {
            min(max(steps, low // self.multiple), most) * self.multiple
            for steps in (floor(side / self.multiple), ceil(side / self.multiple))
        }

    def __str__(self) -> str:
        """What is accepted, for people."""
        listed = ", ".join(f"{width}x{height}" for width, height in self.listed)
        if not self.multiple:
            shape = "squares" if self.width == self.height else f"{self.width}:{self.height}"
            return f"{listed}, resampled for other {shape}"
        return (
            f"{listed}, or multiples of {self.multiple} from {self.low} to {self.high} "
            f"with at most {self.pixels} pixels"
        )
