"""Mutated images of every format that is read, opened as a run and as `data check` do: no crash, no hang, no death.

Every case is a function of (seed, number): which of the sound files is taken, how it is spoilt (bits flipped, cut, two
stretches exchanged, a stretch of zeros, bytes put in, bits of its head flipped), and where. A process of its own
decodes them one after the other in the program's own ways: read for a crop, whole, and for the findings of `data
check`. A file is either read or refused by a `DataError`; anything else that comes out, an end of the process, or more
than two minutes for a file (six decodings of up to 100 million pixels) is a failure, and the rest goes on behind it.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from campaigns.running import environment, require, write_result
from residual.files import Facts

COUNT, LIMIT = 10_000, 120.0
PROGRAM = (sys.executable, "-m", "campaigns.mutated", "--work")


def sound_files() -> dict[str, bytes]:
    """Encoded images of every kind that is read, 90 x 70 pixels."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:70, :90]
    waves = 120 + 70 * np.stack([np.sin(x / (5 + c)) * np.cos(y / (9 - c)) for c in range(3)], -1)
    pixels = waves + np.random.default_rng(0).integers(-30, 31, waves.shape)
    colour = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    deep = Image.fromarray((pixels[..., 0].clip(0, 255) * 257).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (colour, "JPEG", {"quality": 90, "exif": exif}),
        "jpeg 4:4:4": (colour, "JPEG", {"quality": 95, "subsampling": "4:4:4"}),
        "jpeg progressive": (colour, "JPEG", {"quality": 85, "progressive": True}),
        "jpeg grey": (colour.convert("L"), "JPEG", {}),
        "jpeg cmyk": (colour.convert("CMYK"), "JPEG", {}),
        "png": (colour, "PNG", {"exif": exif}),
        "png palette": (colour.quantize(32), "PNG", {"transparency": 3}),
        "png 16 bits": (deep, "PNG", {}),
        "png alpha": (colour.convert("RGBA"), "PNG", {}),
        "png animated": (colour, "PNG", {"save_all": True, "append_images": [colour.rotate(90)]}),
        "webp": (colour, "WEBP", {"quality": 80, "exif": exif}),
        "webp lossless": (colour.convert("RGBA"), "WEBP", {"lossless": True}),
        "gif": (colour.quantize(32), "GIF", {"transparency": 3}),
        "gif animated": (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        "bmp": (colour, "BMP", {}),
        "tiff": (colour, "TIFF", {"exif": exif}),
        "tiff lzw": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "tiff deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff jpeg": (colour, "TIFF", {"compression": "jpeg"}),
        "tiff pages": (colour.convert("L"), "TIFF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        "ppm": (colour, "PPM", {}),
        "pgm 16 bits": (deep, "PPM", {}),
        "webp animated": (colour, "WEBP", {"save_all": True, "append_images": [colour.rotate(90)]}),
    }
    found = {}
    for name, (image, form, options) in made.items():
        stream = io.BytesIO()
        image.save(stream, form, **options)
        found[name] = stream.getvalue()
    return found


def _flips(data: bytearray, chance: random.Random, end: int) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return data


def _stretch(data: bytearray, chance: random.Random) -> tuple[int, int]:
    length = chance.randint(1, max(1, len(data) // 8))
    start = chance.randrange(len(data) - length)
    return start, start + length


def _swap(data: bytearray, chance: random.Random) -> bytearray:
    (a, b), (c, d) = sorted((_stretch(data, chance), _stretch(data, chance)))
    c, d = max(b, c), max(b, d)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _zeros(data: bytearray, chance: random.Random) -> bytearray:
    start, end = _stretch(data, chance)
    data[start:end] = bytes(end - start)
    return data


def _insert(data: bytearray, chance: random.Random) -> bytearray:
    place = chance.randrange(len(data))
    return data[:place] + chance.randbytes(chance.randint(1, 64)) + data[place:]


SPOILT: dict[str, Callable[[bytearray, random.Random], bytearray]] = {
    "bits flipped": lambda data, chance: _flips(data, chance, len(data)),
    "head flipped": lambda data, chance: _flips(data, chance, 64),
    "cut": lambda data, chance: data[: chance.randrange(len(data))],
    "exchanged": _swap,
    "zeros": _zeros,
    "put in": _insert,
}


def case(files: dict[str, bytes], seed: int, number: int) -> tuple[str, str, bytes]:
    """Which file, how it is spoilt, and what came of it."""
    chance = random.Random(f"{seed} {number}")
    name, how = chance.choice([*files]), chance.choice([*SPOILT])
    return name, how, bytes(SPOILT[how](bytearray(files[name]), chance))


def judge(data: bytes) -> str:
    """`read` or `refused`, by all of the program's own ways of opening it."""
    from residual.data.encoded import Encoded, inspect, opened
    from residual.data.examiner import examine
    from residual.data.geometry import Geometry
    from residual.data.images import cropped, decode_fitted
    from residual.data.windows import Window
    from residual.errors import DataError

    examine("x.jpg", data)
    try:
        inspect(data, "x")
        with opened(data, "x") as image:
            cropped(Encoded(image), 3, (32, 32), Window("area", 0.35, 1.0, (0.5, 0.5, 0.5, 0.5)))
        decode_fitted(data, 3, (48, 48), "x")
        decode_fitted(data, 1, (16, 16), "x", Geometry("pad", "bicubic"))
    except DataError:
        return "refused"
    return "read"


def work(seed: int, first: int, last: int) -> None:
    """Judge the cases [first, last), each answered with a line."""
    files = sound_files()
    print(json.dumps({"ready": True}), flush=True)
    for number in range(first, last):
        name, how, data = case(files, seed, number)
        try:
            found = judge(data)
        except Exception as error:  # to be named: it is what must not happen
            found = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps({"number": number, "file": name, "how": how, "found": found}), flush=True)


class _Watch:
    """Ends a process that says nothing for too long."""

    def __init__(self, process: subprocess.Popen[str], limit: float) -> None:
        self.process, self.limit, self.late = process, limit, False
        self.timer: threading.Timer | None = None

    def again(self) -> None:
        self.stop()
        self.timer = threading.Timer(self.limit, self._end)
        self.timer.start()

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _end(self) -> None:
        self.late = True
        self.process.kill()


def answers(
    seed: int, count: int, program: Sequence[str] = PROGRAM, limit: float = LIMIT
) -> Iterator[tuple[int, str, Facts]]:
    """(number, `answered`, `died` or `hung`, what was answered) of every case; a new process follows on a dead one."""
    number = 0
    while number < count:
        command = [*program, str(seed), str(number), str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            watch = _Watch(process, max(limit, 120))  # until it is ready
            watch.again()
            assert process.stdout is not None
            for line in process.stdout:
                watch.limit = limit
                watch.again()
                answer = json.loads(line)
                if "number" in answer:
                    yield number, "answered", answer
                    number += 1
            process.wait()
            watch.stop()
        if number < count:
            yield number, "hung" if watch.late else "died", {"code": process.returncode}
            number += 1


def examine(seed: int, count: int, program: Sequence[str] = PROGRAM, limit: float = LIMIT) -> Facts:
    """What became of so many cases."""
    found: Counter[str] = Counter()
    by_file: dict[str, Counter[str]] = {}
    faults: list[Facts] = []
    slowest, before = 0.0, None
    for number, how, answer in answers(seed, count, program, limit):
        now = time.monotonic()
        slowest, before = max(slowest, now - before if before is not None else 0.0), now
        if how == "answered" and answer["found"] in ("read", "refused"):
            found[answer["found"]] += 1
            by_file.setdefault(answer["file"], Counter())[answer["found"]] += 1
        else:
            faults.append({"number": number, "what": how, **answer})
    return {
        "files": count,
        "seed": seed,
        "sound": sum(found.values()),
        **{name: found[name] for name in ("read", "refused")},
        "by_file": {name: dict(counts) for name, counts in sorted(by_file.items())},
        "faults": faults,
        "slowest_seconds": round(slowest, 3),
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign mutated")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = examine(options.seed, options.count)
    write_result("mutated", found, began)
    return require(found["sound"], found["files"], "mutated files read or refused in words")


if __name__ == "__main__":
    if sys.argv[1:2] != ["--work"]:
        sys.exit(main(sys.argv[1:]))
    work(*map(int, sys.argv[2:5]))
