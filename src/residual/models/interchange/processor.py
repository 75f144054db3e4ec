"""What a `preprocessor_config.json` beside weights says of their images, as Hugging Face Transformers writes it.

Read are the processors that ResNets are published with. ConvNeXT's brings the shorter side to `size.shortest_edge` /
`crop_pct`, rounded down, and cuts the centre, from 384 pixels on it stretches the image instead; ViT's stretches it to
`size`; those of BiT, CLIP and ConvNeXT's like bring the shorter side to `size.shortest_edge` and cut `crop_size`.
Source: transformers.models.convnext, .vit and .bit (its release 5.24), `image_processing_*`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from residual.models.interchange.conversion import Interpolation, Sight

NAME: Final = "preprocessor_config.json"
_SQUASHED_FROM: Final = 384
_RESAMPLING: Final[dict[int, Interpolation]] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""
_KIND: Final = re.compile(r"(ConvNext|ViT|Bit|CLIP)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
_SHARE: Final = 224 / 256


def sight_of(table: Mapping[str, Any]) -> Sight:
    """The images that such a file tells of.

    Raises:
        ValueError, TypeError, KeyError: it tells of none that are possible here.
    """
    kind = str(table.get("image_processor_type") or table.get("feature_extractor_type"))
    found = _KIND.fullmatch(kind)
    if found is None:
        raise ValueError(f"{kind:.40} is not known here")
    if not table.get("do_resize", True) or not table.get("do_rescale", True):
        raise ValueError("images are not resized, or not divided by 255")
    if not math.isclose(table.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ValueError(f"rescale_factor is {table['rescale_factor']}")
    interpolation = _RESAMPLING[table.get("resample", 2 if found[1] == "ViT" else 3)]
    size = table["size"] if isinstance(table["size"], dict) else _plain(table["size"], found[1])
    share, resize = 1.0, "crop"
    if found[1] == "ViT":
        side, resize = _side(size), "squash"
    elif found[1] == "ConvNext":
        side = _whole(size["shortest_edge"])
        if side >= _SQUASHED_FROM:
            resize = "squash"
        else:
            share = side / int(side / table.get("crop_pct", _SHARE))
    else:
        squashed = "shortest_edge" not in size  # as we write them for images that are stretched, and cut then
        around, resize = (_side(size), "squash") if squashed else (_whole(size["shortest_edge"]), "crop")
        cut = table["crop_size"] if table.get("do_center_crop", True) else around
        side = _side(cut if isinstance(cut, dict) else _plain(cut, ""))
        share = side / around
    if not 0.1 <= share <= 1:
        raise ValueError(f"the centre keeps {share:.3g} of a side")
    mean, std = _constants(table)
    source = f"as the {NAME} beside the weights says"
    if found[1] in ("Bit", "CLIP") and resize == "crop" and not table.get("do_center_crop", True):
        source += ", but for a centre cut from what it leaves whole"
    return Sight(side, share, mean, std, source, interpolation, "squash" if resize == "squash" else "crop")


def _constants(table: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not table.get("do_normalize", True):
        return (0.0,) * 3, (1.0,) * 3
    mean, std = (tuple(float(value) for value in table[name]) for name in ("image_mean", "image_std"))
    if not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std) or len(mean) != len(std):
        raise ValueError("image_mean and image_std")
    return mean, std


def _plain(size: Any, kind: str) -> dict[str, Any]:
    """A single number, as earlier releases wrote it: of the shorter side, ViT's of both."""
    return {"height": size, "width": size} if kind in ("ViT", "") else {"shortest_edge": size}


def _side(size: Mapping[str, Any]) -> int:
    side = _whole(size["height"])
    if side != size["width"]:
        raise ValueError(f"a size of {size['height']} x {size['width']}")
    return side


def _whole(side: Any) -> int:
    if type(side) is not int or not 8 <= side <= 4096:
        raise ValueError(f"a side of {side!r:.40}")
    return side
