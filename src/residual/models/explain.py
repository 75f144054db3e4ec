"""Where a network departs from the one its paper describes, and what is known of its parts.

Sources: [1] He et al. 2015 (Deep Residual Learning); [2] He et al. 2016 (Identity Mappings); [3] He et al. 2015
(Delving Deep into Rectifiers). Figures are the papers' own; the tables of [2] quoted here are of ResNet-110 on
CIFAR-10, and its plain sum has 6.61 % there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from residual.models.catalogue import departures, find
from residual.models.entries import NETWORKS
from residual.models.spec import NetworkSpec
from residual.models.stems import MIDDLE, SMALL

PAPERS: Final[Mapping[str, str]] = {
    "[1]": "He et al. 2015, Deep Residual Learning for Image Recognition",
    "[2]": "He et al. 2016, Identity Mappings in Deep Residual Networks",
    "[3]": "He et al. 2015, Delving Deep into Rectifiers",
}

_OF_A_VALUE: Final[Mapping[str, Mapping[Any, str]]] = {
    "shortcut": {
        "none": "no shortcuts; plain networks get worse with depth ([1] section 4.1, figure 4)",
        "A": "zero channels are appended at the end; no weights ([1] section 3.3)",
        "A-both": "half of the zero channels come in front, as in public CIFAR checkpoints; [1] does not say where "
        "they go, and weights trained the one way give another function the other way",
        "B": "1x1 convolutions where the dimensions change, identity elsewhere ([1] section 3.3)",
        "C": "1x1 convolutions on every shortcut: slightly better than B on ImageNet with 34 layers ([1] table 3), "
        "12.22 % with 110 layers ([2] table 1)",
        "avgpool": "average pooling before the 1x1 convolution, which then skips no pixel (He et al. 2019, figure 2c)",
    },
    "order": {
        "bn-after-addition": "normalisation on the shortcut's path impedes it: 8.17 % ([2] table 2, figure 4b)",
        "relu-before-addition": "the branch can only add: 7.84 % ([2] table 2, figure 4c)",
        "relu-only-pre-activation": "6.71 %; the first activation of the network comes from the stem, and a ReLU "
        "follows the last addition ([2] table 2, figure 4d)",
        "full-pre-activation": "6.37 %; the first unit's activation comes right after the stem's convolution, "
        "normalisation and ReLU follow the last addition, and where the dimensions change the shortcut reads the "
        "activated maps ([2] figure 4e, table 2 and appendix)",
    },
    "stride": {
        "1x1": "bottlenecks halve the maps in their first 1x1 ([1] as its authors released it, and Keras)",
        "3x3": "bottlenecks halve the maps in their 3x3, as torch layouts do; more multiply-adds, equal parameters",
    },
    "stem": {
        "7x7": "7x7 with stride 2 and max-pooling ([1] table 1); on small images it leaves too few pixels",
        "3x3": f"3x3 with stride 1 ([1] section 4.2); chosen by `auto` up to {SMALL} pixels",
        "3x3/2": f"3x3 with stride 2, no pooling; ours, chosen by `auto` up to {MIDDLE} pixels",
        "3-conv": "three 3x3, the first with stride 2, and max-pooling (He et al. 2019, figure 2b)",
    },
    "gate": {
        "exclusive": "branch times g, shortcut times 1 - g: 8.70 % with bias -6 ([2] table 1); the result hangs on "
        "the initial bias ([2] section 3.1)",
        "shortcut-only": "shortcut times 1 - g: 6.91 % with bias -6, where it is nearly the identity ([2] table 1)",
    },
    "initialisation": {
        "he-fan-in": "N(0, sqrt(2 / fan in)) ([3] equation 10)",
        "he-fan-out": "N(0, sqrt(2 / fan out)) ([3] equation 14)",
        "lecun": "N(0, sqrt(1 / fan in)): the control with which a plain network of 30 layers does not learn "
        "([3] section 2.2, figure 3)",
        "xavier": "N(0, sqrt(2 / (fan in + fan out))) (Glorot & Bengio 2010, equation 12)",
    },
    "norm": {"none": "no batch normalisation, so the convolutions have biases; [1] normalises after each"},
    "zero_last_scale": {True: "each unit starts as the identity (Goyal et al. 2017, section 5.1); not in [1] or [2]"},
    "projection_norm": {False: "projections have no normalisation ([2], the authors' released code)"},
    "conv_bias": {
        True: "convolutions have biases, as in Keras and in networks without normalisation; not in [1]",
        "unnormalised": "convolutions that no normalisation follows have biases, as in Keras's ResNetV2; not in [1]",
    },
    "stride_unit": {
        "last": "the last unit of a stage halves the maps, and its shortcut leaves out every other pixel, as in "
        "Keras's ResNetV2; in [1] and [2] the first unit of the next stage does it",
    },
    "first_activation": {
        "unit": "the stem ends with its convolution and the pooling, and the first unit normalises what was pooled, as "
        "in Keras's ResNetV2 and timm's resnetv2; in [2] the first activation follows the first convolution (appendix)",
    },
    "pool_padding": {"zero": "the stem pools with zeros at the border, which counts before a ReLU; Keras's ResNetV2"},
    "pool_rounding": {
        "down": "max-pooling leaves out the last pixel of an odd side, as torchvision's VGG; here it is kept"
    },
    "head": {"vgg": "two hidden layers of 4096, on maps averaged to 7x7 where the image is not of 224 pixels"},
    "unit": {"1layer": "each shortcut skips one convolution: 9.90 %, with pre-activation 8.91 % ([2] table 3)"},
}
_OF_A_NUMBER: Final[Mapping[str, str]] = {
    "shortcut_scale": "a constant on the shortcut: .5 with the branch unscaled fails, .5 on both gives 12.35 % "
    "([2] table 1)",
    "branch_scale": "a constant on the branch ([2] section 3.1)",
    "shortcut_dropout": "dropout on the shortcut; .5 fails to converge ([2] table 1)",
    "stochastic_depth": "units are skipped by chance in training, deeper ones more often (Huang et al. 2016)",
    "dropout": "dropout before the classifier; [1] uses none (section 3.4)",
    "norm_eps": "1e-5 in Caffe and torch, 1.001e-5 in Keras; weights belong to one of them",
    "gate_bias": "the initial bias of the gates; [2] searches 0 to -10 (section 3.1)",
}
_OF_A_NAME: Final[Mapping[str, str]] = {
    "resnet-110": "[1] starts with rate .01 until the training error is below 80 %, about 400 iterations, and goes "
    "on with .1 (section 4.2)",
    "resnet-1202": "[1] finds no difficulty in optimising it and blames its 7.93 % on overfitting (section 4.2)",
    "resnet-18": "torchvision's resnet18 is the same with shortcut=B",
    "resnet-34": "torchvision's resnet34 is the same with shortcut=B",
    "resnet-50-keras": "Keras reports 25,636,712 parameters: it counts the 53,120 running statistics too",
    "fastbook-resnet50": "on 32x32 images its last maps have one pixel; with a 3x3 stem they have 4x4",
}


@dataclass(frozen=True)
class Departure:
    """A part that is not as in the paper's network."""

    part: str
    paper: Any
    here: Any
    known: str


@dataclass(frozen=True)
class Explanation:
    """What a network is, where it departs from `model`, and what is known of it."""

    name: str
    source: str
    error: str | None
    model: str
    model_source: str
    departures: tuple[Departure, ...]
    known: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The same in words."""
        yield f"source: {self.source}"
        if self.error:
            yield f"error: {self.error}"
        other = "" if self.model == self.name else f" {self.model} ({self.model_source})"
        yield f"departs from the paper's{other}:" if self.departures else f"as in the paper{other}"
        for one in self.departures:
            note = f"; {one.known}" if one.known else ""
            yield f"  {one.part}: {json.dumps(one.paper)} there, {json.dumps(one.here)} here{note}"
        yield from (f"known: {line}" for line in self.known)
        yield from (f"{mark} {title}" for mark, title in PAPERS.items())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def explain(spec: NetworkSpec) -> Explanation:
    """Compare a network with the paper's entry it goes back to."""
    entry = find(spec.name)
    model = NETWORKS[entry.model]
    # Where the paper tries several shortcuts, each of them is the paper's.
    same = model.spec(spec.shortcut if spec.shortcut in model.shortcuts else None)
    unlike = departures(spec, same)
    known = tuple(_known(spec, skip=set(unlike)))
    found = tuple(Departure(part, old, new, _note(part, new)) for part, (old, new) in unlike.items())
    error = None if spec != entry.spec(spec.shortcut) else entry.errors.get(spec.shortcut)
    return Explanation(spec.name, entry.source, error, model.name, model.source, found, known)


def _note(part: str, value: Any) -> str:
    if part in _OF_A_VALUE:
        return _OF_A_VALUE[part].get(value, "")
    return _OF_A_NUMBER.get(part, "")


def _known(spec: NetworkSpec, skip: set[str]) -> Iterator[str]:
    if spec.name in _OF_A_NAME:
        yield _OF_A_NAME[spec.name]
    for part, notes in _OF_A_VALUE.items():
        value = getattr(spec, part)
        idle = (part == "stride" and spec.unit != "bottleneck") or (part == "unit" and spec.shortcut == "none")
        if part not in skip and value in notes and not idle:
            yield f"{part}={str(value).lower() if isinstance(value, bool) else value}: {notes[value]}"
