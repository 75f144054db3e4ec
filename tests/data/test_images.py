"""Anyone's image files: decoded by content under documented rules, or refused in one line; never a crash or a hang."""

import io
import os
import random
import resource
import shutil
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data.images import decode, find_images, fit, read_image
from residual.data.limits import PIXEL_LIMIT
from residual.data.preprocessing import Preprocessing
from residual.errors import DataError

ORIENTATION = 0x0112
RGBA = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
RGB, GREY = RGBA[..., :3], RGBA[..., 0]
ON_BLACK = np.rint(RGB * (RGBA[..., 3:] / 255)).astype(np.uint8)


def encoded(image, form, **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def stored(folder, data, name="image.png"):
    (folder / name).write_bytes(data)
    return folder / name


def decoded(folder, data, channels=3, name="image.png"):
    """uint8 HWC as numpy, or HW where there is one channel."""
    found = decode(stored(folder, data, name), channels)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert found.shape[0] == channels
    return found.permute(1, 2, 0).numpy() if channels == 3 else found[0].numpy()


def refused(path, message):
    """The one line with which a file is refused; it names the file and shows nothing of the program's inside."""
    with pytest.raises(DataError, match=message) as caught:
        decode(path, 3)
    line = str(caught.value)
    assert str(path)[:100] in line
    assert " object at 0x" not in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_colours_are_exact(tmp_path, form, options):
    assert np.array_equal(decoded(tmp_path, encoded(RGB, form, **options)), RGB)


def test_jpeg_is_read(tmp_path):
    smooth = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 3, np.arange(48) * 4, 90), -1).astype(np.uint8)
    found = decoded(tmp_path, encoded(smooth, "JPEG", quality=95))
    assert np.abs(found.astype(int) - smooth).mean() < 2


def test_the_content_counts_and_not_the_name(tmp_path):
    for name in ("image.jpg", "image.txt", "image"):
        assert np.array_equal(decoded(tmp_path, encoded(RGB, "PNG"), name=name), RGB)


def test_grey_becomes_colour_and_colour_grey(tmp_path):
    assert np.array_equal(decoded(tmp_path, encoded(GREY, "PNG"), 1), GREY)
    assert np.array_equal(decoded(tmp_path, encoded(GREY, "PNG")), np.stack([GREY] * 3, -1))
    luma = RGB @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert np.abs(decoded(tmp_path, encoded(RGB, "PNG"), 1) - luma).max() <= 1


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_transparency_is_laid_on_black(tmp_path):
    close(decoded(tmp_path, encoded(RGBA, "PNG")), ON_BLACK)
    close(decoded(tmp_path, encoded(RGBA, "WEBP", lossless=True, exact=True)), ON_BLACK)
    grey_and_alpha = Image.fromarray(np.ascontiguousarray(RGBA[..., [0, 3]]), "LA")
    close(decoded(tmp_path, encoded(grey_and_alpha, "PNG"), 1), ON_BLACK[..., 0])


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    colours = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded(tmp_path, encoded(image, "PNG")), colours)
    clear = np.asarray(image) == 3
    assert clear.any()
    found = decoded(tmp_path, encoded(image, "PNG", transparency=3))
    assert np.array_equal(found, np.where(clear[..., None], 0, colours))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_one_transparent_colour_becomes_black(tmp_path, mode):
    pixels = GREY if mode == "L" else RGB
    colour = int(GREY[2, 3]) if mode == "L" else tuple(RGB[2, 3].tolist())
    found = decoded(tmp_path, encoded(pixels, "PNG", transparency=colour), 1 if mode == "L" else 3)
    clear = np.all(np.atleast_3d(pixels) == np.array(colour), -1)
    assert np.array_equal(found[~clear], pixels[~clear])
    assert not found[clear].any()


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = GREY > 127
    assert np.array_equal(decoded(tmp_path, encoded(Image.fromarray(bits), "PNG"), 1), bits * np.uint8(255))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_upper_half(tmp_path, channels):
    deep = np.random.default_rng(1).integers(0, 1 << 16, (6, 9), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    found = decoded(tmp_path, encoded(deep, "PNG"), channels)
    assert np.array_equal(found if channels == 1 else found[..., 0], deep >> 8)


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.fromarray(np.full((8, 8, 3), (200, 30, 60), np.uint8)).convert("CMYK")
    found = decoded(tmp_path, encoded(image, "JPEG", quality=95))
    assert np.abs(found.astype(int) - np.array([200, 30, 60])).max() < 8


# What brings each orientation upright (EXIF 2.32, 4.6.4), in terms of rows and columns.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
    0: lambda a: a,
    9: lambda a: a,
    60000: lambda a: a,
}


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "turn"), UPRIGHT.items())
def test_orientation_is_applied(tmp_path, form, orientation, turn):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    assert np.array_equal(decoded(tmp_path, encoded(RGB, form, exif=exif, **options)), turn(RGB))


def test_orientation_is_applied_to_jpeg(tmp_path):
    half = np.zeros((16, 32, 3), np.uint8)
    half[:, 16:] = 255  # the right half is white; turned by 90 degrees clockwise it is the lower one
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    found = decoded(tmp_path, encoded(half, "JPEG", exif=exif))
    assert found.shape == (32, 16, 3)
    assert found[:14].max() < 40
    assert found[18:].min() > 215


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_damaged_exif_counts_as_none(tmp_path):
    """EXIF altered at random, its checksum right: the pixels come, upright or as they lie."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010E], exif[0x011A], exif[0x8769] = 6, "text", 72.0, {0x9286: b"abc"}
    whole = exif.tobytes().removeprefix(b"Exif\0\0")
    plain = encoded(RGB, "PNG")
    seen, draws = set(), random.Random(1)
    for _ in range(500):
        block = bytearray(whole)
        for _ in range(draws.choice([1, 1, 2, 6])):
            block[draws.randrange(len(block))] = draws.choice([0, 1, 255, draws.randrange(256)])
        block = block[: draws.choice([len(block), draws.randrange(len(block))])]
        found = decoded(tmp_path, plain[:33] + chunk(b"eXIf", bytes(block)) + plain[33:])
        matches = [number for number in range(1, 9) if np.array_equal(found, UPRIGHT[number](RGB))]
        assert matches
        seen.add(matches[0])
    assert {1, 6} <= seen


def test_of_an_animation_the_first_image_is_taken(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(decoded(tmp_path, data), RGB)


FOREIGN = {
    "empty": b"",
    "web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "photoshop": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(40),
    "fits": b"SIMPLE  =                    T".ljust(2880),
    "noise": bytes(range(256)) * 10,
    "only a signature": b"\x89PNG\r\n\x1a\n",
    **{form: encoded(RGB, form) for form in ("TGA", "ICO", "PDF", "EPS", "JPEG2000", "ICNS", "PCX", "SGI", "DDS")},
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps"])
def test_every_other_format_is_refused_under_any_name(tmp_path, data, name):
    refused(stored(tmp_path, data, name), "not a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM image")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_a_cut_image_is_refused(tmp_path, form):
    noise = np.random.default_rng(2).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    data = encoded(noise, form)
    assert len(data) > 4096
    for length in [*range(0, len(data), 1024), len(data) // 2]:
        refused(stored(tmp_path, data[:length]), "not a")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_an_altered_image_is_read_or_refused_but_never_a_crash(tmp_path, form):
    data, draws, refusals = encoded(RGB, form), random.Random(3), 0
    for _ in range(250):
        altered = bytearray(data)
        for _ in range(draws.choice([1, 3])):
            altered[draws.randrange(len(altered))] ^= 1 << draws.randrange(8)
        try:
            decode(stored(tmp_path, bytes(altered)), 3)
        except DataError:
            refusals += 1
    assert refusals > 10


def most_memory():
    """Bytes this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (10_001, 10_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)]
)
def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path, width, height):
    data = png_header(width, height) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    path = stored(tmp_path, data)
    before, began = most_memory(), time.process_time()
    refused(path, "pixels")
    assert time.process_time() - began < 1
    assert most_memory() - before < 100 << 20


def test_a_text_bomb_is_refused(tmp_path):
    plain = encoded(RGB, "PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20)))
    refused(stored(tmp_path, plain[:33] + text + plain[33:]), "not a")


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes among files are POSIX")
@pytest.mark.timeout(20)
def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("pipe.png", "device.png", "folder.png"):
        refused(tmp_path / name, "not a regular file")
    for name in ("loop.png", "absent.png", "x" * 5000):
        refused(tmp_path / name, "cannot read: ")
    stored(tmp_path, encoded(RGB, "PNG"), "good.PNG")
    assert find_images([tmp_path]) == [tmp_path / "good.PNG"]


def test_a_file_of_128_gib_is_not_read(tmp_path):
    (tmp_path / "image.png").touch()
    os.truncate(tmp_path / "image.png", 1 << 37)
    refused(tmp_path / "image.png", "137,438,953,472 bytes where at most")


def test_what_a_folder_holds_besides_is_counted(tmp_path, caplog):
    stored(tmp_path, encoded(RGB, "PNG"), "nameless")
    for name in ("a.jpg", "b.heic", "c.HEIC", "d.txt", "notes", ".hidden", "._a.jpg", ".thumbs/a.jpg", "@eaDir/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stored(tmp_path, b"x", name)
    assert find_images([tmp_path]) == [tmp_path / "a.jpg", tmp_path / "nameless"]
    (said,) = caplog.messages
    assert "2 .heic and 2 other files (1 .txt, 1 without a suffix)" in said


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_linked_and_closed_folders_are_counted(tmp_path, caplog, monkeypatch):
    folder = tmp_path / "photos"
    for place in (folder / "in", folder / "closed", folder / ".hidden", tmp_path / "elsewhere"):
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(encoded(RGB, "PNG"))
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "in" / "again").symlink_to(folder / "in")
    scandir = os.scandir

    def refused(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    assert find_images([folder]) == [folder / "in" / "a.png"]
    (said,) = caplog.messages
    assert said == f"not used: 2 links to folders and 1 folders that cannot be read ({folder})"
    shutil.rmtree(folder / "in")
    with pytest.raises(DataError, match="no image in this folder; not used: 1 links to folders and 1 folders"):
        find_images([folder])


def test_files_and_folders_are_found_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.webp", "sub/d.txt", "e.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stored(tmp_path, b"x", name)
    inside = [tmp_path / name for name in ("a.JPG", "b.png", "sub/c.webp")]
    assert find_images([tmp_path]) == inside
    assert find_images([tmp_path / "sub/d.txt", tmp_path]) == [tmp_path / "sub/d.txt", *inside]


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.png", "no such file or folder"), ("empty", "no image in this folder"), ("x" * 5000, "cannot read: ")],
)
def test_a_place_without_images_is_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([tmp_path / name])


# Geometry


def test_an_image_of_the_right_size_is_left_alone():
    image = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    assert torch.equal(fit(image, (6, 9)), image)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(64, 64, (32, 32)), (64, 100, (32, 32)), (100, 64, (32, 32)), (8, 8, (32, 32)), (7, 50, (32, 20)), (1, 1, (3, 2))],
)
def test_every_size_is_brought_to_the_one_asked_for(height, width, size):
    image = torch.full((3, height, width), 200, dtype=torch.uint8)
    found = fit(image, size)
    assert (found.shape, found.dtype) == ((3, *size), torch.uint8)
    assert found.unique().tolist() == [200]


def test_the_shorter_side_is_resized_and_the_centre_cut():
    grey = np.add.outer(np.arange(64), np.zeros(128)) + np.arange(128)  # rises to the lower right
    image = torch.from_numpy(grey.astype(np.uint8)).unsqueeze(0)
    found = fit(image, (32, 32))[0].numpy().astype(int)
    blocks = grey.reshape(32, 2, 64, 2).mean((1, 3))[:, 16:48]  # the middle half of the columns
    assert np.abs(found - blocks)[1:-1, 1:-1].max() <= 1


@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1)])
def test_a_line_of_pixels_works(shape):
    found = fit(torch.full((1, *shape), 9, dtype=torch.uint8), (32, 32))
    assert found.shape == (1, 32, 32)
    assert found.unique().tolist() == [9]


def test_a_line_that_would_grow_too_large_is_refused_with_its_size(tmp_path):
    long = PIXEL_LIMIT // (32 * 32) + 1
    path = stored(tmp_path, encoded(np.zeros((1, long), np.uint8), "PNG"))
    preprocessing = Preprocessing((32, 32), 1, "mean-std", torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    with pytest.raises(DataError, match=rf"{long} x 1 pixels .* {32 * long} x 32 .*image\.png") as caught:
        read_image(path, preprocessing)
    assert caught.value.exit_code == 3


def test_an_image_is_read_in_the_geometry_of_the_model(tmp_path):
    path = stored(tmp_path, encoded(RGBA, "PNG"))
    for channels in (1, 3):
        preprocessing = Preprocessing((4, 5), channels, "mean-std", torch.zeros(1), torch.ones(1))
        assert read_image(Path(path), preprocessing).shape == (channels, 4, 5)
