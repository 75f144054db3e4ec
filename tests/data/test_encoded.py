"""What an encoded image says beside its pixels: depth, transparency, names of its kind; and what the process hears."""

import struct
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from residual.data.examiner import examine
from residual.data.folder import Wishes, open_folder
from residual.data.images import decode_bytes, find_images
from residual.data.source import everything
from tests.data.photographs import encoded as encoded_picture
from tests.data.photographs import photographs, picture
from tests.data.test_images import RGB, chunk, decoded, encoded


@pytest.mark.parametrize("channels", [1, 3])
def test_one_transparent_grey_of_sixteen_bits_becomes_black_and_no_other(tmp_path, channels):
    deep = np.random.default_rng(1).integers(0, 1 << 16, (6, 9), dtype=np.uint16)
    deep[0, :3] = 40_000, 40_001, 40_000  # 40,001 has the same upper half
    plain = encoded(deep, "PNG")
    data = plain[:33] + chunk(b"tRNS", struct.pack(">H", 40_000)) + plain[33:]
    found = decoded(tmp_path, data, channels)
    expected = np.where(deep == 40_000, 0, deep >> 8)
    assert all(np.array_equal(plane, expected) for plane in np.moveaxis(np.atleast_3d(found), -1, 0))
    assert examine("x.png", data)["alpha"]
    assert not examine("x.png", plain)["alpha"]


def test_decoding_in_threads_leaves_the_warnings_as_they_are():
    """Odd EXIF is passed over without a word, and what another thread hears of is not changed."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x09\0\0\0\xff\xff\xff\x7f\0\0\0\0"
    odd = encoded(RGB, "JPEG", exif=exif)
    decode_bytes(odd, 3, "x")
    before, start = list(warnings.filters), threading.Barrier(8)

    def many():
        start.wait()
        for _ in range(60):
            decode_bytes(odd, 3, "x")

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".MPO"])
def test_a_jpeg_is_read_under_any_of_its_names(tmp_path, suffix):
    root = photographs(tmp_path, ["a", "b"], 2)
    form = "MPO" if suffix == ".MPO" else "JPEG"
    options = {"save_all": True, "append_images": [picture(4)]} if form == "MPO" else {}
    path = root / "a" / f"x{suffix}"
    path.write_bytes(encoded_picture(picture(3), form, **options))
    assert path in find_images([root])
    source = open_folder(root, Wishes(image_size=32)).train
    assert len(source) == 5
    assert source.read(everything(source)).shape == (5, 3, 32, 32)
    found = examine(path.name, path.read_bytes())
    assert (found["fault"], found["format"], found["misnamed"]) == ("", "JPEG", False)
    with Image.open(path) as image:
        assert image.format == form
