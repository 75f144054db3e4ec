"""Processes that decode: the same pixels as threads to the last bit, and none whose death ends or stops a run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from residual.data import decoders as decoding
from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.decoders import Decoders
from residual.data.folder import Wishes, open_folder
from residual.data.packing import pack
from residual.data.preprocessing import measure
from residual.data.source import everything
from residual.errors import DataError, EnvironmentFault
from tests.conftest import subprocess_environment
from tests.data.photographs import encoded, photographs, picture
from tests.data.test_archives import packed


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = photographs(tmp_path_factory.mktemp("decoded") / "photos", ("cat", "dog"), count=9)
    (folder / "cat" / "large.jpg").write_bytes(encoded(picture(1, 1, (300, 210)), "JPEG"))
    (folder / "dog" / "Ünï🦉 'q'.png").write_bytes(encoded(picture(2, 2, (50, 90), grey=True)))
    return folder


def opened(root, workers="processes", threads=2, **more):
    return open_folder(root, Wishes(image_size=32, threads=threads, workers=workers, **more)).train


def children():
    return [c for c in (*decoding.decoders().free, *decoding.decoders().busy) if c.process is not None]


@pytest.mark.parametrize("augment", [{}, {"crop_scale": (0.2, 1.0)}, {"short_side": (32, 48)}], ids=str)
def test_a_batch_is_the_same_with_threads_and_processes(root, tmp_path, augment):
    archive = packed(root, tmp_path / "photos.tar")
    ways = [(root, "threads", 1), (root, "threads", 8), (root, "processes", 1), (root, "processes", 2)]
    found = []
    for place, workers, count in [*ways, (archive, "threads", 2), (archive, "processes", 2)]:
        more = {"resize": "pad", "interpolation": "bicubic"} if not augment else {}
        source = opened(place, workers, count, **more)
        settings, numbers = AugmentSettings(mirror=True, **augment), everything(source)
        batches = Batches(source, numbers, measure(source, numbers[:4], "mean-std"), settings, 7, 3)
        batches.expect(1)
        found.append(torch.cat([batches.batch_at(step).images for step in range(4)]))
    assert all(torch.equal(other, found[0]) for other in found[1:])
    assert 1 <= len(children()) <= 2


def test_a_pack_needs_none(root, tmp_path):
    place = pack(root, tmp_path / "p", 0).path
    numbers = torch.tensor([4, 0])
    assert torch.equal(opened(place).read(numbers), opened(place, "threads").read(numbers))


def test_a_killed_process_is_started_again_and_costs_nothing(root, caplog):
    source = opened(root, threads=1)
    numbers = everything(source)
    right = source.read(numbers)
    pids = [child.process.pid for child in children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(source.read(numbers), right)
    assert time.monotonic() - began < 60
    assert "a process that decodes images was killed, as the system does when memory runs out" in caplog.text
    assert {child.process.pid for child in children()} - {*pids}


def test_one_that_dies_of_an_image_twice_is_told_with_the_image(root, monkeypatch):
    source = opened(root, threads=1)
    fate = Decoders()
    monkeypatch.setattr(decoding, "start_module", _dying)
    monkeypatch.setattr("residual.data.reading.decoders", lambda: fate)
    with pytest.raises(EnvironmentFault, match=r"the process that decodes it ended with 3, twice \(.*cat/000\.jpg\)"):
        source.read(torch.tensor([0]))


def _program(text):
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)


def _dying(module):
    return _program("import os; os.write(1, b'\\2'); os.read(0, 1); os._exit(3)")


def test_one_that_hangs_is_ended(root, monkeypatch):
    fate = Decoders()
    monkeypatch.setattr(decoding, "SECONDS", 0.3)
    monkeypatch.setattr(decoding, "_TICK", 0.05)
    monkeypatch.setattr(
        decoding, "start_module", lambda module: _program("import os, time; os.write(1, b'\\2'); time.sleep(60)")
    )
    monkeypatch.setattr("residual.data.reading.decoders", lambda: fate)
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"took longer than 0\.3 s, twice"):
        opened(root, threads=1).read(torch.tensor([0]))
    assert time.monotonic() - began < 20
    fate.end()


def test_one_that_cannot_start_is_one_line(root, monkeypatch):
    fate = Decoders()
    monkeypatch.setattr(decoding, "start_module", lambda module: _program("raise MemoryError"))
    monkeypatch.setattr("residual.data.reading.decoders", lambda: fate)
    with pytest.raises(EnvironmentFault, match=r"cannot start: it ended with 1 .*data\.workers=threads"):
        opened(root, threads=1).read(torch.tensor([0]))


def test_what_rests_is_ended(root, monkeypatch):
    source = opened(root, threads=1)
    source.read(torch.tensor([0]))
    monkeypatch.setattr(decoding, "REST", 0.0)
    until = time.monotonic() + 20
    while children() and time.monotonic() < until:
        time.sleep(0.05)
    assert not children()


def test_a_bad_file_is_named_as_threads_name_it(tmp_path):
    root = photographs(tmp_path / "photos", ("cat", "dog"), count=4)
    source = opened(root)
    (root / "cat" / "000.jpg").unlink()
    (root / "dog" / "001.png").write_bytes((root / "dog" / "003.png").read_bytes())
    with pytest.raises(DataError, match=r"gone since the folder was scanned .*cat/000\.jpg"):
        source.read(torch.arange(8))
    with pytest.raises(DataError, match=r"changed since it was checked .*dog/001\.png"):
        source.read(torch.arange(4, 8))


def test_no_process_outlives_one_that_was_killed(tmp_path):
    """A program without `if __name__ == "__main__"`, killed -9 while its processes rest."""
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from residual.data.workers import start_module\n"
        "process = start_module('residual.data.decoder')\n"
        "process.stdout.read(1)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, program], env=subprocess_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 1
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pids[0]}") and time.monotonic() < until:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pids[0]}")
