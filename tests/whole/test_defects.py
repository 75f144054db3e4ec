"""A folder with every defect: `data check` names each, training lists them, evaluation stops; mutated files."""

from __future__ import annotations

import io
import json
import os
import random
import sys
from pathlib import Path

import pytest
from PIL import Image

import residual
from campaigns import mutated, readme
from residual.data.inspection import inspect_place
from residual.errors import DataError
from residual.runs.folder import RunFolder
from tests.data.photographs import encoded, fill, picture
from tests.data.test_images import FOREIGN
from tests.data.test_inspection import SMOOTH, bomb, defective

SMALL = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "steps": 2, "data.image_size": 32}


def every_defect(root: Path) -> tuple[set[str], set[str]]:
    """Two classes with a file of every defect of hostile inputs 8 to 20; those unusable, and those only odd."""
    defective(root)
    bad = {f"a/{name}" for name in ("empty.jpg", "page.jpg", "cut.jpg", "corrupt.png", "photoshop.jpg")}
    whole, a = encoded(SMOOTH, "JPEG", quality=95), root / "a"
    for place in range(1024, len(whole), 1024):
        (a / f"cut{place}.jpg").write_bytes(whole[:place])
        bad.add(f"a/cut{place}.jpg")
    (a / "bomb.png").write_bytes(bomb())
    for name, data in FOREIGN.items():
        (a / f"is {name}.jpg").write_bytes(data)
        bad.add(f"a/is {name}.jpg")
    bad.add("a/bomb.png")
    (a / "folder.jpg").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(a / "pipe.png")
        bad.add("a/pipe.png")
    odd = {f"b/turned{way}.jpg" for way in range(1, 9)}
    for number, name in enumerate(sorted(odd)):
        exif = Image.Exif()
        exif[0x0112] = number + 1
        (root / name).write_bytes(encoded(picture(40 + number, 1), "JPEG", exif=exif))
    profile = io.BytesIO()
    picture(60, 1).save(profile, "PNG", icc_profile=b"no profile at all")
    (root / "b" / "profile.png").write_bytes(profile.getvalue())
    broken_exif = encoded(picture(61, 1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9))
    (root / "b" / "exif.jpg").write_bytes(broken_exif)
    (root / "b" / "line.png").write_bytes(encoded(picture(62, 1, (1, 3000))))
    fill(root / "a", 60, 0, 200)
    return bad, odd | {"b/profile.png", "b/exif.jpg", "b/line.png"}


def test_every_defect_is_named_left_out_of_training_and_stops_an_evaluation(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    bad, odd = every_defect(root)
    found = inspect_place(root, processes=1)
    rows = {row["path"]: row for row in found.files}
    assert {path for path, row in rows.items() if row["fault"]} == bad
    assert odd <= set(rows)
    named = {path for one in found.findings for path in one.files}
    assert bad | (odd - {"b/turned1.jpg", "b/profile.png", "b/exif.jpg"}) <= named
    share = len(bad) / len(rows)
    with pytest.raises(DataError, match=rf"{len(bad)} of {len(rows)} images cannot be used, more than the share"):
        residual.train(str(root), set=SMALL, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    run = residual.train(str(root), set={**SMALL, "data.quarantine": share + 0.01}, out=tmp_path / "run")
    assert run.result() is not None
    split = RunFolder.open(tmp_path / "run").split()
    assert set(split["left_out"]) == bad
    files = {*split["files"]["training"], *split["files"]["validation"]}
    assert not files & bad
    assert odd <= files
    report = residual.evaluate(run.path, device="cpu")
    assert report.evaluation.images == len(split["files"]["validation"])
    with pytest.raises(DataError, match="no figure is made of fewer images"):
        residual.evaluate(run.path, data=str(_another(root, tmp_path / "others")), device="cpu")


def _another(root: Path, folder: Path) -> Path:
    """Two sound images and one that was cut."""
    for name in ("a", "b"):
        fill(folder / name, 1, 0, 500)
    (folder / "a" / "cut.jpg").write_bytes((root / "a" / "cut.jpg").read_bytes())
    return folder


def test_a_truncated_jpeg_among_many_does_not_end_a_run_and_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for colour, name in enumerate(("a", "b")):
        fill(root / name, 60, colour)
    whole = (root / "a" / "000.jpg").read_bytes()
    (root / "a" / "000.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    run = residual.train(str(root), set={**SMALL, "steps": 5}, out=tmp_path / "run")
    assert set(run.split()["left_out"]) == {"a/000.jpg"}
    result = run.result()
    assert result is not None
    assert result["images_seen"] >= len(run.split()["training"])


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_and_nothing_else() -> None:
    found = mutated.examine(seed=1, count=100)
    assert (found["sound"], found["faults"]) == (100, [])
    assert min(found["read"], found["refused"]) > 20
    assert "100 of 100 without a crash" in readme.ROWS["mutated"](found)[1]


def test_every_mutation_changes_a_file_and_follows_from_its_number() -> None:
    files = mutated.sound_files()
    assert {mutated.judge(data) for data in files.values()} == {"read"}
    for how, spoil in mutated.SPOILT.items():
        changed = 0
        for data in files.values():
            changed += bytes(spoil(bytearray(data), random.Random(7))) != data
        assert changed >= len(files) - 2, how
    assert mutated.case(files, 0, 5) == mutated.case(files, 0, 5)
    assert {mutated.case(files, 0, number)[1] for number in range(60)} == set(mutated.SPOILT)


def test_a_decoder_that_dies_hangs_or_raises_is_found() -> None:
    answer = "print(json.dumps({'number': n, 'file': 'x', 'how': 'y', 'found': found}), flush=True)"
    program = (
        "import json, os, sys, time\n"
        "for n in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        "    n == 2 and os._exit(5)\n"
        "    n == 4 and time.sleep(60)\n"
        "    found = 'ValueError: x' if n == 6 else 'read'\n"
        f"    {answer}\n"
    )
    found = mutated.examine(0, 8, [sys.executable, "-c", program], limit=1.0)
    faults = [(fault["number"], fault["what"]) for fault in found["faults"]]
    assert faults == [(2, "died"), (4, "hung"), (6, "answered")]
    assert found["sound"] == 5
    assert json.dumps(found)
