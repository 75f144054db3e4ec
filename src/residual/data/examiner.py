"""A process that decodes files for `examination`, one at a time, under a limit of memory; it needs no torch.

`python -m residual.data.examiner BYTES` reads a JSON line with file, offset and size, and answers with a JSON line
of what it found. Whatever a file does to it, its parent lives on and starts another.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from residual.data.encoded import (
    OTHER,
    UNSUPPORTED,
    is_clear,
    is_grey,
    opened,
    orientation,
    read_part,
    to_array,
    upright,
)
from residual.data.formats import frames, is_deep, is_named_so
from residual.errors import DataError

_DIM = 4096  # 16-bit values below are one of 16 levels, all nearly black
_FLAT = 2.0  # grey levels of deviation below which there is nothing to compare
_TOO_LARGE = {"fault": "decoding needs more memory than is allowed", "kind": "too large"}
_KINDS = (
    (b"GIF8", "a broken GIF image"), (b"BM", "a broken BMP image"), (b"II*\0", "a broken TIFF image"),
    (b"MM\0*", "a broken TIFF image"), (b"\xff\x0a", "a JPEG XL image"),
    (b"8BPS", "a Photoshop file"), (b"%PDF", "a PDF file"), (b"%!PS", "a PostScript file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image"), (b"PK\3\4", "a zip archive"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip


def examine(name: str, data: bytes) -> dict[str, Any]:
    """Everything `residual data check` tells of one file; `fault` where it cannot be used."""
    found: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "fault": ""}
    if not data:
        return found | {"fault": "the file is empty", "kind": "empty"}
    try:
        with opened(data, name) as image:
            form = "JPEG" if image.format == "MPO" else str(image.format)
            found |= {
                "format": form,
                "mode": image.mode,
                "width": image.width,
                "height": image.height,
                "grey": is_grey(image),
                "cmyk": image.mode == "CMYK",
                "palette": image.mode in ("P", "PA"),
                "deep": is_deep(image, data),
                "misnamed": not is_named_so(name, form),
            }
            image.load()
            found["alpha"] = is_clear(image)
            found["orientation"] = orientation(image)
            found["dark"] = image.mode.startswith("I") and bool(np.asarray(image).max() < _DIM)
            found |= _hashes(image)
        found["frames"] = frames(data)
    except MemoryError:
        return found | _TOO_LARGE
    except DataError as error:
        return found | {"fault": error.what, "kind": _kind(error.what)} | _really(error.what, data)
    return found


def _kind(what: str) -> str:
    if OTHER in what:
        return "wrong format"
    if UNSUPPORTED in what:
        return "not supported"
    if "pixels are too many" in what or "bytes where at most" in what or "decompression bomb" in what.lower():
        return "too large"
    cut = ("truncat", "cut", "not enough image data")
    return "truncated" if any(word in what.lower() for word in cut) else "corrupt"


def _really(what: str, data: bytes) -> dict[str, str]:
    """What a file of another format is."""
    if OTHER not in what:
        return {}
    start = data[:512].lstrip().lower()
    really = next((kind for mark, kind in _KINDS if data.startswith(mark)), "")
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        really = "an HTML page"
    elif b"<svg" in start:
        really = "an SVG image"
    elif data[4:8] == b"ftyp":
        really = "an HEIC or AVIF image"
    return {"fault": f"{what}, but {really}"} if really else {}


def _hashes(image: Image.Image) -> dict[str, Any]:
    """Two difference hashes of 64 bits: whether each of 8 x 8 cells is brighter than the one beside it, and below it.

    An image made smaller, encoded anew or slightly changed keeps nearly all of these bits (Krawetz 2013).
    """
    grey = Image.fromarray(to_array(upright(image), 1)[..., 0])
    across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX, reducing_gap=2.0)).astype(np.int16)
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX, reducing_gap=2.0)).astype(np.int16)
    bits = (np.diff(across, axis=1) > 0, np.diff(down, axis=0) > 0)
    return {
        "across": np.packbits(bits[0]).tobytes().hex(),
        "down": np.packbits(bits[1]).tobytes().hex(),
        "flat": bool(across.std() < _FLAT),
    }


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for kind, amount in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (amount, amount))


def main() -> None:
    _limit(int(sys.argv[1]))
    answers = io.TextIOWrapper(sys.stdout.buffer, encoding="ascii", write_through=True)
    answers.write("{}\n")  # ready: what it takes to start is no file's fault
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            found = examine(asked["name"], read_part(Path(asked["file"]), asked["offset"], asked["size"]))
        except MemoryError:
            found = {"sha256": "", **_TOO_LARGE}
        except DataError as error:
            found = {"fault": error.what, "kind": _kind(error.what) if "bytes where" in error.what else "unreadable"}
        except OSError as error:
            found = {"fault": f"cannot read: {error.strerror}", "kind": "unreadable"}
        except Exception as error:  # a decoder stumbles over damage in ways that it does not know itself
            found = {"sha256": "", "fault": f"not a readable image: {type(error).__name__}", "kind": "corrupt"}
        answers.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
