"""What the disk under a run folder can be trusted with, found out before the first step.

Checkpoints and results rely on a rename that puts the new in the place of the old in one instant, and on an fsync
that means it. Both are tried; where the kind of file system is known not to keep them through a power cut or a
lost connection, which no trial can show, its name says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from residual.errors import log
from residual.files import TEMPORARY, persistent, storage, sync_folder, write_new

TURNS = 8
TRIAL = f"{TEMPORARY}trial"
WEAK = {
    "exfat": "exFAT keeps no journal: a power cut during a save can lose the folder it was saved in",
    "vfat": "FAT keeps no journal: a power cut during a save can lose the folder it was saved in",
    "nfs": "over NFS a rename that was answered late may be made twice, and locks depend on the server",
    "smb": "over SMB neither a rename nor an fsync is sure to have reached the server's disk",
    "fuse": "behind FUSE a rename may be a copy and a deletion, and an fsync may do nothing",
}
"""Kinds of file systems that pass every trial and still promise less."""
_NAMES = {
    "exfat": "exfat", "vfat": "vfat", "msdos": "vfat", "fat": "vfat", "fat32": "vfat", "fat16": "vfat",
    "nfs": "nfs", "nfs4": "nfs", "cifs": "smb", "smb3": "smb", "smbfs": "smb", "9p": "smb", "afpfs": "smb",
    "fuse": "fuse", "fuseblk": "fuse", "macfuse": "fuse", "osxfuse": "fuse", "webdav": "fuse",
}  # fmt: skip


def concerns(folder: Path) -> list[str]:
    """What may not last in `folder`, which no other process may be trying, a sentence each; none where all is well.

    Raises:
        StorageError: nothing can be written, renamed or fsynced there at all.
    """
    found = []
    kind = weakness(kind_of(folder))
    if kind is not None:
        found.append(WEAK[kind])
    if not _replaces_at_once(folder):
        found.append("a rename does not put the new in the place of the old at once: a kill during a save may cost it")
    return found


def warn(folder: Path) -> None:
    """Say every concern once."""
    for concern in concerns(folder):
        log.warning("%s (%s): keep runs on a local disk, or copy them there", concern, folder)


def weakness(kind: str) -> str | None:
    """The entry of WEAK for the name a system gives to a file system."""
    plain = kind.lower()
    return _NAMES.get(plain) or ("fuse" if plain.startswith("fuse.") else None)


def kind_of(folder: Path) -> str:
    """The name the system gives to the file system under `folder`; empty where it does not tell."""
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        if sys.platform == "linux":
            return kind_in(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"), folder.resolve())
        if sys.platform == "darwin":
            # `%T` of BSD's stat on a mount point is not the file system's name; `mount` prints it.
            told = subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=5, check=True).stdout
            return kind_of_mounts(told, folder.resolve())
        if sys.platform == "win32":
            return _kind_on_windows(folder.resolve())
    return ""


def kind_in(mountinfo: str, folder: Path) -> str:
    """The kind in Linux's table of mounts (proc(5)) of the deepest mount that holds `folder`; the last one counts."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


def kind_of_mounts(told: str, folder: Path) -> str:
    """The kind in what `mount` of macOS prints: `/dev/disk3s1 on /Volumes/STICK (exfat, local, nodev)`."""
    best, kind = -1, ""
    for line in told.splitlines():
        _, _, rest = line.partition(" on ")
        place, bracket, options = rest.rpartition(" (")
        if bracket and folder.is_relative_to(place) and len(Path(place).parts) >= best:
            best, kind = len(Path(place).parts), options.split(",")[0].rstrip(")")
    return kind


def _unescaped(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _kind_on_windows(folder: Path) -> str:
    if sys.platform != "win32":
        return ""
    import ctypes

    name = ctypes.create_unicode_buffer(64)
    volume = ctypes.c_wchar_p(folder.anchor)
    if folder.anchor.startswith("\\\\"):
        return "smb3"
    ctypes.windll.kernel32.GetVolumeInformationW(volume, None, 0, None, None, None, name, 64)
    return name.value


def _replaces_at_once(folder: Path) -> bool:
    """Whether a reader always finds one of two files whole while each takes the other's place, and folders move too."""
    trial = folder / TRIAL
    with storage(folder):
        shutil.rmtree(trial, ignore_errors=True)
        persistent(os.mkdir, trial)  # on Windows what was just removed may still be on its way
        try:
            target = trial / "there"
            write_new(target, b"0" * 512)
            done, broken = threading.Event(), threading.Event()
            reader = threading.Thread(target=_read_on, args=(target, done, broken))
            reader.start()
            try:
                for turn in range(TURNS):
                    (trial / "new").write_bytes(str(turn % 10).encode() * 512)
                    os.replace(trial / "new", target)
            except PermissionError:
                if sys.platform != "win32":  # there nobody may replace what someone reads: no fault of the disk
                    raise
            finally:
                done.set()
                reader.join()
            (trial / "folder").mkdir()
            persistent(os.rename, trial / "folder", trial / "moved")
            sync_folder(trial)
        finally:
            shutil.rmtree(trial, ignore_errors=True)
    return not broken.is_set()


def _read_on(target: Path, done: threading.Event, broken: threading.Event) -> None:
    while not done.is_set():
        try:
            whole = target.read_bytes()
        except FileNotFoundError:
            broken.set()
            return
        except OSError:
            continue
        if len(whole) != 512 or len(set(whole)) != 1:
            broken.set()
            return
