"""Sealed folders: a manifest with size and SHA-256 of every file, and of itself, written last.

A reader hashes every byte before it uses one, so a sealed folder is either whole or refused. Checkpoints,
models and the cached copies of data sets are sealed folders.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from residual.errors import UsageError, log
from residual.files import (
    TEMPORARY,
    Damaged,
    Facts,
    canonical,
    digest,
    new_folder,
    persistent,
    read_regular,
    storage,
    sync_folder,
)
from residual.version import VERSION

FORMAT = 1
MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 1 << 20
_LARGEST = 1 << 32
"""Bytes of one file of a model or checkpoint: a thousand million weights. Data may be larger."""
_STRAY = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "@eadir"}
_STRAY_STARTS = ("._", ".nfs", ".fuse_hidden")
"""Names, in lower case, that file managers and file systems leave in any folder; nothing reads them here."""
_SEAL = {"seal", "kind", "files"}
_AGAIN = "make it readable, or give the command again"
_warned: set[Path] = set()


class Unread(Damaged):
    """A sealed folder of which not everything could be looked at, or not by this program: it may be whole."""


class Altered(Damaged):
    """A sealed folder in which a file of the manifest is absent or has other bytes."""


def seal(contents: Mapping[str, bytes], kind: str, facts: Facts) -> dict[str, bytes]:
    """The files of a sealed folder: the contents and the manifest, which comes last."""
    files = {name: {"bytes": len(data), "sha256": digest(data)} for name, data in contents.items()}
    body: Facts = {"facts": facts, "files": files, "format": FORMAT, "kind": kind, "written_by": VERSION}
    return {**contents, MANIFEST: canonical(body | {"seal": digest(canonical(body))})}


def write_folder(folder: Path, contents: Mapping[str, bytes], kind: str, facts: Facts) -> None:
    """Write a sealed folder whole or not at all; `folder` must not exist (an empty one may).

    Raises:
        StorageError: the disk refused; under the final name stands nothing, or the whole folder where only
            its last fsync failed.
    """
    new_folder(folder, seal(contents, kind, facts))


def rewrite_folder(folder: Path, contents: Mapping[str, bytes], kind: str, facts: Facts) -> None:
    """As `write_folder`; what stands there goes when the new one is whole, and is missing for one renaming alone."""
    if not folder.exists():
        write_folder(folder, contents, kind, facts)
        return
    fresh, before = (folder.with_name(f"{TEMPORARY}{word}{folder.name}") for word in ("", "old-"))
    for left in (fresh, before):
        shutil.rmtree(left, ignore_errors=True)
    write_folder(fresh, contents, kind, facts)
    read_folder(fresh, kind, own=True)
    with storage(folder):
        persistent(os.rename, folder, before)
        try:
            persistent(os.rename, fresh, folder)
        except OSError:
            os.rename(before, folder)
            raise
        sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def read_manifest(folder: Path, *kinds: str) -> Facts:
    """The manifest of a sealed folder of one of the kinds, its own seal verified."""
    advice = "restore the folder from a copy"
    try:
        data = read_regular(folder / MANIFEST, _MANIFEST_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"no {MANIFEST}", folder, advice) from None
    except OSError as error:
        raise Unread(f"cannot read {MANIFEST}: {error.strerror}", folder, _AGAIN) from None
    try:
        manifest = json.loads(data)
        seal = manifest.pop("seal")
        whole = seal == digest(canonical(manifest)) and canonical(manifest | {"seal": seal}) == data
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole or not isinstance(manifest.get("format"), int):
        raise Damaged(f"{MANIFEST} is damaged", folder, advice)
    if manifest["format"] > FORMAT:
        need = f"it was written by residual {manifest.get('written_by')}; install that release or a newer one"
        raise Unread(f"format {manifest['format']} is newer than this program", folder, need)
    if not _well_formed(manifest):
        raise Damaged(f"{MANIFEST} is sealed but not what this program writes", folder, advice)
    if manifest["kind"] not in kinds:
        wanted = " or ".join(kinds)
        raise Damaged(f"this is a {manifest['kind']} folder, not a {wanted} folder", folder, "name the right folder")
    return dict(manifest)


def _well_formed(manifest: Facts) -> bool:
    """Whether the entries are of the right types, and every file lies in the folder itself."""
    files, kind, facts = (manifest.get(name) for name in ("files", "kind", "facts"))
    return (
        isinstance(kind, str)
        and isinstance(facts, dict)
        and isinstance(files, dict)
        and all(name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name) for name in files)
        and all(isinstance(entry, dict) and isinstance(entry.get("bytes"), int) for entry in files.values())
        and all(isinstance(entry.get("sha256"), str) for entry in files.values())
    )


def read_folder(folder: Path, *kinds: str, own: bool = False) -> tuple[Facts, dict[str, bytes]]:
    """The facts and the files of a sealed folder of one of the kinds, every byte verified before any is used.

    Args:
        own: this process has just written it, so that there is nothing to warn of.

    Raises:
        Damaged: a file is absent, added, cut, lengthened, altered or not regular; `Altered` where bytes differ,
            `Unread` where they may be right.
    """
    manifest = read_manifest(folder, *kinds)
    advice = "restore the folder from a copy"
    contents: dict[str, bytes] = {}
    try:
        if not own:
            _warn_if_open(folder)
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise Unread(f"cannot read: {error.strerror}", folder, _AGAIN) from None
    extra = sorted(name for name in names - set(manifest["files"]) - {MANIFEST} if not _is_stray(name))
    if extra:
        raise Unread(f"{extra[0]} does not belong here", folder, "take it away")
    for name, entry in manifest["files"].items():
        path = folder / name
        if manifest["kind"] in ("model", "checkpoint") and entry["bytes"] > _LARGEST:
            raise Damaged(f"{entry['bytes']:,} bytes are more than any model has", path, advice)
        try:
            data = read_regular(path, entry["bytes"])
        except FileNotFoundError:
            raise Altered("a file is missing", path, advice) from None
        except OSError as error:
            raise Unread(f"cannot read: {error.strerror}", path, _AGAIN) from None
        except Damaged as error:
            raise Altered(error.what, path, advice) from None
        if len(data) != entry["bytes"]:
            raise Altered(f"{len(data):,} of {entry['bytes']:,} bytes", path, advice)
        if digest(data) != entry["sha256"]:
            raise Altered("the SHA-256 differs from the manifest's", path, advice)
        contents[name] = data
    return manifest["facts"], contents


def _is_stray(name: str) -> bool:
    return name.lower() in _STRAY or name.startswith(_STRAY_STARTS)


def mind_sealed(path: Path, option: str = "") -> None:
    """Refuse a place within a model folder, a checkpoint or whatever else is sealed: one file more makes it unusable.

    Raises:
        UsageError: it is in one.
    """
    for folder in Path(os.path.realpath(path)).parents:
        try:
            sealed = _SEAL.issubset(json.loads(read_regular(folder / MANIFEST, _MANIFEST_LIMIT)))
        except (OSError, Damaged, ValueError, TypeError, RecursionError):  # none, or one of another program
            sealed = False
        if sealed:
            other = f"name another place{f' with {option}' if option else ''}"
            raise UsageError("a sealed folder takes no further file", folder, other)


def put_aside(folder: Path) -> None:
    """Take a folder out of the way, as it is, under a name that nothing reads."""
    aside, number = folder.with_name(f"aside-{folder.name}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = folder.with_name(f"aside-{folder.name}-{number}")
    with storage(folder):
        folder.rename(aside)


def _warn_if_open(folder: Path) -> None:
    """Say once of each folder who else may have written it."""
    if not hasattr(os, "geteuid") or folder.absolute() in _warned:
        return
    _warned.add(folder.absolute())
    status = os.stat(folder)
    if status.st_uid not in (os.geteuid(), 0):
        log.warning("%s belongs to another user: use it only if you trust its source", folder)
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        log.warning("%s can be written by everyone on this machine: chmod o-w it", folder)
