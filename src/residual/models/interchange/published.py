"""Weights that can be asked for by name, as `torchvision:resnet50`.

Source: torchvision 0.29, torchvision/models/resnet.py and vgg.py: the files of `IMAGENET1K_V1`, and with `-v2` those of
`IMAGENET1K_V2`; images are resized to 256 (V1) or 232 (V2) and cut to 224.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from residual.errors import UsageError, nearest


class Published(NamedTuple):
    """A file's name, and the side to which images are resized before the centre is cut."""

    file: str
    resize: int


TORCHVISION: Final = {
    "resnet18": Published("resnet18-f37072fd.pth", 256),
    "resnet34": Published("resnet34-b627a593.pth", 256),
    "resnet50": Published("resnet50-0676ba61.pth", 256),
    "resnet101": Published("resnet101-63fe2227.pth", 256),
    "resnet152": Published("resnet152-394f9c45.pth", 256),
    "resnet50-v2": Published("resnet50-11ad3fa6.pth", 232),
    "resnet101-v2": Published("resnet101-cd907fc2.pth", 232),
    "resnet152-v2": Published("resnet152-f82ba261.pth", 232),
    "vgg16": Published("vgg16-397923af.pth", 256),
    "vgg19": Published("vgg19-dcbb9e9d.pth", 256),
    "vgg16_bn": Published("vgg16_bn-6c64b313.pth", 256),
    "vgg19_bn": Published("vgg19_bn-c79401a0.pth", 256),
}


def find_published(name: str) -> Published:
    """The file of `torchvision:NAME`.

    Raises:
        UsageError: no such library or name.
    """
    library, _, model = name.partition(":")
    if library != "torchvision":
        remedy = "torchvision: is known; other weights are imported from a file"
        raise UsageError(f"no weights are known of {library[:40]!r} by name", "import", remedy)
    found = TORCHVISION.get(model.lower())
    if found is None:
        raise UsageError(f"no weights are named {name[:80]!r}", "import", nearest(model[:80], list(TORCHVISION)))
    return found
