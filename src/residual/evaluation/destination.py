"""Where files are to be written that the user named: looked at before anything is computed.

One rule for all of them: what this command wrote there earlier is replaced, and that is said in one line; anything
else that stands there is refused. Pictures bear a mark by which they are known, a text chunk in a PNG (W3C PNG, 11.3.3)
and a comment in an SVG; files of answers and of embeddings are known by the names of their tensors.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors

from residual.errors import StorageError, UsageError, log
from residual.files import replace_file

PREDICTIONS = frozenset({"logits", "labels"})
EMBEDDINGS = frozenset({"features"})
_BESIDE = {"facts", "files"}  # what an .npz file holds as arrays, and a .safetensors file in its header
_END = 4096
_AFTER_HEADER = 8 + 25  # signature and IHDR of a PNG


def mind_places(paths: Iterable[Path], option: str, own: Callable[[Path], bool]) -> None:
    """Refuse what is not ours to replace, and where no file can be written; say what will be replaced.

    Args:
        option: the option that names the place, as `--picture`.
        own: whether a file is one that this command wrote.

    Raises:
        UsageError: something stands there.  StorageError: the folder cannot be written to.
    """
    replaced = []
    for path in paths:
        if os.path.lexists(path):
            if not path.is_file() or path.is_symlink() or not own(path):
                raise UsageError("something else stands there already", path, f"name another place with {option}")
            replaced.append(path)
        above = path.absolute().parent
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise StorageError("a file stands where a folder is needed", above, f"name another place with {option}")
        if not os.access(above, os.W_OK | os.X_OK):
            raise StorageError("you may not write there", above, f"name another place with {option}")
    if replaced:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        log.info("%s%s of an earlier call will be replaced", replaced[0], more)


def holds(*names: frozenset[str]) -> Callable[[Path], bool]:
    """Whether a .npz or .safetensors file has just these tensors, one of several sets of them."""

    def own(path: Path) -> bool:
        try:
            if path.suffix.lower() == ".npz":
                with zipfile.ZipFile(path) as archive:
                    found = {name.removesuffix(".npy") for name in archive.namelist()} - _BESIDE
            else:
                with safetensors.safe_open(path, "pt") as tensors:
                    found = set(tensors.keys())
        except (OSError, ValueError, zipfile.BadZipFile, safetensors.SafetensorError):
            return False
        return found in names

    return own


def pictured(verb: str) -> Callable[[Path], bool]:
    """Whether a picture bears the mark of a command."""

    def own(path: Path) -> bool:
        try:
            with open(path, "rb") as stream:
                head = stream.read(_END)
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _END))
                return _mark(verb) in head + stream.read()
        except OSError:
            return False

    return own


def put_picture(path: Path, option: str, verb: str, draw: Callable[[Path], object]) -> None:
    """Have a picture drawn elsewhere, and put it there with the mark of the command, whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"picture{path.suffix.lower()}"
        draw(made)
        data = made.read_bytes()
    with told_of(option):
        replace_file(path, marked(data, verb))


def put_pictures(album: Path, option: str, verb: str, draw: Callable[[Path], list[Path]]) -> list[Path]:
    """The same for a folder of pictures; `draw` names those it drew."""
    with tempfile.TemporaryDirectory() as folder:
        made = {album / path.name: path.read_bytes() for path in draw(Path(folder))}
    with told_of(option):
        for path, data in made.items():
            replace_file(path, marked(data, verb))
    return list(made)


def marked(picture: bytes, verb: str) -> bytes:
    """The bytes of a PNG or SVG picture with the mark of a command."""
    if not picture.startswith(b"\x89PNG"):
        return picture + b"<!-- " + _mark(verb) + b" -->\n"
    text = b"tEXtSoftware\0" + _mark(verb)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return picture[:_AFTER_HEADER] + chunk + picture[_AFTER_HEADER:]


def _mark(verb: str) -> bytes:
    return f"written by `residual {verb}`".encode()


@contextmanager
def told_of(option: str) -> Iterator[None]:
    """What the disk refuses is told with the option that named the place, whichever that is."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.what, error.where, error.remedy.replace("--out", option)) from error
