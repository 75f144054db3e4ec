"""How far apart colours look, also to colour-blind eyes: Machado et al. 2009 (severity 1), CIEDE2000 (Sharma 2005)."""

from __future__ import annotations

import math
from collections.abc import Sequence

Lab = tuple[float, float, float]
EYES = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanope": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranope": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanope": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Rows of the matrix on linear RGB."""
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)


def lab(rgb: Sequence[int], eye: str) -> Lab:
    """CIELAB of an sRGB colour (0..255), as an eye sees it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    seen = [min(1.0, max(0.0, value)) for value in _times(EYES[eye], linear)]
    x, y, z = (_root(value / white) for value, white in zip(_times(_TO_XYZ, seen), _WHITE, strict=True))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _root(share: float) -> float:
    return share ** (1 / 3) if share > 216 / 24389 else (24389 / 27 * share + 16) / 116


def distance(one: Lab, other: Lab) -> float:
    """CIEDE2000; about 1 is the least that can be seen."""
    mean = (math.hypot(*one[1:]) + math.hypot(*other[1:])) / 2
    stretch = 1 + 0.5 * (1 - math.sqrt(mean**7 / (mean**7 + 25**7)))
    (light, chroma, hue), (light_2, chroma_2, hue_2) = (
        (lightness, math.hypot(a * stretch, b), math.degrees(math.atan2(b, a * stretch)) % 360)
        for lightness, a, b in (one, other)
    )
    turn = (hue_2 - hue + 180) % 360 - 180
    across = 2 * math.sqrt(chroma * chroma_2) * math.sin(math.radians(turn / 2))
    level, strength, middle = (light + light_2) / 2, (chroma + chroma_2) / 2, (hue + turn / 2) % 360
    weights = ((0.17, 1, -30), (-0.24, 2, 0), (-0.32, 3, 6), (0.2, 4, -63))
    kind = 1 - sum(w * math.cos(math.radians(n * middle + shift)) for w, n, shift in weights)
    down = (light_2 - light) / (1 + 0.015 * (level - 50) ** 2 / math.sqrt(20 + (level - 50) ** 2))
    along = (chroma_2 - chroma) / (1 + 0.045 * strength)
    across /= 1 + 0.015 * strength * kind
    bend = 2 * math.sqrt(strength**7 / (strength**7 + 25**7))
    bend *= math.sin(math.radians(60 * math.exp(-(((middle - 275) / 25) ** 2))))
    return math.sqrt(down**2 + along**2 + across**2 - bend * along * across)
