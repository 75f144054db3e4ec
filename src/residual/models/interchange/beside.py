"""What a `config.json` beside a file of weights says, as timm or Transformers writes it for the Hugging Face hub.

timm's `pretrained_cfg` holds `input_size` and `test_input_size` (C, H, W), `crop_pct` and `test_crop_pct`, `crop_mode`,
`interpolation`, `mean` and `std`. Source: timm.models._hub and timm.data.config (its release 1.0.31), whose own
evaluation takes the sizes of the test where they are named. Of the file's other entries `label_names` are read, and
`architecture`, by which a network that has the tensors of another is known. That of Transformers has `id2label` and
parts of the network; its images are described by a file of their own (`processor`).
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final, get_args

from residual.errors import ModelError
from residual.files import Damaged, read_regular
from residual.models.interchange.conversion import Interpolation, Resize, Sight
from residual.models.interchange.processor import NAME, sight_of
from residual.models.interchange.transformers import parts_beside

_CONFIG: Final = "config.json"
_LIMIT: Final = 1 << 20
_SMOOTHED: Final = re.compile(r"(?:\w*_)?(?:se|eca)?resnet(?:aa|blur)", re.IGNORECASE)
_MODES: Final[dict[str, Resize]] = {"center": "crop", "squash": "squash", "border": "pad"}


def sight_beside(weights: Path) -> Sight | None:
    """The images that weights of that file take; None where nothing beside them says it.

    Raises:
        ModelError: something does, and it cannot be used.
    """
    path, table = _table(weights, _CONFIG)
    architecture = table.get("architecture")
    if isinstance(architecture, str) and _SMOOTHED.match(architecture):
        what = f"{architecture:.60} pools against aliasing, which its tensors do not tell, and is no network here"
        raise ModelError(what, path, "take the weights of a plain ResNet")
    found = table.get("pretrained_cfg")
    try:
        if isinstance(found, dict):
            return _sight(found)
        path, table = _table(weights, NAME)
        return sight_of(table) if table else None
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ModelError(f"what it says of the images cannot be used: {error!r:.80}", path, "move it away") from None


def network_beside(weights: Path) -> dict[str, Any]:
    """The parts of a network that a `config.json` of Transformers tells and tensors do not.

    Raises:
        ModelError: it cannot be read, or tells of a network that is not here.
    """
    path, table = _table(weights, _CONFIG)
    return parts_beside(table, path)


def labels_beside(weights: Path) -> tuple[str, ...] | None:
    """The names of the classes in such a file; None where it has none, or not for each a name of its own.

    Raises:
        ModelError: the file cannot be read.
    """
    table = _table(weights, _CONFIG)[1]
    found = table.get("label_names", _in_order(table.get("id2label")))
    if not isinstance(found, list) or not found or not all(isinstance(name, str) and name.strip() for name in found):
        return None
    return tuple(found) if len({*found}) == len(found) else None


def _in_order(labels: Any) -> list[Any] | None:
    """The names by the numbers of Transformers' `id2label`; None for its LABEL_0, LABEL_1, ..., which name nothing."""
    if not isinstance(labels, dict) or {*labels} != {str(number) for number in range(len(labels))}:
        return None
    names = [labels[str(number)] for number in range(len(labels))]
    return None if names == [f"LABEL_{number}" for number in range(len(names))] else names


def _table(weights: Path, name: str) -> tuple[Path, dict[str, Any]]:
    path = weights.parent / name
    if not path.is_file():
        return path, {}
    try:
        table = json.loads(read_regular(path, _LIMIT))
    except (OSError, Damaged, ValueError, RecursionError) as error:
        raise ModelError(f"it cannot be read: {error!r:.80}", path, "move it away") from None
    return path, table if isinstance(table, dict) else {}


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
    share = side / math.floor(side / crop)  # of whole pixels, as timm resizes: 224 / .95 are 235
    return Sight(side, share, tuple(mean), tuple(std), source, interpolation, _MODES[mode], kept)


def _side(size: Any) -> int:
    _, height, width = size
    if type(height) is not int or height != width or not 8 <= height <= 4096:
        raise ValueError(f"input_size is {size}")
    return height
