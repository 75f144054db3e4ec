"""How an image of any shape becomes one of (H, W): a part of the model, stored with it and used wherever it is.

`crop`    the shorter side is brought to its size, then the centre is cut: proportions stay, the ends are not seen.
`pad`     the longer side is brought to its size, black fills the rest on both sides: all is seen, but smaller.
`squash`  both sides are brought to their sizes: all is seen, proportions change.

With a `share` below 1 the image is made for (H, W) / share, of which the centre is cut: .875 for 224 pixels of 256, as
most weights of ImageNet are judged. Both interpolations are antialiased; bicubic is Keys' of 1981 with a = -.5.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Resize = Literal["crop", "pad", "squash"]
Interpolation = Literal["bilinear", "bicubic"]
Size = tuple[int, int]

_WORDS: dict[Resize, str] = {
    "crop": "shorter side to the image size, {} with antialiasing, then the centre",
    "pad": "longer side to the image size, {} with antialiasing, black around it",
    "squash": "both sides to the image size, {} with antialiasing",
}


class Geometry(NamedTuple):
    """Resize mode, interpolation, and the share of a resized side that the centre keeps."""

    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    share: float = 1.0

    def words(self) -> str:
        return _WORDS[self.resize].format(self.interpolation)

    def around(self, size: Size) -> Size:
        """The (H, W) whose centre is seen."""
        return size if self.share == 1 else (round(size[0] / self.share), round(size[1] / self.share))

    def inner(self, height: int, width: int, size: Size) -> Size:
        """What an image of that height and width is resized to: it covers (H, W), lies within it, or is it."""
        if self.resize == "squash":
            return size
        scales = (size[0] / height, size[1] / width)
        if self.resize == "crop":
            scale = max(scales)
            return max(size[0], round(height * scale)), max(size[1], round(width * scale))
        scale = min(scales)
        return max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))


USUAL: Final = Geometry()
