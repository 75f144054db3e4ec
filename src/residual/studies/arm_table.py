"""The arms of each study that trains: what is changed in a recipe, by path. One literal table a study.

Sources: [1] He et al. 2015 (Deep Residual Learning), section 4.2; [2] He et al. 2016 (Identity Mappings), tables 1 and
2, appendix; [3] He et al. 2015 (Delving Deep into Rectifiers), section 2.2, figures 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from residual.errors import UsageError, nearest
from residual.models import NETWORKS
from residual.training.recipe import Recipe

Changes = Mapping[str, Any]
Arms = Mapping[str, Changes]

GENTLE, MIDDLE = 0.01, 0.02
"""Rates that networks without normalisation stand, and a momentum of .99."""
WARMUP: Final[Changes] = {"schedule.warmup": {"steps": 400, "rate": 0.01, "shape": "constant"}}
"""[2], appendix (implementation details): every run begins with .01 for 400 steps."""
_VERY_DEEP: Final = 100

ORIGINAL: Final = "original"
UNITS: Final[Arms] = {
    ORIGINAL: {},
    "bn-after-addition": {"network.order": "bn-after-addition"},
    "relu-before-addition": {"network.order": "relu-before-addition"},
    "relu-only-pre-activation": {"network.order": "relu-only-pre-activation"},
    "full-pre-activation": {"network.order": "full-pre-activation"},
}
SHORTCUTS: Final[Arms] = {
    "identity": {},
    "half": {"network.shortcut_scale": 0.5, "network.branch_scale": 0.5},
    "half-branch-unscaled": {"network.shortcut_scale": 0.5},
    "exclusive-gate": {"network.gate": "exclusive"},
    "shortcut-only-gate": {"network.gate": "shortcut-only"},
    "convolution": {"network.shortcut": "C"},
    "dropout": {"network.shortcut_dropout": 0.5},
}
"""And `none`, the plain network of the same depth."""
MOMENTUM: Final[Arms] = {
    "m-80": {"optimiser.momentum": 0.8},
    "m-90": {"optimiser.momentum": 0.9},
    "m-95": {"optimiser.momentum": 0.95},
    "m-99": {"optimiser.momentum": 0.99},
}
BATCHNORM: Final[Arms] = {
    "with-he": {},
    "with-half": {"network.initialisation": "lecun"},
    "without-he": {"network.norm": "none"},
    "without-half": {"network.norm": "none", "network.initialisation": "lecun"},
}
"""`half` is Var[w] = 1/n, half of He's."""
SEED001: Final[Arms] = {
    "as-described": {},
    "sgd": {"optimiser.kind": "sgd", "optimiser.weight_decay": 5e-4, "schedule.peak": 0.1},
    "longer": {"epochs": 20},
    "small-stem": {"network.name": "fastbook-resnet50-3x3stem"},
}
"""What of the 74.68 % of seed 001 is the optimiser, the length, the stem."""
DROPOUT: Final[Arms] = {"none": {}, "dropout": {"network.dropout": 0.5}}
_STACKS: Final[Mapping[int, tuple[int, int, int]]] = {22: (3, 3, 4), 30: (4, 5, 5)}
_HALF_30: Final[Changes] = {
    "network.name": "plain-20",
    "network.depths": list(_STACKS[30]),
    "network.norm": "none",
    "network.initialisation": "lecun",
}
INITIALISATION: Final[Arms] = {
    f"{name}-{layers}": {**_HALF_30, "network.depths": list(depths), "network.initialisation": kind}
    for layers, depths in _STACKS.items()
    for name, kind in (("he", "he-fan-in"), ("half", "lecun"))
} | {"bn-half-30": {**_HALF_30, "network.norm": "batch"}}
"""[3], figures 2 and 3: 22 and 30 layers, He's weights and those of half the variance, without normalisation; and what
normalisation does for the hardest of these."""


def network_of(kind: str, depth: int) -> Changes:
    """The changes that make a network of a kind (plain, resnet, preact) and a number of weighted layers.

    A depth of the catalogue has its own name; any other is that of a CIFAR network if it is 6n + 2.

    Raises:
        UsageError: there is no such network.
    """
    name = f"{kind}-{depth}"
    if name in NETWORKS:
        return {"network.name": name}
    if f"{kind}-20" not in NETWORKS:
        raise UsageError(f"no kind of network is named {kind[:40]!r}", "--kinds", "choose among plain, resnet, preact")
    if depth < 8 or depth % 6 != 2:
        remedy = "CIFAR networks have 6n + 2 layers, those for photographs 18 or 34"
        raise UsageError(f"there is no network of {depth} layers", "--depths", remedy)
    return {"network.name": f"{kind}-20", "network.depths": [(depth - 2) // 6] * 3}


def degradation(depths: Sequence[int], kinds: Sequence[str]) -> Arms:
    """Every kind at every depth; [1]'s warm-up where a residual network has more than a hundred layers."""
    return {
        f"{kind}-{depth}": {
            **network_of(kind, depth),
            **({"schedule.hold": {"rate": 0.01}} if depth > _VERY_DEEP and kind != "plain" else {}),
        }
        for kind in kinds
        for depth in depths
    }


def units(depth: int, networks: Sequence[str] = ()) -> Arms:
    """The five orders at a depth, or named networks; all with [2]'s warm-up."""
    if networks:
        return {name: {"network.name": name, **WARMUP} for name in networks}
    return {arm: {**network_of("resnet", depth), **changes, **WARMUP} for arm, changes in UNITS.items()}


def shortcuts(depth: int) -> Arms:
    """[2]'s shortcuts at a depth, and none."""
    residual = {arm: {**network_of("resnet", depth), **changes, **WARMUP} for arm, changes in SHORTCUTS.items()}
    return residual | {"none": {**network_of("plain", depth), **WARMUP}}


def chosen(arms: Arms, names: Sequence[str]) -> Arms:
    """The arms of some names, in the table's order; no names are all of them.

    Raises:
        UsageError: no arm has one of the names.
    """
    unknown = next((name for name in names if name not in arms), None)
    if unknown is not None:
        raise UsageError(f"no arm is named {unknown[:40]!r}", "--arms", nearest(unknown, [*arms]))
    return {arm: changes for arm, changes in arms.items() if arm in names or not names}


def drops(recipe: Recipe, steps: int) -> list[int]:
    """The drops of a recipe's rate at the same shares of a run of so many steps; none where it has none in steps."""
    found: Sequence[int] = getattr(recipe.schedule, "drops", None) or ()
    return [max(1, round(drop * steps / recipe.steps)) for drop in found] if recipe.steps else []


def fitted(warmup: Mapping[str, Any], steps: int) -> Mapping[str, Any]:
    """A warm-up that would take all of a short run is a tenth of it."""
    return {**warmup, "steps": steps // 10} if warmup["steps"] >= steps else warmup


def at_depth(arms: Arms, kind: str, depth: int) -> Arms:
    """Arms that change a network of one kind and depth."""
    return {arm: {**network_of(kind, depth), **changes} for arm, changes in arms.items()}
