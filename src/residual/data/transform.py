"""What brings an image to what a network takes, as one callable: for data sets and loaders of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from residual.data.given import Given, gather
from residual.data.preprocessing import Preprocessing
from residual.errors import UsageError


@dataclass(frozen=True)
class Transform:
    """An image to float32 CHW, in the geometry of a model and normalised as it was trained; without augmentation.

    It can be pickled, so that processes of a loader use it: `ImageFolder(root, transform=classifier.transform)`.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Given) -> Tensor:
        """float32 CHW of a file, a Pillow image, a uint8 array (HW, HWC) or a uint8 tensor (HW, CHW).

        Raises:
            DataError: the image cannot be read.  UsageError: it is none, or several.
        """
        found = gather(image)
        if len(found) != 1:
            what = f"{len(found)} images were given where one is transformed"
            raise UsageError(what, "transform", "give one at a time; Classifier.prepare takes several")
        return self.preprocessing.normalise(found[0].read(self.preprocessing).unsqueeze(0))[0]
