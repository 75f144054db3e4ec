"""The head of hidden layers reads maps of 7x7, whatever the size of those it gets and the device they are on."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.models import heads


@pytest.mark.parametrize("size", [(5, 5), (14, 7), (10, 3)])
def test_maps_of_any_size_are_averaged_to_seven(size: tuple[int, int]) -> None:
    maps_NCHW = torch.rand(2, 3, *size)
    assert torch.equal(heads._pooled(maps_NCHW), F.adaptive_avg_pool2d(maps_NCHW, 7))


@pytest.mark.parametrize(("size", "there"), [((5, 5), False), ((14, 10), False), ((14, 7), True)])
def test_what_mps_cannot_average_is_averaged_on_the_cpu(
    size: tuple[int, int], there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, averaged = MagicMock(shape=(2, 3, *size)), []
    maps.device.type = "mps"

    def average(given: Tensor, side: int) -> MagicMock:
        averaged.append(given)
        return maps.cpu()

    monkeypatch.setattr(F, "adaptive_avg_pool2d", average)
    heads._pooled(maps)
    assert averaged == [maps if there else maps.cpu()]
    assert maps.cpu().to.call_args_list == ([] if there else [((maps.device,),)])
