"""`residual import`, `export` and `card`: files out and in through the command line, and their refusals."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import residual
from residual.data import weights
from residual.data.images import decode, read_image
from residual.evaluation.classifier import Classifier
from residual.models.interchange import class_names, published
from residual.models.interchange.published import Published
from tests.data.lying_server import closed_port, serving, whole
from tests.data.photographs import photographs
from tests.models.interchange.broken import OWNED, Evil, saved
from tests.models.interchange.layouts import Layers, cifar, make_resnet

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def small(here: Path) -> str:
    """Weights of the CIFAR code for three classes, wrapped as DataParallel saves them."""
    state = make_resnet((1, 1, 1), (4, 8, 16), False, 3, "cifar")
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    (here / "small.th").write_bytes(saved({"state_dict": wrapped, "best_prec1": 91.2}))
    (here / "names.txt").write_text("\n".join(NAMES) + "\n")
    return "small.th"


def test_foreign_weights_evaluate_and_predict(say, small, here):
    said = say("import", small, "--to", "net", "--classes", "names.txt")
    assert said.code == 0, said.err
    for words in ("cifar", "begin with module.", "taken: state_dict", "left aside: best_prec1", "ImageNet's constants"):
        assert words in said.out
    photographs(here / "photos", NAMES, 4)
    rows = json.loads(say("predict", "net", "photos", "--format", "json", "--top-k", 3).out)
    state = make_resnet((1, 1, 1), (4, 8, 16), False, 3, "cifar")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    sight = Classifier.load(here / "net").preprocessing
    for row in rows[:3]:
        pixels = read_image(Path(row["file"]), sight)
        with torch.no_grad():
            expected = cifar(Layers(state), ((pixels / 255 - mean) / std).unsqueeze(0)).softmax(1)[0]
        shares = {p["class"]: p["probability"] for p in row["predictions"]}
        assert [shares[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-4)
    judged = json.loads(say("evaluate", "net", "--data", "photos", "--json").out)
    assert (judged["images"], judged["step"]) == (12, 0)
    said = say("evaluate", "net", "--data", "photos").out
    assert said.startswith("net on ")
    assert "step" not in said.splitlines()[0]


def test_what_is_said_of_the_images_goes_before_what_is_usual(say, refused, small, here):
    asked = ("--image-size", 40, "--mean", "0.5,0.4,0.3", "--std", "0.25,0.5,0.2", "--resize", 50)
    said = say("import", small, "--to", "net", "--classes", "names.txt", *asked)
    assert said.code == 0, said.err
    assert "constants: as asked" in said.out
    grey = ("--channels", 1, "--mean", 0.5, "--std", 0.25)
    assert say("import", small, "--to", "grey", *grey).code == 0
    assert Classifier.load(here / "grey").preprocessing.mean.flatten().tolist() == [0.5]
    sight = Classifier.load(here / "net").preprocessing
    assert (sight.image_size, sight.crop) == ((40, 40), 0.8)
    assert sight.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert sight.std.flatten().tolist() == pytest.approx([0.25, 0.5, 0.2])
    again = ["import", small, "--to", "other"]
    refused(2, [*again, "--mean", "0.5,0.5,0.5"], "--mean and --std belong together")
    refused(2, [*again, "--mean", "0.5", "--std", "0.5"], "1 given, and the images have 3 channels", "--mean")
    refused(2, [*again, "--mean", "124,116,104", "--std", "1,1,1"], "of pixels from 0 to 1", "--mean")
    refused(2, [*again, "--mean", "0,0,0", "--std", "1,0,1"], "--std")
    refused(2, [*again, "--image-size", 4], "--image-size", "between 8 and 4096")


def test_where_it_came_from_is_kept(say, small, here):
    facts = json.loads(say("import", small, "--to", "net", "--classes", "names.txt", "--json").out)
    digest = hashlib.sha256((here / small).read_bytes()).hexdigest()
    assert (facts["sha256"], facts["network"]["shortcut"], facts["report"]["missing"]) == (digest, "A-both", [])
    origin = Classifier.load(here / "net").provenance["imported"]
    assert (origin["file"], origin["sha256"], origin["library"]) == ("small.th", digest, "cifar")
    assert origin["report"]["matched"] == facts["report"]["matched"] > 20


def test_without_images_of_its_own_it_asks_for_them(say, refused, small):
    say("import", small, "--to", "net")
    refused(3, ["evaluate", "net"], "no such folder (the images its weights were trained on)", "--data")


def test_folders_with_names_are_not_judged_by_numbers(say, refused, small, here):
    say("import", small, "--to", "net")
    photographs(here / "photos", NAMES, 1)
    words = "the classes of the network are only numbered, and those of the folder have names, 'cat', 'dog', 'owl'"
    refused(3, ["evaluate", "net", "--data", "photos"], words, "import its weights again with --classes FILE")
    for number in range(3):
        (here / "photos" / NAMES[number]).rename(here / "photos" / f"class {number}")
    assert say("evaluate", "net", "--data", "photos").code == 0


def test_resized_to_256_and_cut_to_224(say, here):
    state = make_resnet((1, 1, 1, 1), (2, 4, 4, 4), False, 1000)
    safetensors.torch.save_file(state, here / "tv.safetensors")
    said = say("import", "tv.safetensors", "--to", "net")
    assert "timm names these tensors alike" in said.out
    assert "the 1000 of ImageNet" in said.out
    made = Classifier.load(here / "net")
    assert (made.class_names[0], made.class_names[999], len(set(made.class_names))) == ("tench", "toilet tissue", 1000)
    photographs(here / "photos", ["cat"], 1)
    (file,) = (here / "photos" / "cat").iterdir()
    whole = decode(file, 3)
    larger = torch.nn.functional.interpolate(
        whole[None], (256, 284), mode="bilinear", antialias=True, align_corners=False
    )[0]
    assert tuple(whole.shape[1:]) == (36, 40)
    assert torch.equal(read_image(file, made.preprocessing), larger[:, 16:240, 30:254])
    say("import", "tv.safetensors", "--to", "other", "--resize", 232, "--channels", 1)
    other = Classifier.load(here / "other")
    assert other.preprocessing.crop == pytest.approx(224 / 232)
    assert other.spec.channels == other.preprocessing.channels == 1


def test_evaluate_and_predict_see_the_same_part_of_an_image(say, here):
    state = make_resnet((1, 1, 1, 1), (2, 4, 4, 4), False, 3)
    safetensors.torch.save_file(state, here / "tv.safetensors")
    (here / "names.txt").write_text("\n".join(NAMES))
    say("import", "tv.safetensors", "--to", "net", "--classes", "names.txt")
    photographs(here / "photos", NAMES, 2)
    rows = json.loads(say("predict", "net", "photos", "--format", "json").out)
    shares = [{p["class"]: p["probability"] for p in row["predictions"]} for row in rows]
    losses = [-math.log(share[Path(row["file"]).parent.name]) for row, share in zip(rows, shares, strict=True)]
    judged = json.loads(say("evaluate", "net", "--data", "photos", "--json").out)
    assert judged["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_a_network_for_imagenet_is_judged_on_its_folders(say, refused, here):
    """`val/n01440764/...`, as the images are given out, and the names by which the network calls its classes."""
    state = make_resnet((1, 1, 1, 1), (2, 4, 4, 4), False, 1000)
    safetensors.torch.save_file(state, here / "tv.safetensors")
    say("import", "tv.safetensors", "--to", "net")
    found = []
    for place, classes in (("numbers", ["n01440764", "n15075141"]), ("names", ["tench", "toilet tissue"])):
        photographs(here / place / "val", classes, 2)
        said = say("evaluate", "net", "--data", here / place / "val", "--json")
        assert said.code == 0, said.err
        found.append(json.loads(said.out))
    assert found[0]["loss"] == found[1]["loss"]
    assert found[0]["confusion"] == found[1]["confusion"]
    assert {row["true"] for row in found[0]["most_wrong"]} <= {0, 999}
    photographs(here / "other", ["n01440764", "n99999999"], 1)
    refused(3, ["evaluate", "net", "--data", "other"], "classes the network does not know, 'n99999999'")


def test_numbers_and_names_of_imagenet_stand_in_one_order():
    numbers, names = class_names.imagenet_numbers(), class_names.imagenet_names()
    assert len({*numbers}) == len(names) == 1000
    assert list(numbers) == sorted(numbers)
    known = dict(zip(numbers, names, strict=True))
    assert (known["n01440764"], known["n02123045"], known["n03977966"]) == ("tench", "tabby", "police van")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (("preprocessing", "train_size"), [5]),
        (("provenance", "data"), "x"),
        (("provenance", "data"), {"name": "cifar-10", "origin": 5}),
        (("provenance", "data"), {"name": "nowhere", "origin": "", "checksums": {}}),
        (("provenance", "data"), {"name": "digits", "origin": "", "checksums": {"a": 1}}),
        (("provenance", "step"), "7"),
        (("class_names",), "abc"),
    ],
)
def test_a_description_that_was_changed_is_one_line(say, refused, finished, here, part, value):
    say("export", finished, "--to", "safetensors", "--out", "x.safetensors")
    data = (here / "x.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = json.loads(header["__metadata__"]["residual"])
    place = text
    for name in part[:-1]:
        place = place[name]
    place[part[-1]] = value
    tensors = safetensors.torch.load(data)
    safetensors.torch.save_file(tensors, here / "y.safetensors", {"residual": json.dumps(text)})
    refused(4, ["import", "y.safetensors", "--to", "net"], "description cannot be used", "y.safetensors")


def test_a_checkpoint_of_lightning_is_read_by_its_name(say, small, here):
    os.rename(small, "last.ckpt")
    said = say("import", "last.ckpt", "--to", "net")
    assert said.code == 0, said.err
    assert "residual import last.ckpt --to last" in say("predict", "last.ckpt", "a.png").err


def test_classes_are_named_by_the_description_beside_the_weights(say, small, here):
    (here / "config.json").write_text(json.dumps({"architecture": "resnet20", "label_names": list(NAMES)}))
    said = say("import", small, "--to", "net")
    assert "as the config.json beside the weights names them" in said.out
    assert Classifier.load(here / "net").class_names == NAMES
    (here / "config.json").write_text(json.dumps({"label_names": ["a", "b"]}))
    assert "not known, numbered" in say("import", small, "--to", "other").out


def test_by_name_it_is_downloaded_verified_and_kept(say, refused, here, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(here / "cache"))
    data = saved(make_resnet((1, 1, 1, 1), (2, 4, 4, 4), False, 3))
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    monkeypatch.setitem(published.TORCHVISION, "resnet18", Published(name, 232))
    kept = here / "cache" / "weights" / name
    kept.parent.mkdir(parents=True)
    monkeypatch.setattr(weights, "HOST", f"http://127.0.0.1:{closed_port()}/")
    asked = ["import", "torchvision:resnet18", "--to", "net"]
    refused(3, asked, f"/{name} by other means (SHA-256 {name[9:17]}...) and put it there", str(kept))
    with serving(good=whole(data), other=whole(data[::-1])) as server:
        monkeypatch.setattr(weights, "HOST", server.address("other") + "/")
        refused(3, asked, name)
        assert not kept.exists()
        monkeypatch.setattr(weights, "HOST", server.address("good") + "/")
        said = say(*asked)
        assert said.code == 0, said.err
        assert server.asked[-1] == f"/good/{name}"
    assert kept.read_bytes() == data
    assert say("import", "torchvision:resnet18", "--to", "again").code == 0  # the server is gone
    for side in (128, 448):  # of images of another size the same share is kept
        assert say("import", "torchvision:resnet18", "--to", f"of-{side}", "--image-size", side).code == 0
        sight = Classifier.load(here / f"of-{side}").preprocessing
        assert sight.image_size == (side, side)
        assert sight.crop == pytest.approx(224 / 232, abs=0.004)
    made = Classifier.load(here / "net")
    assert made.preprocessing.crop == pytest.approx(224 / 232)
    assert made.provenance["imported"]["sha256"] == hashlib.sha256(data).hexdigest()
    refused(2, ["import", "torchvision:resnet51", "--to", "x"], "no weights are named", "resnet50")
    refused(2, ["import", "caffe:resnet50", "--to", "x"], "no weights are known of 'caffe'")


def test_refusals(refused, small, here):
    (here / "taken").mkdir()
    (here / "taken" / "file").touch()
    (here / "two.txt").write_text("cat\ndog\n")
    (here / "twice.txt").write_text("cat\ndog\ncat\n")
    (here / "evil.pth").write_bytes(saved({"state_dict": Evil()}))
    refused(2, ["import", small, "--to", "taken"], "something stands there already (taken)")
    refused(2, ["import", small, "--to", "x", "--classes", "two.txt"], "2 names for 3 classes")
    refused(2, ["import", small, "--to", "x", "--classes", "twice.txt"], "is there twice: cat")
    refused(2, ["import", small, "--to", "x", "--classes", "none.txt"], "cannot be read")
    refused(2, ["import", small, "--to", "x", "--channels", 0], "--channels")
    refused(2, ["import", small, "--to", "x", "--resize", 8], "--resize")
    refused(4, ["import", small, "--to", "x", "--from", "keras"], "has not the names of keras, but of cifar")
    refused(4, ["import", small, "--to", "x", "--part", "ema"], "no part 'ema'", "choose one of state_dict")
    refused(4, ["import", "evil.pth", "--to", "x"], "nothing was run: the file asks for")
    refused(4, ["import", "nothing.pth", "--to", "x"], "no such file (nothing.pth)")
    assert not os.path.lexists(here / OWNED)


# Out, and in again


def test_a_run_goes_out_and_comes_back(say, finished):
    assert say("export", finished, "--to", "safetensors", "--out", "x.safetensors").code == 0
    assert say("import", "x.safetensors", "--to", "back").code == 0
    old, new = (json.loads(say("evaluate", place, "--json").out) for place in (finished, "back"))
    assert {k: old[k] for k in ("loss", "top1", "confusion", "step")} == {
        k: new[k] for k in ("loss", "top1", "confusion", "step")
    }


def test_exports_are_refused_in_one_line(refused, finished, here):
    (here / "there.onnx").touch()
    refused(
        4, ["export", finished, "--to", "torchvision", "--out", "x.pth"], "torchvision has no network like resnet-8"
    )
    refused(2, ["export", finished, "--to", "onnx", "--out", "x.pth"], "must be named .onnx")
    refused(2, ["export", finished, "--to", "safetensors", "--out", "x.pth"], "must be named .safetensors")
    refused(2, ["export", finished, "--to", "onnx", "--out", "there.onnx"], "something stands there already")
    refused(2, ["export", finished, "--to", "timm", "--out", "x.pth", "--prepared"], "--prepared goes with --to onnx")
    refused(2, ["export", finished, "--to", "onnx", "--out", "x.onnx", "--check", 0], "--check")


def test_what_is_missing_is_told_with_its_remedy(say, refused, finished, here):
    refused(2, ["export", finished], "--to is missing", "torchvision, timm, transformers, safetensors or onnx")
    refused(2, ["import", "a/b.pth"], "--to is missing", "--to b")
    assert say("export", "run", "--to", "safetensors").code == 0
    assert (here / "run.safetensors").is_file()
    refused(2, ["export", "run", "--to", "safetensors"], "something stands there already (run.safetensors)")
    refused(4, ["predict", "run.safetensors", "x.png"], "residual import run.safetensors --to run")
    refused(4, ["predict", "run.safetensors"], "residual import run.safetensors")
    (here / "m.onnx").touch()
    refused(4, ["evaluate", "m.onnx"], "an ONNX file, which is for other programs")
    with pytest.raises(residual.ResidualError, match="residual import"):
        residual.load("run.safetensors")
    with pytest.raises(residual.ResidualError, match="did you mean onnx"):
        residual.export_model("run", to="onx")  # type: ignore[arg-type]


def test_onnx_in_words(say, finished):
    pytest.importorskip("onnxruntime", reason="needs residual[onnx]")
    said = say("export", "run", "--to", "onnx", "--check", 5)
    assert said.code == 0, said.err
    assert said.out.startswith("run.onnx: resnet-8, opset 18, float32 images, already normalised, in, logits out")


def test_onnx_through_the_command_line(say, refused, finished, here, monkeypatch):
    runtime: Any = pytest.importorskip("onnxruntime", reason="needs residual[onnx]")
    from residual.export import onnx_file

    said = say("export", finished, "--to", "onnx", "--out", "x.onnx", "--prepared", "--check", 50)
    assert said.code == 0, said.err
    assert "agrees on 50 images (test images of digits): the same best class for all" in said.out
    assert "opset 18, uint8 images in, probabilities out" in said.out
    names = {"images", "probabilities"}
    session = runtime.InferenceSession(str(here / "x.onnx"), providers=["CPUExecutionProvider"])
    assert {v.name for v in (*session.get_inputs(), *session.get_outputs())} == names
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1.0)
    monkeypatch.setattr(onnx_file, "_graph", lambda *_: importlib.import_module("onnx").load(str(here / "x.onnx")))
    refused(4, ["export", finished, "--to", "onnx", "--out", "y.onnx", "--prepared"], "the graph answers otherwise")


def test_the_card_of_a_run(say, refused, finished, here):
    assert say("card", finished).code == 0
    text = (here / finished / "README.md").read_text(encoding="utf-8")
    result = json.loads((here / finished / "result.json").read_text())
    assert f"{100 * result['final']['test']['top1']:.2f} %" in text
    assert say("card", finished).code == 0  # its own is replaced
    (here / "mine.md").write_text("mine")
    refused(2, ["card", finished, "--out", "mine.md"], "another file stands there (mine.md)")
    refused(2, ["card", finished / "model"], "sealed")
    assert say("card", finished / "model", "--out", "model.md").code == 0
    text = (here / "model.md").read_text(encoding="utf-8")
    assert "trained by run run, weights of step 6" in text
    assert "nothing of it was measured" not in text
