"""A file that this program did not write is never overwritten, whichever command is to write there."""

from __future__ import annotations

import pytest

from residual.analysis.style import is_ours
from tests.cli.conftest import few_figures
from tests.data.photographs import encoded, photographs, picture

ROOM = ("--set", "network.name=resnet-8", "--set", "network.widths=[4,4,4]", "--set", "data.limit=100")
WRITES = {
    "curves": ("curves", "run", "--out", "{}.png"),
    "report": ("report", "run", "--out", "{}.html"),
    "find-lr": ("find-lr", "digits", *ROOM, "--steps", 10, "--batch-size", 8, "--out", "{}.png"),
    "data show": ("data", "show", "digits", "--set", "batch_size=4", "--out", "{}.png"),
    "reproduce": ("reproduce", "--claims", "H01", "--out", "{}.html"),
    "reproduce --markdown": ("reproduce", "--claims", "H01", "--markdown", "{}.md"),
}


@pytest.mark.parametrize("words", WRITES.values(), ids=WRITES)
def test_what_stands_there_is_kept_and_what_is_ours_replaced(say, finished, here, monkeypatch, words):
    suffix = words[-1].removeprefix("{}")
    (here / f"mine{suffix}").write_text("mine")
    few_figures(monkeypatch)
    said = say(*(str(word).format("mine") for word in words))
    assert said.code == 2, said.err
    assert "something else stands there already" in said.err
    assert f"name another place with {words[-2]}" in said.err
    assert (here / f"mine{suffix}").read_text() == "mine"
    for turn in range(2):
        said = say(*(str(word).format("new") for word in words))
        assert said.code == 0, said.err
        assert ("of an earlier call will be replaced" in said.err) == bool(turn)
    assert (here / f"new{suffix}").stat().st_size > 100


def test_figures_of_a_report_are_refused_among_pictures_of_others(say, finished, here, monkeypatch):
    few_figures(monkeypatch)
    album = here / "album"
    album.mkdir()
    mine = encoded(picture(0))
    (album / "confusion.png").write_bytes(mine)
    (album / "holiday.png").write_bytes(mine)
    said = say("report", "run", "--figures", "album")
    assert said.code == 2
    assert "album/confusion.png" in said.err.replace("\\", "/")
    assert not (here / "run" / "report.html").exists()
    (album / "confusion.png").unlink()
    assert say("report", "run", "--figures", "album").code == 0
    assert (album / "holiday.png").read_bytes() == mine
    assert is_ours(album / "confusion.png")
    assert say("report", "run", "--figures", "album").code == 0


@pytest.mark.parametrize("words", [("data", "show", "photos"), ("find-lr", "photos", *ROOM, "--steps", 10)])
def test_no_picture_is_drawn_among_the_images(refused, here, words):
    photographs(here / "photos")
    refused(2, [*words, "--out", "photos/cat/new.png"], "the file would lie among the images")


def test_a_picture_in_the_working_folder_is_not_replaced_unasked(say, here):
    (here / "find-lr.png").write_bytes(encoded(picture(0)))
    said = say("find-lr", "digits", *ROOM, "--steps", 10, "--batch-size", 8)
    assert said.code == 0
    assert "the picture was not drawn: something else stands there already" in said.err
    assert not is_ours(here / "find-lr.png")
