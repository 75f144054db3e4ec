"""`residual.import_weights`: what `residual import` may be asked is asked from Python, in its words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import residual
from residual.cli.main import run
from residual.errors import ModelError, UsageError
from residual.evaluation.bringing import bring
from tests.models.interchange.broken import saved
from tests.models.interchange.layouts import make_resnet

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    state = make_resnet((1, 1, 1), (4, 8, 16), False, 3, "cifar")
    path = tmp_path / "small.pth"
    path.write_bytes(saved({"state_dict": state, "state_dict_ema": {k: 2 * v for k, v in state.items()}}))
    return path


def test_all_that_the_command_takes_is_taken(small: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    options = ["--from", "cifar", "--part", "state_dict_ema", "--classes", str(tmp_path / "names.txt"), "--channels"]
    options += ["1", "--image-size", "40", "--mean", "0.5", "--std", "0.25", "--resize", "50"]
    assert run(["import", str(small), "--to", str(tmp_path / "net"), *options, "--interpolation", "bicubic"]) == 0
    made = residual.import_weights(
        small,
        library="cifar",
        part="state_dict_ema",
        class_names=NAMES,
        channels=1,
        image_size=40,
        mean=np.array([0.5]),  # type: ignore[arg-type]
        std=[0.25],
        resize=50,
        interpolation="bicubic",
    )
    assert made.pack() == residual.load(tmp_path / "net").pack()
    assert (made.class_names, made.preprocessing.image_size, made.preprocessing.crop) == (NAMES, (40, 40), 0.8)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, 'choose one, as in part="state_dict"'),
        ({"part": "ema"}, "choose one of state_dict, state_dict_ema"),
        ({"library": "keras"}, 'not the names of keras, but of cifar .*: library="cifar"'),
        ({"library": "tensorflow"}, r"'tensorflow' is unknown \(library\): did you mean"),
        ({"class_names": NAMES[:2]}, r"2 names for 3 classes \(class_names\)"),
        ({"class_names": ("cat", "dog", "cat")}, r"two classes are called cat \(class_names\)"),
        ({"class_names": "abc"}, r"'abc' is a single text \(class_names\)"),
        ({"channels": 0}, r"0 is out of range \(channels\)"),
        ({"image_size": "40"}, r"'40' is out of range \(image_size\)"),
        ({"mean": [0.5] * 3}, "mean and std belong together"),
        ({"mean": 0.5, "std": 0.5}, r"'0.5' cannot be used \(mean\): give a number for each channel"),
        ({"mean": [0.5], "std": [0.5]}, r"1 given, and the images have 3 channels \(mean\)"),
        ({"resize": 20}, r"resize is 20 \(resize\): choose a side between 32 and 320"),
        ({"interpolation": "nearest"}, r"'nearest' is unknown \(interpolation\)"),
    ],
    ids=str,
)
def test_its_errors_name_the_arguments(small: Path, asked: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, ModelError), match=words) as caught:
        residual.import_weights(small, **{"part": "state_dict", **asked} if asked else {})
    assert "--" not in str(caught.value)


def test_what_is_assumed_is_logged_in_its_words(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "residual")
    residual.import_weights(small, part="state_dict")
    assert "classes: not known, numbered; class_names names them" in caplog.text


def test_another_library_is_advised_only_where_names_are_those_of_several(tmp_path: Path) -> None:
    for kind, advised in (("cifar", False), ("plain", True)):
        widths = (4, 8, 16) if kind == "cifar" else (4, 8, 16, 32)
        state = make_resnet((1,) * len(widths), widths, False, 3, *(["cifar"] if kind == "cifar" else []))
        (tmp_path / f"{kind}.pth").write_bytes(saved({**state, "extra": torch.zeros(2)}))
        with pytest.raises(ModelError, match="extra is not of this network") as caught:
            residual.import_weights(tmp_path / f"{kind}.pth")
        assert ("name the right library with library" in caught.value.remedy) == advised
    with pytest.raises(ModelError, match="name the right library with --from, of `residual import`, and begin from"):
        bring(str(tmp_path / "plain.pth"))
    with pytest.raises(ModelError, match="not of this network; take another file"):
        residual.import_weights(tmp_path / "plain.pth", library="torchvision")


def test_a_stem_is_named_from_python_as_by_the_command(tmp_path: Path) -> None:
    state = {**make_resnet((1, 1, 1), (4, 8, 16), False, 3), "conv1.weight": torch.randn(4, 3, 3, 3)}
    (tmp_path / "small.pt").write_bytes(saved(state))
    with pytest.raises(ModelError, match='give stem="3x3", or 3x3/2'):
        residual.import_weights(tmp_path / "small.pt")
    made = residual.import_weights(tmp_path / "small.pt", stem="3x3", class_names=NAMES)
    assert (made.spec.stem, made.preprocessing.image_size) == ("3x3", (32, 32))
    assert run(["import", str(tmp_path / "small.pt"), "--to", str(tmp_path / "net"), "--stem", "3x3"]) == 0
    assert torch.equal(residual.load(tmp_path / "net").network.state_dict()["stem.conv.weight"], state["conv1.weight"])
    with pytest.raises(UsageError, match="'5x5' is unknown"):
        residual.import_weights(tmp_path / "small.pt", stem="5x5")
