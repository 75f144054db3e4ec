"""Nothing is overwritten but what the same command wrote, and a place that cannot be written to is told at once."""

import io
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from residual.errors import StorageError, UsageError
from residual.evaluation.destination import EMBEDDINGS, PREDICTIONS, holds, marked, mind_places, pictured, told_of
from residual.files import replace_file


def png():
    data = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(data, "PNG")
    return data.getvalue()


def test_a_marked_picture_is_the_same_picture_and_known(tmp_path):
    found = marked(png(), "predict")
    picture = Image.open(io.BytesIO(found))
    picture.load()
    assert picture.info["Software"] == "written by `residual predict`"
    assert picture.getpixel((0, 0)) == (1, 2, 3)
    for name, data in (("a.png", found), ("a.svg", marked(b"<svg></svg>\n" + b" " * 9999, "predict"))):
        (tmp_path / name).write_bytes(data)
        assert pictured("predict")(tmp_path / name)
        assert not pictured("explain")(tmp_path / name)


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
    (tmp_path / "ours.png").write_bytes(marked(png(), "predict"))
    (tmp_path / "folder.png").mkdir()
    mind_places([tmp_path / "ours.png", tmp_path / "new" / "a.png"], "--picture", pictured("predict"))
    for name in ("photo.png", "folder.png"):
        with pytest.raises(UsageError, match=rf"stands there already .*{name}.*--picture"):
            mind_places([tmp_path / name], "--picture", pictured("predict"))
    with pytest.raises(StorageError, match=r"a file stands where a folder is needed .*photo\.png.*--picture"):
        mind_places([tmp_path / "photo.png" / "a.png"], "--picture", pictured("predict"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_told_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="you may not write there"):
        mind_places([tmp_path / "a.png"], "--picture", pictured("predict"))


def test_what_the_disk_refuses_names_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"name another folder with --picture"), told_of("--picture"):
        replace_file(tmp_path / "file" / "a.png", b"")
