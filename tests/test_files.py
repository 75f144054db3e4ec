"""Nothing half-written is ever taken for whole: sealed folders, atomic files, append-only records, recipe text."""

import errno
import json
import logging
import os
import sys

import pytest

from residual import files
from residual.errors import StorageError, UsageError
from residual.files import (
    Appender,
    Damaged,
    canonical,
    digest,
    read_lines,
    read_regular,
    read_toml,
    remove_folder,
    remove_temporaries,
    replace_file,
    toml,
)
from residual.sealed import FORMAT, MANIFEST, read_folder, read_manifest, write_folder

CONTENTS = {"weights": bytes(range(256)) * 20, "note.json": b"{}\n", "empty": b""}
FACTS = {"step": 7, "rate": 0.1}
needs_posix = pytest.mark.skipif(os.name != "posix", reason="devices and pipes among files are POSIX")


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "deep" / "step-7"
    write_folder(folder, CONTENTS, "checkpoint", FACTS)
    return folder


def reseal(folder, **changes):
    """A manifest with other entries whose own seal is right."""
    body = json.loads((folder / MANIFEST).read_bytes()) | changes
    del body["seal"]
    (folder / MANIFEST).write_bytes(canonical(body | {"seal": digest(canonical(body))}))


def test_a_sealed_folder_comes_back_as_written(sealed):
    assert read_folder(sealed, "checkpoint") == (FACTS, CONTENTS)
    assert read_folder(sealed, "model", "checkpoint") == (FACTS, CONTENTS)
    assert {entry.name for entry in sealed.iterdir()} == {*CONTENTS, MANIFEST}
    assert [entry.name for entry in sealed.parent.iterdir()] == ["step-7"]


def test_a_sealed_folder_never_replaces_one(sealed, tmp_path):
    with pytest.raises(StorageError, match="something stands there already"):
        write_folder(sealed, {}, "checkpoint", {})
    assert read_folder(sealed, "checkpoint") == (FACTS, CONTENTS)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        write_folder(tmp_path / "file", {}, "checkpoint", {})


def test_every_altered_byte_of_the_manifest_is_found(sealed):
    whole = (sealed / MANIFEST).read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        (sealed / MANIFEST).write_bytes(altered)
        with pytest.raises(Damaged, match=r"manifest\.json is damaged"):
            read_manifest(sealed, "checkpoint")


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'{"seal":1}', b"[" * 9999, b"\xff", b'{"seal":NaN}'])
def test_a_manifest_that_is_none_is_refused(sealed, text):
    (sealed / MANIFEST).write_bytes(text)
    with pytest.raises(Damaged, match=r"manifest\.json is damaged"):
        read_manifest(sealed, "checkpoint")


def test_a_manifest_spelt_otherwise_is_refused(sealed):
    whole = (sealed / MANIFEST).read_bytes()
    for text in (
        whole + b" ",
        whole + b"\n",
        whole[:-1],
        whole.replace(b":", b": ", 1),
        b'{"kind":"model",' + whole[1:],
    ):
        (sealed / MANIFEST).write_bytes(text)
        with pytest.raises(Damaged, match=r"manifest\.json is damaged"):
            read_manifest(sealed, "checkpoint")


def test_every_kind_of_flipped_bit_is_found(sealed):
    path, whole = sealed / "weights", CONTENTS["weights"]
    for bit in [*range(0, 8 * len(whole), 97), 8 * len(whole) - 1]:
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(Damaged, match=r"SHA-256 differs.*weights"):
            read_folder(sealed, "checkpoint")


@pytest.mark.parametrize("length", [*range(0, len(CONTENTS["weights"]), 1024), len(CONTENTS["weights"]) - 1])
def test_a_cut_file_is_found(sealed, length):
    os.truncate(sealed / "weights", length)
    with pytest.raises(Damaged, match=r"of 5,120 bytes .*weights"):
        read_folder(sealed, "checkpoint")


@pytest.mark.parametrize("length", [5121, 1 << 37])  # the last is a sparse file of 128 GiB, which must not be read
def test_a_lengthened_file_is_found(sealed, length):
    os.truncate(sealed / "weights", length)
    with pytest.raises(Damaged, match=r"bytes where at most 5,120 are expected .*weights"):
        read_folder(sealed, "checkpoint")


def test_a_missing_or_added_file_is_found(sealed):
    (sealed / "more").touch()
    with pytest.raises(Damaged, match="more does not belong here"):
        read_folder(sealed, "checkpoint")
    (sealed / "more").unlink()
    (sealed / "empty").unlink()
    with pytest.raises(Damaged, match=r"a file is missing .*empty"):
        read_folder(sealed, "checkpoint")
    (sealed / MANIFEST).unlink()
    with pytest.raises(Damaged, match=r"no manifest\.json"):
        read_folder(sealed, "checkpoint")


def test_what_file_managers_leave_in_any_folder_is_nothing_to_refuse(sealed):
    for name in (".DS_Store", "._weights", "Thumbs.db", "desktop.ini", ".nfs000000000001"):
        (sealed / name).write_bytes(b"x")
    (sealed / "@eaDir").mkdir()
    assert read_folder(sealed, "checkpoint") == (FACTS, CONTENTS)


@needs_posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["weights", MANIFEST])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a folder", "loop"])
def test_what_is_no_file_is_never_opened(sealed, kind, name):
    path = sealed / name
    path.unlink()
    match kind:
        case "device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link to a folder":
            path.symlink_to(sealed.parent)
        case "loop":
            path.symlink_to(path)
    with pytest.raises(Damaged, match=r"not a regular file|Too many levels"):
        read_folder(sealed, "checkpoint")


def test_a_newer_format_names_the_release_it_needs(sealed):
    reseal(sealed, format=FORMAT + 1, written_by="9.9.9", files="not as today")
    with pytest.raises(Damaged, match=r"format 2 is newer .*written by residual 9\.9\.9; install that release"):
        read_folder(sealed, "checkpoint")


def test_the_wrong_kind_is_named(sealed):
    with pytest.raises(Damaged, match="this is a checkpoint folder, not a model or data folder"):
        read_folder(sealed, "model", "data")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": []},
        {"files": {"../outside": {"bytes": 1, "sha256": digest(b"x")}}},
        {"files": {"..": {"bytes": 1, "sha256": digest(b"x")}}},
        {"files": {"weights": 7}},
        {"files": {"weights": {"bytes": "1", "sha256": ""}}},
        {"files": {"weights": {"bytes": 1}}},
        {"kind": None},
        {"facts": []},
        {"format": "1"},
    ],
    ids=str,
)
def test_a_forged_manifest_is_refused(sealed, changes):
    (sealed.parent / "outside").write_bytes(b"x")
    reseal(sealed, **changes)
    with pytest.raises(Damaged, match=r"manifest\.json is"):
        read_folder(sealed, "checkpoint")


@needs_posix
def test_a_folder_everyone_may_write_draws_a_warning(sealed, caplog):
    read_folder(sealed, "checkpoint")
    assert caplog.records == []
    for mode in (0o770, 0o1777):  # the last lets everyone add, and nobody replace, as in /tmp
        sealed.chmod(mode)
        read_folder(sealed, "checkpoint")
    assert caplog.records == []
    sealed = sealed.rename(sealed.with_name("other"))  # of each folder it is said once
    sealed.chmod(0o707)
    with caplog.at_level(logging.WARNING, "residual"):
        read_folder(sealed, "checkpoint", own=True)
        read_folder(sealed, "checkpoint")
        read_folder(sealed, "checkpoint")
    assert [record.getMessage() for record in caplog.records] == [
        f"{sealed} can be written by everyone on this machine: chmod o-w it"
    ]


def test_folders_and_leftovers_are_taken_away(sealed):
    (sealed.parent / ".tmp-1-x").mkdir()
    (sealed.parent / ".tmp-1-x" / "half").touch()
    (sealed.parent / ".tmp-2").touch()
    remove_temporaries(sealed.parent)
    assert [entry.name for entry in sealed.parent.iterdir()] == ["step-7"]
    remove_folder(sealed)
    remove_folder(sealed)  # nothing there is nothing to do
    assert list(sealed.parent.iterdir()) == []


# Records


def test_records_grow_and_are_cut_back(tmp_path):
    path = tmp_path / "records.jsonl"
    book = Appender(path)
    book.append({"step": 1})
    length, sha256 = book.length, book.sha256
    book.append({"step": 2})
    book.sync()
    book.close()
    assert (length, sha256) == (len(canonical({"step": 1})), digest(canonical({"step": 1})))
    assert read_lines(path) == [{"step": 1}, {"step": 2}]

    book = Appender(path, length, sha256)
    assert (book.length, book.sha256) == (length, sha256)
    book.append({"step": 3})
    book.close()
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("text", [b'{"step":9}\n{"step":2}\n', b'{"step":', b""])
def test_records_altered_since_are_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "records.jsonl"
    path.write_bytes(text)
    line = canonical({"step": 1})
    with pytest.raises(Damaged, match="the records were altered since the checkpoint"):
        Appender(path, len(line), digest(line))
    assert path.read_bytes() == text


def test_a_last_line_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "records.jsonl"
    assert read_lines(path) == []
    whole = canonical({"step": 1}) + canonical({"step": 2})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_lines(path) == ([] if length < 11 else [{"step": 1}])


@pytest.mark.parametrize("line", [b"{", b"5", b"[]", b"null", b"\xff", b"[" * 9999], ids=lambda line: str(line[:4]))
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "records.jsonl").write_bytes(b'{"step":1}\n' + line + b"\n")
    with pytest.raises(Damaged, match="line 2 is not a JSON object"):
        read_lines(tmp_path / "records.jsonl")


def test_a_folder_in_place_of_records_is_refused(tmp_path):
    with pytest.raises(Damaged, match="not a regular file"):
        read_lines(tmp_path)


def test_a_limit_is_kept(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(Damaged, match="5 bytes where at most 4 are expected"):
        read_regular(tmp_path / "file", 4)


# TOML


def written(folder, data):
    path = folder / "recipe.toml"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b'a = 1\nb = "\xc3\xa9"\n',
        b'\xef\xbb\xbfa = 1\r\nb = "\xc3\xa9"\r\n',
        b"\xff\xfe" + 'a = 1\r\nb = "é"\r\n'.encode("utf-16-le"),
        b"\xfe\xff" + 'a = 1\r\nb = "é"\r\n'.encode("utf-16-be"),
    ],
    ids=["plain", "bom", "PowerShell", "big-endian"],
)
def test_toml_with_and_without_mark_is_read(tmp_path, data):
    assert read_toml(written(tmp_path, data)) == {"a": 1, "b": "é"}


def test_a_table_comes_back_without_what_is_none(tmp_path):
    table = {"name": "x", "rate": 0.1, "limit": None, "data": {"path": None, "shift": [1, 2], "mirror": False}}
    kept = {"name": "x", "rate": 0.1, "data": {"shift": [1, 2], "mirror": False}}
    assert read_toml(written(tmp_path, toml(table).encode())) == kept


NOT_TOML = {
    "bytes": (b"a = 1\nb = \xff", "not UTF-8 at line 2, column 5"),
    "after a mark": (b"\xef\xbb\xbfa = 1\nb = \xff", "not UTF-8 at line 2, column 5"),
    "characters": (b'a = "\xc3\xa9\xc3\xa9\xff"', "not UTF-8 at line 1, column 8"),
    "utf-16, cut": ("a = 1\nb".encode("utf-16") + b"\0", "not UTF-16 at line 2, column 2"),
    "utf-16 without a mark": ("a = 1".encode("utf-16-le"), "not TOML: "),
    "twice": (b"a = 1\na = 2\n", r"not TOML: Cannot overwrite a value \(at line 2, column 6\)"),
    "table twice": (b"[t]\na = 1\n[t]\n", r"not TOML: .*at line 3, column"),
    "no value": (b"a = \n", r"not TOML: Invalid value \(at line 1, column 5\)"),
    "yaml": (b"a: &x [*x, *x]\n", r"not TOML: .*at line 1, column 2"),
    "nul": (b"a = \0", r"not TOML: .*at line 1"),
    "digits": (b"a = " + b"9" * 5000, "not TOML: "),
    "nested": (b"a = " + b"[" * 90_000, "not TOML: "),
    "large": (b"#" * ((1 << 20) + 1), "1,048,577 bytes where at most 1,048,576 are expected"),
}


@pytest.mark.parametrize(("data", "message"), NOT_TOML.values(), ids=NOT_TOML)
def test_what_is_not_toml_is_refused_with_its_place(tmp_path, data, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_toml(written(tmp_path, data))
    assert str(tmp_path / "recipe.toml") in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_is_no_recipe_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such recipe file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        read_toml(tmp_path)
    with pytest.raises(UsageError, match="cannot read: "):
        read_toml(tmp_path / ("x" * 5000))


def test_on_windows_a_file_that_is_held_for_a_moment_gets_its_name(tmp_path, monkeypatch):
    tried = []

    def held(old, new):
        tried.append(new)
        if len(tried) < 3:
            raise PermissionError(13, "in use by an indexer")
        rename(old, new)

    rename = os.rename
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    replace_file(tmp_path / "a", b"1")
    assert ((tmp_path / "a").read_bytes(), len(tried)) == (b"1", 3)


def test_on_windows_a_folder_takes_the_place_of_an_empty_one(tmp_path, monkeypatch):
    rename = os.rename

    def strict(old, new):
        if os.path.exists(new):
            raise FileExistsError(17, "exists")
        rename(old, new)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "rename", strict)
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    (tmp_path / "run").mkdir()
    files.new_folder(tmp_path / "run", {"a": b"1"})
    assert (tmp_path / "run" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("code", [0, errno.ENOTTY, errno.EIO])
def test_on_macos_the_cache_of_the_drive_is_flushed_where_it_can_be(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")
    asked = []

    def control(descriptor, command):
        asked.append(command)
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    if code == errno.EIO:
        with pytest.raises(StorageError, match="cannot write"):
            replace_file(tmp_path / "a", b"1")
        return
    replace_file(tmp_path / "a", b"1")
    assert ((tmp_path / "a").read_bytes(), asked) == (b"1", [51, 51])  # the file, and its name
