"""What a `config.json` beside a file of weights says of their images, as timm writes it for the Hugging Face hub.

Its `pretrained_cfg` holds `input_size` and `test_input_size` (C, H, W), `crop_pct` and `test_crop_pct`, `crop_mode`,
`interpolation`, `mean` and `std`. Source: timm.models._hub and timm.data.config (its release 1.0.31), whose own
evaluation takes the sizes of the test where they are named. Nothing else of the file is read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final, get_args

from residual.errors import ModelError
from residual.files import Damaged, read_regular
from residual.models.interchange.conversion import Interpolation, Resize, Sight

_LIMIT: Final = 1 << 20
_MODES: Final[dict[str, Resize]] = {"center": "crop", "squash": "squash", "border": "pad"}


def sight_beside(weights: Path) -> Sight | None:
    """The images that weights of that file take; None where no such `config.json` stands beside them.

    Raises:
        ModelError: there is one, and it cannot be used.
    """
    path = weights.parent / "config.json"
    if not path.is_file():
        return None
    try:
        table = json.loads(read_regular(path, _LIMIT))
        found = table.get("pretrained_cfg") if isinstance(table, dict) else None
        return _sight(found) if isinstance(found, dict) else None
    except (OSError, Damaged, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"what it says of the images cannot be used: {error!r:.80}", path, "move it away") from None


def _sight(table: dict[str, Any]) -> Sight:
    trained = _side(table["input_size"])
    side = _side(table.get("test_input_size") or table["input_size"])
    crop = table.get("test_crop_pct") or table["crop_pct"]
    mode, interpolation = table.get("crop_mode", "center"), table["interpolation"]
    if mode not in _MODES or interpolation not in get_args(Interpolation):
        raise ValueError(f"{mode} and {interpolation}")
    if type(crop) not in (int, float) or not 0.1 <= crop <= 1:
        raise ValueError(f"crop_pct is {crop}")
    mean, std = ([float(value) for value in table[name]] for name in ("mean", "std"))
    if not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std) or len(mean) != len(std):
        raise ValueError("mean and std")
    source = "as the config.json beside the weights says"
    kept = trained if trained != side else None
    return Sight(side, float(crop), tuple(mean), tuple(std), source, interpolation, _MODES[mode], kept)


def _side(size: Any) -> int:
    _, height, width = size
    if type(height) is not int or height != width or not 8 <= height <= 4096:
        raise ValueError(f"input_size is {size}")
    return height
