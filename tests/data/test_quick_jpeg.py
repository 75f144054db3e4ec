"""JPEGs by another decoder: the pixels of Pillow, or Pillow itself."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from residual.data import encoded as encoding
from residual.data.encoded import Encoded, opened
from residual.data.quick_jpeg import quick_decoder
from residual.errors import DataError
from tests.data.photographs import encoded, picture


@pytest.fixture
def simplejpeg():
    found = pytest.importorskip("simplejpeg")
    if quick_decoder() is None:
        pytest.skip("this build of it has other pixels than this build of Pillow")
    return found


def both(data, monkeypatch, channels=3, least=None):
    """The pixels with the extra and without, and how often it was asked."""
    asked = []
    usual = quick_decoder()
    assert usual is not None

    def counted(bytes_, size):
        asked.append(size)
        return usual(bytes_, size)

    found = []
    for decoder in (counted, None):
        monkeypatch.setattr(encoding, "quick_decoder", lambda decoder=decoder: decoder)
        with opened(data, "x") as image:
            found.append(Encoded(image).array(channels, least))
    return (*found, len(asked))


@pytest.mark.parametrize("least", [None, (200, 150), (90, 60), (40, 40), (10, 10)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"quality": 30}], ids=str)
def test_the_pixels_are_those_of_pillow(simplejpeg, monkeypatch, options, least):
    one, other, asked = both(encoded(picture(3, 1, (401, 299)), "JPEG", **options), monkeypatch, least=least)
    assert np.array_equal(one, other)
    assert asked == 1


def test_what_is_no_plain_colour_is_left_to_pillow(simplejpeg, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(3, 1, (120, 80))
    others = [
        encoded(image, "JPEG", exif=exif),
        encoded(image.convert("L"), "JPEG"),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image),
    ]
    for data in others:
        one, other, asked = both(data, monkeypatch)
        assert np.array_equal(one, other)
        assert asked == 0
    assert both(encoded(image, "JPEG"), monkeypatch, channels=1)[2] == 0


def test_what_it_refuses_pillow_decides(simplejpeg, monkeypatch):
    whole = encoded(picture(3, 1, (120, 80)), "JPEG")
    padded = whole[:-2] + b"\0\0\0" + whole[-2:]
    one, other, _ = both(padded, monkeypatch)
    assert np.array_equal(one, other)
    monkeypatch.undo()
    with pytest.raises(DataError, match="truncated"), opened(whole[: len(whole) // 2], "x") as image:
        Encoded(image).array(3)


def test_other_pixels_are_not_taken(simplejpeg, monkeypatch):
    right = simplejpeg.decode_jpeg

    def wrong(data, *arguments, **options):
        found = right(data, *arguments, **options)
        found[0, 0, 0] ^= 1
        return found

    monkeypatch.setattr(simplejpeg, "decode_jpeg", wrong)
    assert quick_decoder.__wrapped__() is None


def test_without_the_extra_pillow_decodes(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert quick_decoder.__wrapped__() is None
    monkeypatch.setattr(encoding, "quick_decoder", quick_decoder.__wrapped__)
    image = picture(3, 1, (120, 80))
    data = encoded(image, "JPEG")
    with opened(data, "x") as found:
        assert np.array_equal(Encoded(found).array(3), np.asarray(Image.open(io.BytesIO(data))))
