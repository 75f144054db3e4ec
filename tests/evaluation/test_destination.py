"""Nothing is overwritten but what this program wrote, and a place that cannot be written to is told at once."""

import io
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from residual.analysis.figures import draw_predictions
from residual.analysis.style import MAKER, is_ours
from residual.errors import StorageError, UsageError
from residual.evaluation.destination import (
    EMBEDDINGS,
    PREDICTIONS,
    holds,
    mind_images,
    mind_places,
    photographs,
    told_of,
)
from residual.files import replace_file
from residual.sealed import write_folder


def png():
    data = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(data, "PNG")
    return data.getvalue()


def drawn(path):
    draw_predictions([np.zeros((4, 4, 3), np.uint8)], ["a.png"], [[("cat", 0.9)]], path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_a_picture_says_who_made_it(tmp_path, name):
    assert is_ours(drawn(tmp_path / name))
    if name == "a.png":
        with Image.open(tmp_path / name) as picture:
            assert picture.info["Software"] == MAKER
    (tmp_path / f"other-{name}").write_bytes(png())
    assert not is_ours(tmp_path / f"other-{name}")
    assert not is_ours(tmp_path / "absent")


def test_files_are_known_by_their_tensors(tmp_path):
    ones, place = np.ones(2, np.float32), tmp_path / "a.npz"
    np.savez(place, logits=ones, labels=ones, facts=np.array("{}"))
    assert holds(PREDICTIONS)(place)
    assert not holds(EMBEDDINGS)(place)
    safetensors.torch.save_file({"features": torch.ones(2)}, tmp_path / "e.safetensors")
    assert holds(EMBEDDINGS)(tmp_path / "e.safetensors")
    assert not holds(PREDICTIONS)(tmp_path / "e.safetensors")
    for name in ("x.npz", "x.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
        assert not holds(PREDICTIONS, EMBEDDINGS)(tmp_path / name)


def test_what_is_not_ours_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(png())
    drawn(tmp_path / "ours.png")
    (tmp_path / "folder.png").mkdir()
    mind_places([tmp_path / "ours.png", tmp_path / "new" / "a.png"], "--picture", is_ours)
    for name in ("photo.png", "folder.png"):
        with pytest.raises(UsageError, match=rf"stands there already .*{name}.*--picture"):
            mind_places([tmp_path / name], "--picture", is_ours)
    with pytest.raises(StorageError, match=r"a file stands where a folder is needed .*photo\.png.*--picture"):
        mind_places([tmp_path / "photo.png" / "a.png"], "--picture", is_ours)


def test_a_drive_that_is_not_there_is_told(monkeypatch, tmp_path):
    """As Z: of Windows: the folder above the top is the top itself."""
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(StorageError, match="there is no such drive"):
        mind_places([tmp_path / "a.png"], "--picture", is_ours)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_told_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="you may not write there"):
        mind_places([tmp_path / "a.png"], "--picture", is_ours)


def test_what_the_disk_refuses_names_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"name another folder with --picture"), told_of("--picture"):
        replace_file(tmp_path / "file" / "a.png", b"")


def test_nothing_is_written_into_a_sealed_folder(tmp_path):
    write_folder(tmp_path / "model", {"model.json": b"{}"}, "model", {})
    (tmp_path / "link").symlink_to(tmp_path / "model", target_is_directory=True)
    for place in ("model/x.png", "model/new/x.png", "link/x.png"):
        with pytest.raises(UsageError, match=r"a sealed folder takes no further file .*another place with --out"):
            mind_places([tmp_path / place], "--out", is_ours)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "another program\'s", "files": []}')
    mind_places([tmp_path / "web" / "x.png", tmp_path / "x.png"], "--out", is_ours)


def test_no_picture_is_written_among_photographs(tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    place = photographs({"name": "folder", "origin": str(tmp_path / "photos")})
    for name in ("photos/cat/a.png", "photos/a.png", "photos/new/a.png"):
        with pytest.raises(UsageError, match="a picture would lie among the images"):
            mind_images([tmp_path / name], "--figures", ["", place])
    mind_images([tmp_path / "photos-2" / "a.png"], "--figures", ["", place])
    assert photographs({"name": "cifar-10", "origin": str(tmp_path)}) == ""
