"""What Windows says of the names in a folder: junctions are links, and sizes are those of the files themselves."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residual.data.stores import FolderStore
from residual.data.trees import FolderTree
from residual.errors import DataError


def entry(name: str, tag: int, mode: int) -> Any:
    """A name as Python 3.11 gives it there, which knows no `is_junction`."""
    status = SimpleNamespace(st_reparse_tag=tag, st_mode=mode, st_size=7, st_mtime_ns=8)
    return SimpleNamespace(name=name, is_symlink=lambda: False, stat=lambda follow_symlinks: status)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderTree:
    monkeypatch.setattr(sys, "platform", "win32")
    root = tmp_path / "photos"
    root.mkdir()
    return FolderTree(FolderStore(root), root, False)


@pytest.mark.skipif(os.name != "posix", reason="stands for a junction by a link")
def test_a_junction_that_leads_out_or_back_is_refused(tree: FolderTree, tmp_path: Path) -> None:
    (tree.root / "out").symlink_to(tmp_path)
    (tree.root / "back").symlink_to(tree.root)
    for name, words in (("out", "leads out of the folder"), ("back", "leads back")):
        with pytest.raises(DataError, match=words):
            tree._look(entry(name, 0xA0000003, stat.S_IFDIR), name, str(tree.root / name), (tree.real,))


def test_size_and_time_are_those_of_the_file_and_not_those_kept_in_the_folder(tree: FolderTree) -> None:
    (tree.root / "a.png").write_bytes(b"12345")
    looked = tree._look(entry("a.png", 0, stat.S_IFREG), "a.png", "", ())
    assert (looked.size, looked.changed) == (5, (tree.root / "a.png").stat().st_mtime_ns)
    (tree.root / "a").mkdir()
    assert tree._look(entry("a", 0, stat.S_IFDIR), "a", "", ()).is_folder
