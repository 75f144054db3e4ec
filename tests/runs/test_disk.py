"""Disks that do not keep what a checkpoint relies on are named before the first step; sound ones are not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from residual.errors import StorageError
from residual.runs import disk

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /mnt/data\\040sets rw - exfat /dev/sdb1 rw
31 30 0:27 / /mnt/data\\040sets/inner rw shared:5 master:1 - nfs4 server:/export rw
32 22 0:28 / /mnt/win rw - fuseblk /dev/sdc1 rw
33 22 0:29 / /mnt/win rw - xfs /dev/sdd1 rw
34 22 0:30 / /mnt/far rw - fuse.sshfs host:/ rw
35 22 0:31 / /mnt/layers rw - overlay overlay rw
a line of another kind
"""
TOLD = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk4s1 on /Volumes/MY (1) (exfat, local, nodev, nosuid, noowners)
//guest@nas/share on /Volumes/share (smbfs, nodev, nosuid)
"""


@pytest.mark.parametrize(
    ("folder", "kind", "weak"),
    [
        ("/home/me/runs", "ext4", None),
        ("/mnt/data sets/runs", "exfat", "exfat"),
        ("/mnt/data sets/inner/runs", "nfs4", "nfs"),
        ("/mnt/data setsX/runs", "ext4", None),
        ("/mnt/win/runs", "xfs", None),  # mounted over the other
        ("/mnt/far/runs", "fuse.sshfs", "fuse"),
        ("/mnt/layers/runs", "overlay", None),
    ],
)
def test_the_deepest_mount_counts(folder: str, kind: str, weak: str | None) -> None:
    assert disk.kind_in(MOUNTS, Path(folder)) == kind
    assert disk.weakness(kind) == weak


@pytest.mark.parametrize(
    ("folder", "kind", "weak"),
    [
        ("/Users/me/runs", "apfs", None),
        ("/Volumes/MY (1)/runs", "exfat", "exfat"),
        ("/Volumes/share/runs", "smbfs", "smb"),
    ],
)
def test_what_mount_tells_on_macos(folder: str, kind: str, weak: str | None) -> None:
    assert disk.kind_of_mounts(TOLD, Path(folder)) == kind
    assert disk.weakness(kind) == weak


def test_a_local_disk_raises_no_concern_and_keeps_nothing(tmp_path: Path) -> None:
    if sys.platform == "linux":
        assert disk.kind_of(tmp_path)
    assert disk.concerns(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_is_a_deletion_and_a_copy_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.replace

    def in_two_steps(source: Path, target: Path) -> None:
        os.unlink(target)
        time.sleep(0.01)
        whole(source, target)

    monkeypatch.setattr(os, "replace", in_two_steps)
    assert disk.concerns(tmp_path) == [
        "a rename does not put the new in the place of the old at once: a kill during a save may cost it"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_shows_its_halves_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_halves(source: Path, target: Path) -> None:
        content = source.read_bytes()
        with target.open("r+b") as file:
            file.write(content[:256])
            file.flush()
            time.sleep(0.01)
            file.write(content[256:])
        source.unlink()

    monkeypatch.setattr(os, "replace", by_halves)
    assert len(disk.concerns(tmp_path)) == 1


def test_the_kind_is_told_in_words_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(disk, "kind_of", lambda folder: "exFAT")
    disk.warn(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"exFAT keeps no journal: a power cut during a save can lose the folder it was saved in ({tmp_path}): "
        "keep runs on a local disk, or copy them there"
    ]


def test_where_nothing_can_be_renamed_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(StorageError, match="Invalid cross-device link"):
        disk.concerns(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_on_windows_what_a_scanner_holds_for_a_moment_is_no_fault_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def held(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def once(*paths: Path) -> None:
            if name not in refused:
                refused.append(name)
                raise PermissionError(13, "in use by an indexer")
            call(*paths)

        return once

    monkeypatch.setattr(os, "rename", held("rename", os.rename))
    monkeypatch.setattr(os, "mkdir", held("mkdir", os.mkdir))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(disk, "kind_of", lambda folder: "NTFS")
    monkeypatch.setattr(disk, "sync_folder", lambda folder: None)
    assert disk.concerns(tmp_path) == []
    assert refused == ["mkdir", "rename"]
