"""Crops of photographs at a random scale, drawn before decoding, so that a decoder reads no more than it must.

`area`: a rectangle of a share of the image's area, 3:4 to 4:3 (Szegedy et al. 2015, section 6, there 8 to 100 %).
`side`: the image brought to a shorter side drawn from a range, then a crop of the model's size (He et al. 2015,
section 3.4: 224 pixels of [256, 480]; Simonyan and Zisserman 2014). The crop is cut out of the stored image, in
whole pixels, and resized once; to resize first and cut then would differ by less than a pixel in place.

Draws are uniform in [0, 1), four to an image, whatever comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from torch import Tensor

COLUMNS: Final = 4
"""Draws of a crop: area or side, aspect (of `area`), left, top."""
ASPECT: Final = (3 / 4, 4 / 3)


class Window(NamedTuple):
    """The crop of one image."""

    kind: Literal["area", "side"]
    low: float
    high: float
    draws: tuple[float, float, float, float]

    def box(self, width: int, height: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, top, width, height) in whole pixels of an upright image that is to become (H, W)."""
        wanted = self._of_area(width, height) if self.kind == "area" else self._of_side(width, height, size)
        across, down = (min(most, max(1, round(side))) for side, most in zip(wanted, (width, height), strict=True))
        left, top = (
            int(d * (room + 1)) for d, room in zip(self.draws[2:], (width - across, height - down), strict=True)
        )
        return left, top, across, down

    def _of_area(self, width: int, height: int) -> tuple[float, float]:
        share = self.low + (self.high - self.low) * self.draws[0]
        # An image four times as wide as high holds no square of most of its area: the aspect is drawn among those
        # that fit, and where none does, the largest rectangle of the nearest allowed aspect is taken.
        form = width / height
        least, most = max(ASPECT[0], share * form), min(ASPECT[1], form / share)
        if least > most:
            aspect = min(ASPECT[1], max(ASPECT[0], form))
            return (height * aspect, height) if aspect < form else (width, width / aspect)
        aspect = math.exp(math.log(least) + (math.log(most) - math.log(least)) * self.draws[1])
        area = share * width * height
        return math.sqrt(area * aspect), math.sqrt(area / aspect)

    def _of_side(self, width: int, height: int, size: tuple[int, int]) -> tuple[float, float]:
        side = self.low + int(self.draws[0] * (self.high - self.low + 1))
        scale = min(width, height) / side
        return size[1] * scale, size[0] * scale


@dataclass(frozen=True)
class Crops:
    """The crops of N images: how they are drawn, and draws_N4."""

    kind: Literal["area", "side"]
    low: float
    high: float
    draws: Tensor

    def __getitem__(self, place: int) -> Window:
        first, second, third, fourth = self.draws[place].tolist()
        return Window(self.kind, self.low, self.high, (first, second, third, fourth))

    @property
    def key(self) -> bytes:
        return repr((self.kind, self.low, self.high)).encode() + self.draws.numpy().tobytes()
