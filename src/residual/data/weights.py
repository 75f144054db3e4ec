"""Published files of weights, downloaded as data sets are: verified, kept in the cache, or not there at all.

Of such a file only its name is published, which carries the first eight digits of its SHA-256 after the last hyphen, as
`resnet50-0676ba61.pth`. Source: torch.hub's convention, https://download.pytorch.org/models/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from residual.data.cache import cache_folder
from residual.data.download import Told, fetch
from residual.errors import StorageError

HOST: Final = "https://download.pytorch.org/models/"
_LARGEST = 1 << 30


@dataclass(frozen=True)
class WeightFile:
    """A file of weights by its published name."""

    archive: str

    @property
    def size(self) -> int:
        """The most bytes it may have."""
        return _LARGEST

    @property
    def sha256(self) -> str:
        """The first digits of it."""
        return self.archive.rpartition("-")[2].partition(".")[0]

    @property
    def url(self) -> str:
        return HOST + self.archive


def weights_folder() -> Path:
    """Where downloaded weights are kept, and looked for first."""
    return cache_folder() / "weights"


def fetch_weights(name: str, told: Told = lambda _: None) -> Path:
    """The file of that published name in the cache, downloaded unless it is there.

    Raises:
        DataError: no address gave it; names the address, and the folder to put the file into by hand.
        StorageError: the cache cannot be written.
    """
    try:
        return fetch(WeightFile(name), weights_folder(), told=told)
    except StorageError as error:
        raise StorageError(error.what, error.where, "make room, or name another folder in RESIDUAL_CACHE") from None
