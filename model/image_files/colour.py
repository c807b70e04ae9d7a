"""Numbers to sRGB: by an ICC profile, or by what a PNG says of its primaries and its curve.

Answers carry no profile, so that their numbers are sRGB: everywhere the same, in each format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

MOST_PROFILE = 4 * 2**20
"""Bytes. Printers' have two million; what is longer is not used."""

SAME = 2
"""Of 255. A profile that moves no colour by more is sRGB, and its pixels stay as they are."""

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC's names, and Pillow's modes

Array = NDArray[np.float64]
Primaries = tuple[float, ...]
"""x and y of white, red, green and blue."""

_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_PRIMARIES: dict[int, Primaries] = {  # of ITU-T H.273
    1: _SRGB,
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, Sequence[float]] = {  # of the same; (g,) is x ** g
    1: _VIDEO_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _VIDEO_CURVE,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _VIDEO_CURVE,
    15: _VIDEO_CURVE,
}


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """RGB or RGBA of 8 bits. A profile that is not of such pixels, or broken, changes nothing."""
    if image.mode == "CMYK":
        transform = _transform(profile, "CMYK")
        return _applied(transform, image) if transform else image.convert("RGB")
    if image.mode == "L" and (grey := _transform(profile, "L")):
        return _applied(grey, image)
    if image.mode == "LA" and (grey := _transform(profile, "L")):
        colours = _applied(grey, image.getchannel("L"))
        colours.putalpha(image.getchannel("A"))
        return colours
    clear = image.has_transparency_data or image.mode == "RGBA"
    image = image.convert("RGBA" if clear else "RGB")
    transform = _transform(profile, "RGB", image.mode)
    return _applied(transform, image) if transform else image


def profile_of(facts: Mapping[bytes, bytes], embedded: bytes) -> bytes:
    """The profile that counts in a PNG (PNG 3, section 4.3); nothing where that is sRGB.

    Code points of which no profile can be made (curves of high dynamic range) do not count.
    """
    signal = facts.get(b"cICP", b"")
    if len(signal) == 4 and signal[2:] == b"\0\1":
        primaries, curve = _PRIMARIES.get(signal[0]), _CURVES.get(signal[1])
        if primaries is not None and curve is not None:
            return matrix_profile(primaries, curve)
    if embedded or b"sRGB" in facts:
        return embedded
    gamma, primaries = 0.0, _SRGB
    if len(data := facts.get(b"gAMA", b"")) == 4:
        gamma = int.from_bytes(data) / 100_000
    if len(data := facts.get(b"cHRM", b"")) == 32:
        primaries = tuple(value / 100_000 for value in struct.unpack(">8I", data))
    known = 0.1 < gamma < 10
    # What writes sRGB's numbers without its name writes a gamma of 1/2.2, which is near it.
    if known and abs(gamma * 2.2 - 1) < 0.05:
        known = False
    if not known and np.abs(np.subtract(primaries, _SRGB)).max() < 0.005:
        return b""
    return matrix_profile(primaries, (1 / gamma,) if known else _SRGB_CURVE)


def matrix_profile(primaries: Primaries, curve: Sequence[float]) -> bytes:
    """An ICC profile (ICC.1:2022, sections 7 and 10) of three primaries and one curve for all.

    Nothing for primaries that span no space.
    """
    white, *colours = (_xyz(x, y) for x, y in zip(primaries[::2], primaries[1::2], strict=True))
    matrix = np.stack(colours, axis=1)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        return b""
    matrix = _adapted(white) @ matrix @ np.diag(np.linalg.solve(matrix, white))
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 100:
        return b""
    kind = 0 if len(curve) == 1 else 3
    bent = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, curve))
    tags = {b"wtpt": _triple(_D50)}
    for name, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
        tags |= {name + b"XYZ": _triple(column), name + b"TRC": bent}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    head = (
        struct.pack(
            ">I4sI4s4s4s12x4s28x",
            132 + len(table) - 4 + len(data),
            b"",
            0x04300000,
            b"mntr",
            b"RGB ",
            b"XYZ ",
            b"acsp",
        )
        + _triple(_D50)[8:]
    )
    return head.ljust(128, b"\0") + table + data


_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _xyz(x: float, y: float) -> Array:
    return np.array([x, y, 1 - x - y]) / max(y, 1e-9)


def _adapted(
    white: Array,
) -> Array:
    """From that white to the one that profiles are of."""
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _triple(values: Array) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values.tolist()))


def _transform(
    profile: bytes, space: str, mode: str | None = None
) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None for a profile of other pixels, a broken one, or sRGB itself."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if _SPACES.get(source.profile.xcolor_space.strip()) != space:
            return None
        target = ImageCms.createProfile("sRGB")
        made = ImageCms.buildTransform(source, target, mode or space, mode or "RGB")
        if space == "RGB":
            probe = ImageCms.buildTransform(source, target, "RGB", "RGB")
            moved = np.asarray(_applied(probe, _PROBE)).astype(int) - np.asarray(_PROBE)
            if np.abs(moved).max() <= SAME:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return made


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    found = ImageCms.applyTransform(image, transform)
    assert found is not None  # it is only where the image is changed in its place
    found.info.clear()  # of another profile
    return found


def _cube(steps: int) -> Image.Image:
    levels = np.linspace(0, 255, steps).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(colours.reshape(steps * steps, steps, 3))


_PROBE = _cube(18)
"""Colours from everywhere."""
