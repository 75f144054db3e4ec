"""Networks that take other channels than the images have: refused in one line by whatever reads images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import residual
from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from tests.data.photographs import photographs
from tests.models.interchange.broken import saved
from tests.models.interchange.layouts import make_resnet

NAMES = ("cat", "dog", "owl")
_FILES = "image files give 1 or 3 channels and the model takes {}"
_WAY = "give uint8 tensors of C x H x W to Classifier.logits"


def model(channels: int) -> Classifier:
    network = residual.build("resnet-8", classes=3, channels=channels)
    return Classifier.of(network, NAMES, image_size=16, mean=[0.5] * channels, std=[0.25] * channels)


@pytest.mark.parametrize("channels", [2, 4])
def test_no_command_reads_files_for_it(refused, here: Path, channels: int) -> None:
    model(channels).save(here / "net")
    photographs(here / "photos", NAMES, 2)
    for command in ("predict", "explain"):
        refused(2, [command, "net", "photos"], _FILES.format(channels), _WAY)
    refused(2, ["evaluate", "net", "--data", "photos"], _FILES.format(channels), _WAY)


def test_nor_does_python_and_its_logits_take_them() -> None:
    four = model(4)
    for image in (np.zeros((16, 16, 4), np.uint8), torch.zeros(4, 16, 16, dtype=torch.uint8)):
        for look in (residual.predict, residual.explain, Classifier.prepare):
            with pytest.raises(UsageError, match=_FILES.format(4)) as caught:
                look(four, image)
            assert caught.value.remedy == _WAY
    assert four.logits(torch.zeros(2, 4, 16, 16, dtype=torch.uint8)).shape == (2, 3)


def test_an_import_says_so_and_leads_to_no_command_that_refuses(say, here: Path) -> None:
    (here / "small.th").write_bytes(saved(make_resnet((1, 1, 1), (4, 8, 16), False, 3, "cifar")))
    said = say("import", "small.th", "--to", "net", "--channels", 4).out
    assert f"no image file has 4 channels: {_WAY}" in said
    assert "constants for 4 of 3 channels: repeated in turn" in said
    assert "residual predict" not in said
    said = say("import", "small.th", "--to", "grey", "--channels", 1).out
    assert "constants for 1 of 3 channels: their mean over the channels" in said
    assert "3 classes, 1 channel, 32 x 32 pixels" in said
    assert "next     residual predict grey" in said


def test_a_data_set_of_other_channels_is_not_judged_on() -> None:
    own = residual.build("resnet-8", classes=3)
    colour = Classifier.of(own, NAMES, image_size=8, mean=[0.5] * 3, std=[0.25] * 3)
    colour.provenance["data"] = {"name": "digits", "origin": "", "checksums": {}}
    with pytest.raises(UsageError, match="these images have 1 channels and the model takes 3") as caught:
        residual.evaluate(colour)
    assert "--data FOLDER" in caught.value.remedy
