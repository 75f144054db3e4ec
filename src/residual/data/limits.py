"""What is let through of an image file before its pixels are read, and how it is told of those that are not."""

from __future__ import annotations

from typing import Final

PIXEL_LIMIT: Final = 100_000_000
BITS: Final = "bits"
"""In `info` of an opened image: the bits of a number in its file, where they are not 8."""


class NotRead(ValueError):
    """A sound image of a kind that is not read here; its words name the kind."""


def mind_size(width: int, height: int) -> None:
    """Raises: ValueError: there is no pixel, or there are too many."""
    if min(width, height) < 1:
        raise ValueError("it has no pixels")
    if width * height > PIXEL_LIMIT:
        raise ValueError(f"{width} x {height} pixels are too many")
