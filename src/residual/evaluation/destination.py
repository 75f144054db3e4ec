"""Where files are to be written that the user named: looked at before anything is computed.

One rule for all of them: what this program wrote there earlier is replaced, and that is said in one line; anything
else that stands there is refused. Pictures say who made them; files of answers and of embeddings are known by the names
of their tensors. Nothing is written into a sealed folder, which holds what its manifest says and nothing else.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors

from residual.errors import StorageError, UsageError, log
from residual.files import Facts
from residual.sealed import mind_sealed

PREDICTIONS = frozenset({"logits", "labels"})
EMBEDDINGS = frozenset({"features"})
_BESIDE = {"facts", "files"}  # what an .npz file holds as arrays, and a .safetensors file in its header


def mind_places(paths: Iterable[Path], option: str, own: Callable[[Path], bool]) -> None:
    """Refuse what is not ours to replace, and where no file can be written; say what will be replaced.

    Args:
        option: the option that names the place, as `--picture`.
        own: whether a file is one that this program wrote.

    Raises:
        UsageError: something stands there.  StorageError: the folder cannot be written to.
    """
    tell_replaced(refuse_places(paths, option, own))


def refuse_places(paths: Iterable[Path], option: str, own: Callable[[Path], bool]) -> list[Path]:
    """What of these places will be replaced if they are written to; raises as `mind_places` does."""
    replaced, paths = [], list(paths)
    for folder in dict.fromkeys(path.parent for path in paths):  # of many pictures in one folder once
        mind_sealed(folder / "file", option)
    for path in paths:
        if os.path.lexists(path):
            if not path.is_file() or path.is_symlink() or not own(path):
                raise UsageError("something else stands there already", path, f"name another place with {option}")
            replaced.append(path)
        above = path.absolute().parent
        while not os.path.lexists(above):
            if above.parent == above:
                raise StorageError("there is no such drive", above, f"name another place with {option}")
            above = above.parent
        if not above.is_dir():
            raise StorageError("a file stands where a folder is needed", above, f"name another place with {option}")
        if not os.access(above, os.W_OK | os.X_OK):
            raise StorageError("you may not write there", above, f"name another place with {option}")
    return replaced


def tell_replaced(paths: Sequence[Path]) -> None:
    """Say of files of an earlier call that this one replaces them."""
    if paths:
        log.info("%s%s of an earlier call will be replaced", paths[0], _more(paths))


def tell_left(paths: Sequence[Path]) -> None:
    """Say of files of an earlier call that this one does not write them: they are of other images or another run."""
    if paths:
        stay = "stay" if len(paths) > 1 else "stays"
        log.info("%s%s of an earlier call %s as before: this call does not write such", paths[0], _more(paths), stay)


def _more(paths: Sequence[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def mind_images(paths: Iterable[Path], option: str, folders: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse pictures among photographs: they would be images themselves the next time, and of another class.

    Args:
        folders: where photographs are; what is no folder is passed over.

    Raises:
        UsageError: one would lie among them.
    """
    places = [os.path.realpath(folder) for folder in folders if os.path.isdir(folder)]
    for path in paths:
        there = Path(os.path.realpath(path))
        if any(there.is_relative_to(place) for place in places):
            raise UsageError("a picture would lie among the images", path, f"name another place with {option}")


def photographs(data: Facts) -> str:
    """The place of the photographs that a network was trained on, by the facts of its data; empty if it had none."""
    return os.path.expanduser(str(data.get("origin", ""))) if data.get("name") == "folder" else ""


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


@contextmanager
def told_of(option: str) -> Iterator[None]:
    """What the disk refuses is told with the option that named the place, whichever that is."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.what, error.where, error.remedy.replace("--out", option)) from error
