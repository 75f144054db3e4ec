"""`data check` as a function: every defect named, nothing changed, no file that stops or fills the program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.data import inspection, likeness
from residual.data.examination import examine_all
from residual.data.inspection import csv_rows, inspect_place
from residual.data.layout import Class, Layout
from residual.data.likeness import groups, near_groups, near_pairs
from residual.data.stores import File, FolderStore
from residual.errors import UsageError
from tests.data.photographs import divided, encoded, fill, photographs, picture

SMOOTH = picture(5, 3, (8, 6)).resize((320, 240), Image.Resampling.BICUBIC)


def broken(png: bytes) -> bytes:
    """The pixels' own checksum does not hold any more."""
    return png[:500] + bytes([png[500] ^ 255]) + png[501:]


def defective(root: Path) -> Path:
    """Two classes with one file of every kind of defect and oddity."""
    fill(root / "a", 12, 0)
    fill(root / "b", 12, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(SMOOTH, "JPEG")
    frames = [picture(n, 7) for n in range(3)]
    a = {
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "cut.jpg": whole[: len(whole) // 2],
        "corrupt.png": broken(encoded(picture(0, 9))),
        "photoshop.jpg": b"8BPS\0\1" + bytes(100),
        "grey.png": encoded(picture(20, 2, grey=True)),
        "cmyk.jpg": encoded(picture(21, 2).convert("CMYK"), "JPEG"),
        "deep.png": encoded(Image.fromarray(np.arange(1440, dtype=np.uint16).reshape(36, 40) * 40)),
        "palette.png": encoded(picture(22, 2).quantize(16)),
        "clear.png": encoded(Image.merge("RGBA", [*picture(23, 2).split(), Image.new("L", (40, 36), 200)])),
        "opaque.png": encoded(picture(28, 2).convert("RGBA")),
        "moving.png": encoded(frames[0], save_all=True, append_images=frames[1:]),
        "turned.jpg": encoded(picture(24, 2), "JPEG", exif=exif),
        "misnamed.jpg": encoded(picture(25, 2)),
        "dot.png": encoded(picture(26, 2, (1, 1))),
        "long.png": encoded(picture(27, 2, (900, 40))),
    }  # fmt: skip
    for name, data in a.items():
        (root / "a" / name).write_bytes(data)
    (root / "b" / "same.jpg").write_bytes((root / "a" / "000.jpg").read_bytes())
    (root / "b" / "smooth.png").write_bytes(encoded(SMOOTH))
    (root / "b" / "smaller.jpg").write_bytes(encoded(SMOOTH.resize((200, 150)), "JPEG", quality=60))
    return root


def state(root):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


def test_every_defect_is_named_and_nothing_changed(tmp_path):
    root = defective(tmp_path / "photos")
    before, told = state(root), []
    found = inspect_place(root, processes=1, told=lambda done, total: told.append((done, total)))
    assert state(root) == before
    assert told[-1] == (len(before), len(before))
    assert not found.sound
    by_what = {one.what: set(one.files) for one in found.findings}
    assert by_what["empty"] == {"a/empty.jpg"}
    assert by_what["wrong format"] == {"a/page.jpg", "a/photoshop.jpg"}
    assert by_what["truncated"] == {"a/cut.jpg"}
    assert by_what["corrupt"] == {"a/corrupt.png"}
    assert by_what["CMYK"] == {"a/cmyk.jpg"}
    assert by_what["16 bits a channel"] == {"a/deep.png"}
    assert by_what["greyscale"] == {"a/grey.png", "a/deep.png"}
    assert by_what["palette"] == {"a/palette.png"}
    assert by_what["transparent"] == {"a/clear.png"}
    assert by_what["several frames or pages"] == {"a/moving.png"}
    assert by_what["turned by EXIF"] == {"a/turned.jpg"}
    assert by_what["named as another format"] == {"a/misnamed.jpg"}
    assert by_what["smaller than 32 pixels"] == {"a/dot.png"}
    assert by_what["longer than 4:1"] == {"a/long.png"}
    assert by_what["duplicates"] == by_what["duplicates across classes"] == {"a/000.jpg", "b/same.jpg"}
    assert by_what["near duplicates"] == {"b/smooth.png", "b/smaller.jpg"}
    columns, *lines = csv_rows(found)
    rows = {line[0]: dict(zip(columns, line, strict=True)) for line in lines}
    assert rows["b/same.jpg"]["duplicate_of"] == "a/000.jpg"
    assert "HTML page" in rows["a/page.jpg"]["fault"]
    assert (rows["a/long.png"]["width"], rows["a/long.png"]["class"]) == ("900", "a")
    assert found.sizes["smallest"]["path"] == "a/dot.png"
    assert found.classes == {"all": {"a": 23, "b": 15}}


def test_leakage_between_parts_and_classes_of_one_size(tmp_path):
    for part, count in (("train", 12), ("val", 3)):
        for colour, name in enumerate("ab"):
            fill(tmp_path / part / name, count, colour, 0 if part == "train" else 50)
    (tmp_path / "val" / "a" / "x.png").write_bytes((tmp_path / "train" / "a" / "001.png").read_bytes())
    found = inspect_place(tmp_path, processes=1)
    (leak,) = (one for one in found.findings if one.what == "duplicates across parts")
    assert set(leak.files) == {"val/a/x.png", "train/a/001.png"}
    assert leak.weight == "concern"
    assert found.sound


def test_a_class_that_is_not_judged_on_is_told(tmp_path):
    shutil.rmtree(divided(tmp_path) / "test" / "dog")
    found = inspect_place(tmp_path, processes=1)
    assert found.sound
    assert [finding.files for finding in found.findings if finding.what == "classes without test images"] == [("dog",)]


def test_small_and_uneven_classes_are_told(tmp_path):
    fill(tmp_path / "many", 30, 0)
    fill(tmp_path / "few", 5, 1)
    whats = {one.what: one.files for one in inspect_place(tmp_path, processes=1).findings}
    assert whats["1 classes of fewer than 10 images"] == ("few (5)",)
    assert whats["uneven classes in all"] == ("few (5)", "many (30)")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes as POSIX has them")
def test_faults_of_folders_do_not_end_it(tmp_path):
    root = photographs(tmp_path / "photos", ["a", "b"], 10)
    (root / "empty").mkdir()
    os.symlink(tmp_path, root / "a" / "out")
    os.symlink(root, root / "b" / "round")
    os.mkfifo(root / "a" / "pipe.png")
    found = inspect_place(root, processes=1)
    told = "\n".join(one.what for one in found.findings if one.weight == "fault")
    for words in ("a class folder holds no image", "leads out of the folder", "leads back", "no file"):
        assert words in told, told
    assert sum(not row["fault"] for row in found.files) == 20


def bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels."""
    import struct
    import zlib

    data = encoded(picture(0))
    head = b"IHDR" + struct.pack(">II", 50_000, 50_000) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited there")
def test_no_file_ends_or_stops_it(tmp_path, monkeypatch):
    root = photographs(tmp_path / "photos", ["a", "b"], 3)
    (root / "a" / "bomb.png").write_bytes(bomb())
    (root / "b" / "large.png").write_bytes(encoded(Image.new("RGB", (9000, 9000)), compress_level=1))
    found = inspect_place(root, processes=1, memory=500 << 20)
    kinds = {row["path"]: row["kind"] for row in found.files if row["fault"]}
    assert kinds.keys() == {"a/bomb.png", "b/large.png"}
    assert kinds["a/bomb.png"] == "too large"
    assert len(found.files) == 8


def test_a_process_that_dies_or_hangs_costs_one_file(tmp_path, monkeypatch):
    root = photographs(tmp_path, ["a"], 5)
    files = sorted((root / "a").iterdir())
    # The same process, but that it dies of one file and sleeps over another.
    code = (
        "import sys, os, time, json; from residual.data import examiner; look = examiner.examine\n"
        "def odd(name, data):\n"
        f"    if name == {files[1].name!r}: os._exit(9)\n"
        f"    if name == {files[3].name!r}: time.sleep(600)\n"
        "    return look(name, data)\n"
        "examiner.examine = odd; examiner.main()"
    )
    popen = subprocess.Popen

    def start(command, **options):
        assert command[1:4] == ["-P", "-m", "residual.data.examiner"]
        return popen([command[0], "-P", "-c", code, command[4]], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    tasks = [(file.name, file, 0, None) for file in files]
    found = dict(examine_all(tasks, 1, seconds=3))
    assert [found[n].get("kind") for n in range(5)] == [None, "crashes the decoder", None, "too slow", None]
    assert all(found[n]["width"] == 40 for n in (0, 2, 4))


def test_a_stop_ends_the_processes(tmp_path):
    root = photographs(tmp_path, ["a", "b"], 3)
    begun = []

    def heed():
        begun.append(1)
        if len(begun) > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_place(root, processes=2, heed=heed)


def test_a_pack_is_not_checked_again(tmp_path):
    from residual.data.packing import pack

    made = pack(photographs(tmp_path / "photos", ["a", "b"], 2), tmp_path / "p.pack")
    with pytest.raises(UsageError, match="checked when it is made"):
        inspect_place(made.path)


def test_a_file_takes_little_room(tmp_path, monkeypatch):
    """Answers as those of a process that decodes, for so many files that what is held of each can be told."""
    count, chance = 4000, np.random.default_rng(0)
    held = Class([File(f"train/a/{number:08}.JPEG", 100_000 + number, number) for number in range(count)])
    other = Class([File("train/b/0.JPEG", 1, 1)])
    layout = Layout(FolderStore(tmp_path), {"train": {"a": held, "b": other}})

    def answers(tasks, *_):
        for number, _task in enumerate(tasks):
            bits = chance.bytes(16).hex()
            found: dict[str, object] = {
                name: False for name in ("grey", "cmyk", "palette", "deep", "misnamed", "alpha", "flat")
            }
            found |= {"sha256": bits * 2, "fault": "", "format": "JPEG", "mode": "RGB", "width": 500, "height": 400}
            found |= {"frames": 1, "orientation": 1, "across": bits[:16], "down": bits[16:]}
            yield number, json.loads(json.dumps(found))

    monkeypatch.setattr(inspection, "examine_all", answers)
    monkeypatch.setattr(inspection, "scan", lambda *_, **__: layout)
    tracemalloc.start()
    try:
        found = inspect_place(tmp_path)
        size, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.files) == count + 1
    assert size / count < 700
    assert most / count < 1200


# Likeness


def test_near_pairs_are_all_pairs_within_the_distance():
    chance = np.random.default_rng(0)
    base = [int.from_bytes(chance.bytes(16), "big") for _ in range(30)]
    values = []
    for value in base:
        for flips in (0, 1, 3, 7, 8, 20):
            for bit in chance.choice(128, flips, replace=False):
                value ^= 1 << int(bit)
            values.append(value)
    hashes = [value.to_bytes(16, "big") for value in values]
    right = [
        (a, b)
        for a in range(len(values))
        for b in range(a + 1, len(values))
        if (values[a] ^ values[b]).bit_count() <= 7
    ]
    assert right
    assert sorted(near_pairs(hashes)) == right
    assert list(near_pairs([])) == list(near_pairs(hashes[:1])) == []
    assert near_groups(hashes) == (groups(right), True)
    assert near_groups([hashes[n // 3] for n in range(3 * len(hashes))]) == (
        groups([(3 * a + i, 3 * b + j) for a, b in [*right, *((n, n) for n in range(len(hashes)))]
                for i in range(3) for j in range(3) if (a, i) < (b, j)]),
        True,
    )  # fmt: skip


def test_many_like_frames_are_joined_in_little_room():
    same = [bytes(16)] * 30_000
    assert list(near_pairs(same)) == [(0, n) for n in range(1, 30_000)]
    frames = [sum(1 << 40 * bit + n % 37 for bit in range(3)).to_bytes(16, "big") for n in range(30_000)]
    assert near_groups(frames) == ([[*range(30_000)]], True)


def test_a_search_that_is_cut_is_told(tmp_path, monkeypatch):
    bits = np.random.default_rng(0).integers(0, 128, (400, 3))
    frames = [sum({1 << int(bit) for bit in row}).to_bytes(16, "big") for row in bits]
    assert len(list(near_pairs(frames))) == 400 * 399 // 2
    found, whole = near_groups(frames)
    assert (found, whole) == ([[*range(400)]], True)
    seen, within = [], likeness._within

    def counted(*arguments):
        seen.append(1)
        return within(*arguments)

    monkeypatch.setattr(likeness, "_within", counted)
    monkeypatch.setattr(likeness, "MOST_PAIRS", 100)
    assert near_groups(frames)[1] is False
    assert len(seen) == 1
    root = defective(tmp_path / "photos")
    monkeypatch.setattr(inspection, "near_groups", lambda hashes: (near_groups(hashes)[0], False))
    (told,) = (one.meaning for one in inspect_place(root, processes=1).findings if one.what == "near duplicates")
    assert "the search ended at" in told
    assert "there may be more" in told


def test_photographs_on_a_plain_background_are_not_all_compared(monkeypatch):
    """Along their borders they are alike: rows and columns of cells that say nothing."""
    compared, within = [], likeness._within

    def counted(words, members, most):
        compared.append(len(members) ** 2)
        return within(words, members, most)

    monkeypatch.setattr(likeness, "_within", counted)
    bits = np.random.default_rng(0).integers(0, 2, (600, 2, 8, 8), dtype=np.uint8)
    for edge in (0, 1, 6, 7):
        bits[:, :, edge] = bits[..., edge] = 0
    list(near_pairs([np.packbits(one).tobytes() for one in bits]))
    assert sum(compared) < 600**2 * 0.6


def test_groups_hang_together():
    assert groups([(0, 4), (1, 2), (4, 7), (2, 9)]) == [[0, 4, 7], [1, 2, 9]]
    assert groups([]) == []
