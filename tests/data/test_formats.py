"""BMP, GIF, TIFF and PPM: read as other images are, and refused before they take much."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from residual.data.encoded import inspect, opened, to_array
from residual.data.examiner import examine
from residual.data.formats import SUFFIXES, begins_so
from residual.errors import DataError
from tests.data import photographs
from tests.data.photographs import picture

RGB = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 1 << 16, (40, 30), dtype=np.uint16)


def encoded(pixels, form, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return photographs.encoded(image, form, **options)


def read(data, channels=3):
    with opened(data, "x") as image:
        image.load()
        return to_array(image, channels)


def tiff(pixels, more):
    """A big-endian TIFF of 30 x 40 grey pixels, which lie behind its head."""
    tags = sorted({256: 30, 257: 40, 258: 8, 259: 1, 262: 1, 277: 1, **more}.items())
    table = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + table + bytes(4)


def refused(data, words):
    with pytest.raises(DataError, match=words) as caught:
        read(data)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(DataError, match=words):
        inspect(data, "x")
    assert re.search(words, examine("x.tif", data)["fault"])


@pytest.mark.parametrize("form", ["BMP", "GIF", "TIFF", "PPM"])
def test_its_first_bytes_tell_of_it(form):
    assert begins_so(encoded(RGB, form)[:12])


@pytest.mark.parametrize(
    "head", [b"", b"BM", b"BMW and Audi", b"P6x", b"P1 1 1 1", b"II*", b"%PDF-1.7", b"GIF90a......"]
)
def test_other_bytes_do_not(head):
    assert not begins_so(head)


WAYS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd")


@pytest.mark.parametrize(
    ("form", "options"), [("BMP", {}), ("PPM", {}), *[("TIFF", {"compression": way}) for way in WAYS]]
)
def test_colours_are_exact(form, options):
    assert np.array_equal(read(encoded(RGB, form, **options)), RGB)


def test_of_a_gif_the_first_image_is_taken_and_its_clear_pixels_are_black():
    image = Image.fromarray(RGB).quantize(32)
    colours = np.asarray(image.convert("RGB"))
    assert np.array_equal(read(encoded(image, "GIF")), colours)
    moving = encoded(image, "GIF", save_all=True, append_images=[image.rotate(180)])
    assert np.array_equal(read(moving), colours)
    clear = np.asarray(image) == 3
    found = read(encoded(image, "GIF", transparency=3, optimize=False))
    assert np.array_equal(found, np.where(clear[..., None], 0, colours))
    assert examine("a.gif", moving)["frames"] == 2


@pytest.mark.parametrize(("form", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {})])
def test_sixteen_bits_keep_their_upper_half(form, options):
    data = encoded(DEEP, form, **options)
    assert np.array_equal(read(data, 1)[..., 0], DEEP >> 8)
    found = examine("a.tif" if form == "TIFF" else "a.pgm", data)
    assert (found["deep"], found["grey"], found["misnamed"]) == (True, True, False)


def test_sixteen_bits_of_the_other_end_first():
    data = tiff(DEEP.astype(">u2").tobytes(), {258: 16, 273: 8, 278: 40, 279: DEEP.nbytes})
    assert np.array_equal(read(data, 1)[..., 0], DEEP >> 8)


def test_of_several_pages_the_first_is_taken():
    pages = encoded(
        RGB, "TIFF", save_all=True, append_images=[Image.fromarray(DEEP), Image.fromarray(RGB[::-1].copy())]
    )
    assert np.array_equal(read(pages), RGB)
    assert examine("a.tif", pages)["frames"] == 3


def test_a_jpeg_inside_a_tiff_is_read():
    smooth = np.asarray(picture(3).resize((64, 48)))
    found = read(encoded(smooth, "TIFF", compression="jpeg", quality=95))
    assert np.abs(found.astype(int) - smooth).mean() < 4


def test_one_bit_and_cmyk():
    bits = Image.fromarray(RGB[..., 0] > 127)
    for form in ("BMP", "TIFF", "PPM"):
        assert np.array_equal(read(encoded(bits, form), 1)[..., 0], np.asarray(bits) * np.uint8(255)), form
    flat = Image.fromarray(np.full((8, 8, 3), (200, 30, 60), np.uint8)).convert("CMYK")
    assert np.abs(read(encoded(flat, "TIFF")).astype(int) - np.array([200, 30, 60])).max() < 8


def test_an_orientation_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = examine("a.tif", encoded(RGB, "TIFF", exif=exif))
    assert (found["width"], found["height"], found["orientation"]) == (40, 30, 1)


@pytest.mark.parametrize(
    "pixels", [RGB[..., 0].astype(np.float32), RGB[..., 0].astype(np.int32), RGB[..., 0].astype(">i2")]
)
def test_numbers_that_are_no_colours_are_refused(pixels):
    image = Image.fromarray(pixels.astype(np.int32)) if pixels.dtype == ">i2" else Image.fromarray(pixels)
    refused(encoded(image, "TIFF"), "its numbers are no colours of 8 or 16 bits")


def test_numbers_as_text_are_refused():
    refused(b"P3\n2 2\n255\n" + b"1 2 3 " * 4, "written as text")
    refused(b"Pf\n2 2\n-1.0\n" + bytes(16), "no colours")


@pytest.mark.parametrize(("number", "way"), [(34925, "lzma"), (6, "tiff_jpeg"), (34676, "tiff_sgilog")])
def test_compressions_that_are_not_read(number, way):
    data = tiff(RGB[..., 0].tobytes(), {259: number, 273: 8, 278: 40, 279: 1200})
    refused(data, rf"its compression \({way}\) is not read here")


def test_what_is_wrong_with_a_tiff_is_told_by_us_alone(capfd):
    data = tiff(b"no stream of zlib", {259: 8, 273: 8, 278: 40, 279: 17})
    refused(data, "not a readable image: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("way", [1, 8])
def test_huge_tiles_are_refused_before_they_are_allocated(way):
    body = zlib.compress(bytes(1 << 20)) if way == 8 else RGB[..., 0].tobytes()
    data = tiff(body, {259: way, 322: 1 << 16, 323: 1 << 16, 324: 8, 325: len(body)})
    refused(data, "its tiles have 65536 x 65536 pixels")
    body = zlib.compress(bytes(64 * 64))
    sound = tiff(body, {259: 8, 322: 64, 323: 64, 324: 8, 325: len(body)})
    assert not read(sound, 1).any()


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b",",
        b"P6 50000 50000 255\n",
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["gif", "ppm", "bmp"],
)
def test_too_many_pixels_are_refused(data):
    with pytest.raises(DataError):
        read(data)


def test_every_suffix_is_once_there():
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
