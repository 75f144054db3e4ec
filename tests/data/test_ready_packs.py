"""A pack whose images are as they are asked for is copied out: the pixels, and the refusals, of the usual way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import residual
from residual.data.datasets import DataSettings, open_dataset
from residual.data.reading import FolderSource
from residual.errors import DataError

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


def source_of(path: Path, size: int = 32) -> FolderSource:
    found = open_dataset(
        DataSettings.model_validate({"dataset": "folder", "path": str(path), "image_size": size})
    ).train
    assert isinstance(found, FolderSource)
    return found


def slow(source: FolderSource) -> FolderSource:
    """The same source, all of whose images are brought to their size."""
    found = replace(source)
    vars(found)["_ready"] = False
    return found


def test_images_are_copied_out_as_they_are(tmp_path: Path) -> None:
    source = source_of(residual.pack_images(tmp_path / "own.pack", (COLOUR, np.arange(12) % 2)))
    assert source._ready
    chosen = torch.tensor([3, 0, 11, 3])
    source.expect(chosen)
    found = source.read(chosen)
    assert torch.equal(found, slow(source).read(chosen))
    assert found.is_contiguous()
    found.zero_()
    assert source.read(chosen).any(), "the pack stays as it is"
    assert len(source.read(torch.empty(0, dtype=torch.int64))) == 0
    with pytest.raises(IndexError):
        source.read(torch.tensor([12]))


def test_of_other_sizes_or_channels_each_is_brought_to_its_size(tmp_path: Path) -> None:
    path = residual.pack_images(tmp_path / "own.pack", (COLOUR, np.arange(12) % 2))
    assert not source_of(path, 16)._ready
    grey = [*COLOUR[:11], COLOUR[11, :, :, 0]]
    mixed = source_of(residual.pack_images(tmp_path / "mixed.pack", (grey, np.arange(12) % 2)))
    assert not mixed._ready
    assert tuple(mixed.read(torch.arange(12)).shape) == (12, 3, 32, 32)


def test_a_damaged_image_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    path = residual.pack_images(tmp_path / "own.pack", (COLOUR, np.arange(12) % 2))
    data = bytearray(path.read_bytes())
    data[8 + 5] ^= 1  # a pixel of the first image
    path.write_bytes(data)
    source = source_of(path)
    source.expect(torch.tensor([1, 0]))
    assert source.read(torch.tensor([1])).shape == (1, 3, 32, 32)
    with pytest.raises(DataError, match="the pixels are not those that were packed"):
        source.read(torch.tensor([1, 0]))
