"""Pictures that a notebook shows: those of the command line, without a file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import residual
from residual.errors import UsageError


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_curves_are_those_of_the_command_line(say, finished, here):
    before = {path.name for path in here.rglob("*")}
    picture = residual.draw_curves("run")
    assert {path.name for path in here.rglob("*")} == before
    assert say("curves", "run", "--out", "drawn.png").code == 0
    assert np.array_equal(pixels(picture._repr_png_()), pixels((here / "drawn.png").read_bytes()))
    assert residual.draw_curves(residual.find_run("run")).png == picture.png
    assert len(repr(picture)) < 40
    assert pixels(picture.save("mine.png").read_bytes()).shape == pixels(picture.png).shape
    with pytest.raises(UsageError, match=r"end in \.png"):
        picture.save("mine.svg")


def test_a_batch_is_the_one_of_the_command_line(say, here):
    picture = residual.draw_batch("digits", step=3, seed=2, set={"data.augment.shift": 2})
    words = ["--step", "3", "--seed", "2", "--set", "data.augment.shift=2", "--out", "drawn.png"]
    assert say("data", "show", "digits", *words).code == 0
    assert np.array_equal(pixels(picture.png), pixels((here / "drawn.png").read_bytes()))
    assert not np.array_equal(pixels(picture.png), pixels(residual.draw_batch("digits", seed=2).png))
    with pytest.raises(UsageError, match="step is -1"):
        residual.draw_batch("digits", step=-1)


def test_the_pictures_of_a_report(say, finished, here):
    report = residual.evaluate("run")
    assert say("evaluate", "run", "--figures", "album").code == 0
    for kind in ("confusion", "reliability"):
        drawn = pixels((here / "album" / f"{kind}.png").read_bytes())
        assert np.array_equal(pixels(residual.draw_report(report, kind).png), drawn)
    with pytest.raises(UsageError, match="no picture is called 'roc'"):
        residual.draw_report(report, "roc")  # type: ignore[arg-type]
