"""Tables of paths and labels: what they may look like, and every fault with its line."""

from __future__ import annotations

import os

import pytest
import torch

from residual.data import tables
from residual.data.concerns import concerns
from residual.data.datasets import DataSettings, divide, open_dataset
from residual.data.folder import Wishes, open_folder
from residual.data.places import scan
from residual.data.source import everything, names
from residual.errors import DataError, UsageError
from tests.data.photographs import encoded, photographs, picture

WISHES = Wishes(image_size=32)


@pytest.fixture
def root(tmp_path):
    return photographs(tmp_path / "photos", count=4)


def rows(root, *more):
    """(path, label, ...) of every photograph, by name."""
    paths = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    return [
        (path.relative_to(root).as_posix(), path.parent.name, *(f(n) for f in more)) for n, path in enumerate(paths)
    ]


def table(root, lines, name="t.csv", end="\n", encoding="utf-8"):
    path = root / name
    mark = "\t" if name.endswith("tsv") else ","
    text = end.join(line if isinstance(line, str) else mark.join(map(str, line)) for line in lines) + end
    path.write_bytes(text.encode(encoding))
    return path


def refusal(path, **wishes):
    with pytest.raises(DataError) as caught:
        open_folder(path, Wishes(image_size=32, **wishes))
    assert str(caught.value).isprintable()
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("head", "name"),
    [(["path,label"], "t.csv"), ([], "t.csv"), (["File\tCLASS"], "t.tsv"), (["where,what"], "t.csv")],
)
def test_a_table_is_read_as_the_folder_it_names(root, end, encoding, head, name):
    path = table(root, [*head, *rows(root)], name, end, encoding)
    one, other = open_folder(root, WISHES), open_folder(path, WISHES)
    assert one.class_names == other.class_names
    numbers = everything(one.train)
    assert names(one.train, numbers) == names(other.train, numbers)
    assert torch.equal(one.train.read(numbers), other.train.read(numbers))
    assert one.checksums["images"] == other.checksums["images"]


def test_columns_may_stand_anywhere_and_parts_have_names(root):
    lines = [(label, n, ("train", "val", "TEST")[n % 3], path) for n, (path, label) in enumerate(rows(root))]
    dataset = open_folder(table(root, ["target;x;split;file", *(";".join(map(str, line)) for line in lines)]), WISHES)
    assert dataset.validation is not None
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [4, 4, 4]


# Other names of columns


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("fname,labels,is_valid", ("False", "True")),
        ("path,label,phase", ("train", "val")),
        ("f,l,is_valid", ("0", "1")),
    ],
)
def test_a_division_by_another_name_is_kept(root, head, values):
    dataset = open_folder(table(root, [head, *rows(root, lambda n: values[n % 3 == 0])]), WISHES)
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (8, 4, 0)
    assert dataset.class_names == ("cat", "dog", "owl")


def test_a_division_that_cannot_be_understood_is_refused(root):
    assert "line 2: no part is named 'solid'" in refusal(
        table(root, ["path,label,phase", *rows(root, lambda n: "solid")])
    )
    line = refusal(table(root, ["path,label,is_valid", *rows(root, lambda n: "maybe")]))
    assert "line 2: is_valid is 'maybe' " in line
    assert "write true or false" in line


def test_columns_that_are_not_used_are_told(root, caplog):
    caplog.set_level("INFO", "residual")
    path = table(root, ["path,label,fold,split", *rows(root, lambda n: n % 5, lambda n: "train")])
    scan(path)
    said = f"columns used: path (path), label (label), split (part); not used: 'fold' ({path})"
    assert caplog.messages == [said]
    caplog.clear()
    scan(table(root, ["path,label", *rows(root)]))
    assert caplog.messages == []


@pytest.mark.parametrize("head", [["path,label,usage"], []])
def test_a_column_that_looks_like_a_division_is_told(root, head, caplog):
    scan(table(root, [*head, *rows(root, lambda n: ("train", "test")[n % 3 == 0])]))
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith(f"the column {'usage' if head else 3} divides the images (test, train) and is not used")


def test_a_name_of_fastai_alone_asks_for_no_other(root):
    for head in ("fname,breed", "where,labels"):
        assert scan(table(root, [head, *rows(root)])).parts["all"].keys() == {"cat", "dog", "owl"}


@pytest.mark.parametrize("first", ["missing,cat", "missing.jpg.part,mouse"])
def test_a_first_line_like_the_others_is_no_header(root, first):
    (root / "x.part").write_bytes((root / "cat" / "000.jpg").read_bytes())
    line = refusal(table(root, [first, *rows(root), "x.part,mouse"]))
    assert f"line 1: '{first.split(',')[0]}' is no file and no header, for line " in line


def test_a_first_line_that_is_taken_for_the_header_is_told(root, caplog):
    caplog.set_level("INFO", "residual")
    path = table(root, ["where,what", *rows(root)])
    scan(path)
    assert caplog.messages == [f"line 1 is taken for the header: 'where', 'what' ({path})"]


def test_several_labels_in_a_cell_are_no_class(root):
    lines = rows(root)
    lines[5] = (lines[5][0], "owl cat")
    line = refusal(table(root, ["fname,labels", *lines]))
    assert "line 7: several labels in a cell, 'owl cat'" in line
    assert len(open_folder(table(root, ["fname,label", *lines]), WISHES).class_names) == 4
    lines[5] = (lines[5][0], "barn owl")
    assert "barn owl" in open_folder(table(root, ["fname,labels", *lines]), WISHES).class_names


def test_numbers_are_classes_in_their_order(root):
    lines = [(path, int(path[-6:-4]) % 12 if label else 0) for path, label in rows(root)]
    lines = [(path, n) for n, (path, _) in enumerate(lines)]
    dataset = open_folder(table(root, ["path,label", *lines]), WISHES)
    assert dataset.class_names == tuple(map(str, range(12)))


def test_other_labels_are_other_data(root):
    lines = rows(root)
    first = open_folder(table(root, lines), WISHES).checksums
    lines[0] = (lines[0][0], "dog")
    second = open_folder(table(root, lines), WISHES).checksums
    assert first["images"] == second["images"]
    assert first["labels"] != second["labels"]


FAULTS = {
    "missing column": (["path,colour", "a,b"], "line 1: no column of labels: found 'path', 'colour'"),
    "no label": (["path,label", "cat/000.jpg,cat", "cat/001.png"], "line 3: no label"),
    "twice": (["path,label", "cat/000.jpg,a", "cat/001.png,b", "./cat/000.jpg,a"], "line 4: 'cat/000.jpg' stands"),
    "below the range": (["cat/000.jpg,0", "cat/001.png,-1"], "line 2: label -1 is out of range: 2 different labels"),
    "beyond the range": (["cat/000.jpg,0", "cat/001.png,1", "cat/002.jpg,50"], "line 3: label 50 is out of"),
    "two spellings": (["cat/000.jpg,0", "cat/001.png,1", "cat/002.jpg,01"], "line 3: label '01'"),
    "NUL": (["path,label", "cat/000.jpg,c\0at"], "line 2: a NUL byte"),
    "no file": (["path,label", "cat/nowhere.jpg,cat"], "line 2: 'cat/nowhere.jpg': no such file"),
    "outside": (["path,label", "../x.jpg,cat"], "line 2: '../x.jpg' lies outside"),
    "absolute": (["path,label", "/etc/passwd,cat"], "line 2: '/etc/passwd' lies outside"),
    "no part": (["path,label,split", "cat/000.jpg,cat,dev"], "line 2: no part is named 'dev'"),
    "some parts": (["path,label,split", "cat/000.jpg,cat,train", "cat/001.png,cat,"], "line 3: its part is empty"),
    "quotes": (["path,label", '"cat/000.jpg"x,cat'], "line 2: not a line of a table"),
    "two columns": (["path,label,label", "cat/000.jpg,a,b"], "line 1: two columns are named 'label'"),
    "control": (["path,label", "cat/000.jpg,\x1b[31m"], "line 2: no label"),
    "later control": (["path,label", "cat/000.jpg,a", "cat/001.png,\x1b[31m"], "line 3: no label"),
    "long": (["path,label", "cat/000.jpg,a", f"cat/001.png,{'b' * 256}"], "line 3: no label"),
    "nothing": (["path,label"], "names no image"),
    "empty": ([""], "names no image"),
}  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="paths as POSIX has them")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_line(root, name):
    lines, words = FAULTS[name]
    assert words in refusal(table(root, lines))


def test_what_is_no_text_is_told_with_its_line(root):
    path = table(root, rows(root))
    path.write_bytes(path.read_bytes() + b"cat/\xff,cat\n")
    assert "line 13: not UTF-8" in refusal(path)


def test_an_endless_line_never_fills_the_memory(root):
    path = table(root, rows(root)[:2])
    with open(path, "r+b") as stream:
        stream.seek(0, 2)
        stream.truncate(stream.tell() + (1 << 30))  # a gigabyte without a line end
    assert f"line 3: longer than {tables.LONGEST_LINE:,} bytes" in refusal(path)


def test_a_cell_in_quotes_may_hold_any_line_end(root, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_LINE", 40)  # parts of lines end anywhere, also between \r and \n
    for end in ("\n", "\r\n", "\r"):
        lines = [(path, label, '"a\r\nb\rc"') for path, label in rows(root)]
        for more in range(28):
            found = scan(table(root, ["path,label," + "x" * more, *lines], end=end)).parts["all"]
            assert [len(held.files) for held in found.values()] == [4, 4, 4]


def test_lines_are_bounded(root, monkeypatch):
    monkeypatch.setattr(tables, "MOST_LINES", 5)
    assert "more than 5 lines" in refusal(table(root, rows(root)))


def test_the_real_place_of_a_folder_is_found_out_once(root, monkeypatch):
    asked, realpath = [], os.path.realpath

    def counted(path):
        asked.append(str(path))
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counted)
    scan(table(root, rows(root)))
    assert len([path for path in asked if str(root) in path]) <= 4 < len(rows(root))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_an_image_outside_is_none_of_the_folder(root, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(encoded(picture(5)))
    for name, leads in (("out.png", tmp_path / "elsewhere.png"), ("way", tmp_path)):
        (root / name).symlink_to(leads)
    for path in ("out.png", "way/elsewhere.png"):
        assert "lies outside of the table's folder" in refusal(table(root, [*rows(root), (path, "cat")], "u.csv"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_path_that_leads_out_needs_a_flag(root, tmp_path):
    outside = photographs(tmp_path / "outside", ["x"], 2)
    path = table(root, [*rows(root), (outside / "x" / "000.jpg", "cat"), ("../outside/x/001.png", "dog")])
    assert "line 13" in refusal(path)
    dataset = open_folder(path, Wishes(image_size=32, follow_links=True))
    assert len(dataset.train) == 14
    assert dataset.train.read(everything(dataset.train)).shape[0] == 14


def test_parts_with_other_labels_are_told_in_words_of_tables(root):
    lines = [(path, label, "train") for path, label in rows(root)]
    path = table(root, ["path,label,split", *lines[:-1], (*lines[-1][:2], "test")])
    assert len(open_folder(path, WISHES).test) == 1
    path = table(root, ["path,label,split", *lines[:-1], (lines[-1][0], "emu", "test")])
    line = refusal(path)
    assert "has 'emu' as well" in line
    assert "give every part the same labels" in line


# Groups


def grouped(root, *more, head="path,label,patient"):
    return table(root, [head, *rows(root, lambda n: f"p{n % 4}", *more)])


@pytest.mark.parametrize("share", [0.2, 0.25, 0.5])
def test_a_division_separates_no_group(root, share):
    settings = DataSettings(dataset="folder", path=str(grouped(root)), image_size=32, group="patient", validation=share)
    dataset = open_dataset(settings)
    found = divide(dataset, settings)
    assert dataset.groups is not None
    sides = [set(dataset.groups[numbers].tolist()) for numbers in (found.training, found.validation)]
    assert not sides[0] & sides[1]
    assert sides[1]
    again = divide(open_dataset(settings), settings)
    assert torch.equal(again.validation, found.validation)


def test_the_test_images_are_a_side_as_well(root):
    dataset = open_folder(grouped(root), Wishes(image_size=32, group="patient", test=0.25))
    by_name = {path: group for path, _, group in rows(root, lambda n: f"p{n % 4}")}
    sides = [{by_name[n] for n in names(part, everything(part))} for part in (dataset.train, dataset.test)]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_a_share_for_the_test_that_no_group_fits_is_refused(root):
    path = table(root, ["path,label,group", *rows(root, lambda n: f"p{n % 2}")])
    settings = DataSettings(dataset="folder", path=str(path), image_size=32, test=0.05, validation=0)
    with pytest.raises(DataError, match=r"no group is small enough to set a share of 0\.05 .*: raise data\.test"):
        divide(open_dataset(settings), settings)


def test_a_column_named_group_needs_no_word(root):
    dataset = open_folder(grouped(root, head="path,label,group"), WISHES)
    assert dataset.groups is not None
    assert len(dataset.groups.unique()) == 4
    assert open_folder(grouped(root), WISHES).groups is None


def test_a_group_on_both_sides_of_a_given_division_is_refused(root):
    lines = rows(root, lambda n: f"p{n // 2}", lambda n: "val" if n % 2 else "train")
    assert "the group 'p0' has images in the train part and in the validation part" in refusal(
        table(root, ["path,label,group,split", *lines])
    )


def test_few_groups_that_are_held_are_told(root):
    settings = DataSettings(dataset="folder", path=str(grouped(root)), image_size=32, group="patient", validation=0.25)
    dataset = open_dataset(settings)
    found = divide(dataset, settings)
    (told,) = (line for line in concerns(dataset, found.training, found.validation) if "groups" in line)
    assert told.startswith("the 3 validation images come from 1 of 4 groups: ")
    assert told.endswith("raise data.validation")


def test_labels_that_differ_in_case_are_told(root, caplog):
    path, label = rows(root)[0]
    open_folder(table(root, ["path,label", *rows(root)]), WISHES)
    assert "case" not in caplog.text
    open_folder(table(root, ["path,label", (path, label.upper()), *rows(root)[1:]]), WISHES)
    assert "classes differ only in case: 'CAT', 'cat'" in caplog.text
    assert "each is a class of its own" in caplog.text


def test_groups_that_are_none(root, tmp_path):
    assert "no column is named 'patent'" in refusal(grouped(root), group="patent")
    with pytest.raises(UsageError, match="only a table"):
        open_folder(photographs(tmp_path / "other"), Wishes(group="patient"))
    settings = DataSettings(dataset="folder", path=str(grouped(root, head="path,label,group")), validation=0.01)
    with pytest.raises(DataError, match="no group is small enough"):
        divide(open_dataset(settings), settings)
