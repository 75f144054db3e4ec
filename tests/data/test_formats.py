"""BMP, GIF, TIFF and PPM: read as other images are, and refused before they take much."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from residual.data.encoded import NoRoom, inspect, opened, to_array
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


def tiff(pixels, more, order=">"):
    """A TIFF of 30 x 40 grey pixels, which lie behind its head."""
    tags = sorted({256: 30, 257: 40, 258: 8, 259: 1, 262: 1, 277: 1, **more}.items())
    rows = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    table = struct.pack(f"{order}H", len(tags)) + rows
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(f"{order}I", 8 + len(pixels)) + pixels + table + bytes(4)


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
    "head", [b"", b"BM", b"BMW and Audi", b"P6x", b"P5 is a prot", b"P1 1 1 1", b"II*", b"%PDF-1.7", b"GIF90a......"]
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


@pytest.mark.parametrize(("bits", "photometric"), [(12, 1), (16, 0), (16, 1)])
def test_of_deep_numbers_the_upper_8_bits_are_read_dark_or_bright(bits, photometric):
    """Pillow leaves numbers of more than 8 bits that are darkness as they are."""
    numbers = np.arange(1200).reshape(40, 30) * ((1 << bits) // 1200)
    body = numbers.astype("<u2").tobytes()
    if bits == 12:
        pairs = numbers.reshape(-1, 2).tolist()
        body = b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in pairs)
    data = tiff(body, {258: bits, 262: photometric, 273: 8, 278: 40, 279: len(body)}, "<")
    upper = (numbers >> (bits - 8)).astype(np.uint8)
    assert np.array_equal(read(data, 1)[..., 0], upper if photometric else 255 - upper)
    assert examine("a.tif", data)["deep"]


def test_texts_in_a_png_are_no_facts_of_its_numbers():
    texts = PngImagePlugin.PngInfo()
    for name, words in (("bits", "12"), ("white is zero", "yes")):
        texts.add_text(name, words)
    assert np.array_equal(read(encoded(DEEP, "PNG", pnginfo=texts), 1)[..., 0], DEEP >> 8)


def test_deep_numbers_that_are_all_small_are_told():
    assert [examine("a.tif", encoded(DEEP >> more, "TIFF"))["dark"] for more in (0, 4)] == [False, True]


@pytest.mark.parametrize("most", [1, 100, 254, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_ppm_of_every_largest_number(most, channels):
    """Of numbers up to 2^n - 1 the upper 8 bits; of others the share of the largest."""
    numbers = np.random.default_rng(2).integers(0, most + 1, (7, 9, channels))
    numbers[0, 0] = most
    body = numbers.astype(">u2" if most > 255 else np.uint8).tobytes()
    data = b"P%d # a comment\n9\t7 # and another\n%d\n" % (5 if channels == 1 else 6, most) + body
    whole = most > 255 and (most + 1).bit_count() == 1
    expected = numbers >> (most.bit_length() - 8) if whole else (255 * numbers + most // 2) // most
    assert np.array_equal(read(data, channels), expected)
    assert read(data, channels)[0, 0].tolist() == [255] * channels
    assert examine("a.ppm", data)["deep"] is (most > 255)
    refused(data[:-1], "truncated")


def test_a_pbm_has_rows_of_whole_bytes():
    bits = np.random.default_rng(3).integers(0, 2, (5, 11)).astype(np.uint8)
    data = b"P4\n11 5\n" + np.packbits(bits, axis=1).tobytes()
    assert np.array_equal(read(data, 1)[..., 0], 255 * (1 - bits))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image.convert("L")), 255 * (1 - bits))


@pytest.mark.parametrize(
    "head", [b"P6\n", b"P6 #" + b"x" * (1 << 20), b"P5" + b" " * (1 << 20), b"P6 1x 2 3 ", b"P5 2 2 70000 ", b"P4 0 3 "]
)
def test_a_damaged_head_of_a_ppm_is_refused_at_once(head):
    refused(head + bytes(100), "truncated|damaged|no pixels|largest number")


def test_a_bitmap_whose_fourth_byte_means_nothing_is_opaque():
    data = bytearray(encoded(np.dstack([RGB, np.full(RGB.shape[:2], 9, np.uint8)]), "BMP"))
    start = struct.unpack_from("<I", data, 10)[0]
    head = struct.pack("<IiiHHIIiiIIIIII", 56, 30, 40, 1, 32, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for alpha in (0, 255):
        pixels = np.dstack([RGB[::-1, :, ::-1], np.full(RGB.shape[:2], alpha, np.uint8)]).tobytes()
        made = b"BM" + struct.pack("<IHHI", 70 + len(pixels), 0, 0, 70) + head + pixels
        assert np.array_equal(read(made), RGB), (alpha, start)


def test_pages_that_are_broken_do_not_matter():
    sound = encoded(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())])
    found = examine("a.tif", sound[:-1000])
    assert (found["fault"], found["frames"]) == ("", 2)
    assert found["across"] == examine("a.tif", encoded(RGB, "TIFF"))["across"]


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
    refused(encoded(image, "TIFF"), "a TIFF image with 1 (floating-point )?number of 32 bits a pixel: such .* not read")


def test_numbers_as_text_are_refused():
    refused(
        b"P3\n2 2\n255\n" + b"1 2 3 " * 4, "a PPM image whose numbers are written as text: such images are not read"
    )
    refused(b"Pf\n2 2\n-1.0\n" + bytes(16), "a Netpbm image of floating-point numbers: such images")


@pytest.mark.parametrize(("number", "way"), [(34925, "LZMA"), (6, "old-style JPEG"), (34712, "JPEG 2000"), (9, "9")])
def test_compressions_that_are_not_read(number, way):
    data = tiff(RGB[..., 0].tobytes(), {259: number, 273: 8, 278: 40, 279: 1200})
    refused(data, f"number of 8 bits a pixel, compressed as {way}: such images are not read")


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


def raw(entries):
    """A little-endian TIFF of these entries: (tag, type, count, value)."""
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + table + bytes(4) + bytes(4096)


GREY = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([(273, 3, 1000, 200), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 4)], "names more parts than it has"),
        ([(273, 4, 1, 200), (700, 1, 1 << 30, 200)], "its tags are longer than the file"),
        ([(273, 4, 1, 200), (256, 8, 1, 2)], "its head is damaged"),
        ([(322, 17, 1, 1 << 16), (323, 17, 1, 1 << 16), (324, 4, 1, 200), (325, 4, 1, 4)], "its head is damaged"),
        ([(273, 4, 1, 200), (256, 3, 1, 0)], "it has no pixels"),
        ([(273, 4, 1, 200), (256, 4, 1, 1 << 20), (257, 4, 1, 1 << 20)], "pixels are too many"),
    ],
)
def test_what_a_tiff_may_not_ask_for(entries, words):
    named = {entry[0] for entry in entries}
    refused(raw(sorted([one for one in GREY if one[0] not in named] + entries)), words)


def test_directories_that_follow_on_one_another_in_a_ring_are_counted_once():
    data = bytearray(encoded(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB)]))
    first = struct.unpack_from("<I", data, 4)[0]
    second = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    data[second : second + 4] = struct.pack("<I", first)
    assert examine("a.tif", bytes(data))["frames"] == 1


def test_a_shortage_of_memory_is_no_fault_of_a_tiff(monkeypatch):
    def short(self):
        raise OSError("decoder error -9")

    data = encoded(RGB, "TIFF", compression="tiff_lzw")
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", short)
    with pytest.raises(NoRoom):
        read(data)


@pytest.mark.parametrize(("width", "height"), [(100_000_000, 1), (10_000, 10_000)])
def test_a_bitmap_of_runs_that_names_many_pixels_is_refused(width, height):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 4, 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 1082, 0, 0, 54 + 1024) + head + bytes(1024) + b"\x01\x05\0\0\0\1"
    refused(data, "too many for a BMP of runs")


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
