"""The place of a data set is the one it was asked from, whichever name its cached copy was made through."""

from __future__ import annotations

import os

from residual.data.datasets import DataSettings, open_dataset


def test_the_origin_is_where_it_was_opened_now(cifar, tmp_path):
    link = tmp_path / "link"
    os.symlink(cifar, link)
    for place in (link, cifar):
        assert open_dataset(DataSettings(dataset="cifar-10", path=str(place))).origin == str(place)
