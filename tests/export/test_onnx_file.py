"""An ONNX file answers as the network does, in another program's runtime, for any number of images."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.data.digits import read_digits
from residual.data.preprocessing import measure
from residual.data.source import everything
from residual.errors import EnvironmentFault, ModelError
from residual.evaluation.classifier import Classifier
from residual.export import onnx_file
from residual.export.onnx_file import OPSET, export_onnx
from residual.models import NetworkSettings, build, resolve

onnx: Any = pytest.importorskip("onnx", reason="needs residual[onnx]")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="needs residual[onnx]")

COUNT = 200


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return read_digits().train.read(torch.arange(COUNT))


def made(seed: int = 1) -> Classifier:
    train = read_digits().train
    spec = resolve(NetworkSettings(name="preact-8", widths=(4, 8, 16)), 10, channels=1)
    network = build(spec, seed)
    sight = measure(train, everything(train)[:500], "per-pixel-mean")
    with torch.no_grad():
        for _ in range(3):
            network(sight.normalise(train.read(torch.arange(64))))
    return Classifier(
        network.eval(), sight, tuple("0123456789"), {"step": 3, "data": {"name": "digits", "origin": "/home/anna/d"}}
    )


@pytest.fixture(scope="module")
def prepared(digits: torch.Tensor) -> tuple[Classifier, bytes, Any]:
    classifier = made()
    return classifier, *export_onnx(classifier, digits, prepared=True)


def run(data: bytes, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images.numpy()})[0])


def test_pixels_in_probabilities_out(prepared, digits):
    classifier, data, found = prepared
    assert (found.images, found.same) == (COUNT, COUNT)
    assert found.largest <= 1e-4
    expected = classifier.probabilities(digits).numpy()
    for count in (1, 3, COUNT):
        shares = run(data, digits[:count])
        assert shares.shape == (count, 10)
        np.testing.assert_allclose(shares, expected[:count], atol=1e-5)
    assert expected.std() > 0.001


def test_what_the_file_says_of_itself(prepared):
    _, data, _ = prepared
    model = onnx.load_from_string(data)
    assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [("", OPSET)]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["class_names"]) == list("0123456789")
    assert json.loads(facts["provenance"]) == {"step": 3, "data": {"name": "digits", "origin": "~/d"}}
    assert json.loads(facts["prepared"]) is True
    (given,), (answer,) = model.graph.input, model.graph.output
    assert (given.name, answer.name) == ("images", "probabilities")
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert given.type.tensor_type.shape.dim[0].dim_param  # any number
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_network_alone_gives_logits(digits):
    classifier = made()
    classifier.preprocessing = replace(classifier.preprocessing, resize="pad", interpolation="bicubic")
    data, found = export_onnx(classifier, digits[:20])
    stored = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert json.loads(stored["preprocessing"]) == classifier.preprocessing.facts()
    seen = classifier.preprocessing.normalise(digits[:7])
    with torch.inference_mode():
        np.testing.assert_allclose(run(data, seen), classifier.network(seen).numpy(), atol=1e-4)
    assert found.images == 20


def test_another_answer_is_refused(prepared, digits, monkeypatch):
    _, data, _ = prepared
    monkeypatch.setattr(onnx_file, "_graph", lambda *_: onnx.load_from_string(data))
    with pytest.raises(
        ModelError, match=r"the graph answers otherwise in ONNX Runtime: \d+ of 200 alike, largest difference 0\.\d"
    ):
        export_onnx(made(seed=2), digits, prepared=True)


class _Session:
    """Answers in the place of ONNX Runtime."""

    def __init__(self, answers):
        self.answers = answers

    def SessionOptions(self):
        return type("Options", (), {})()

    def InferenceSession(self, data, options, providers):
        return self

    def run(self, names, given):
        return [self.answers[: len(given["images"])].numpy()]


@pytest.mark.parametrize(("shift", "same"), [(5e-5, True), (-5e-5, True), (3e-4, False)])
def test_classes_that_are_as_good_as_each_other_are_no_disagreement(shift, same):
    ours = torch.tensor([[1.0, 1.0 + 4e-5, -2.0], [0.5, -0.5, 0.0]])
    theirs = ours + torch.tensor([shift, 0.0, 0.0])
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)

    def network(part):
        return ours[: len(part)]

    if same:
        found = onnx_file.compare(_Session(theirs), b"", network, images, lambda part: part)
        assert (found.same, found.images) == (2, 2)
    else:
        with pytest.raises(ModelError, match=r"2 of 2 alike, largest difference 0\.0003"):
            onnx_file.compare(_Session(theirs), b"", network, images, lambda part: part)


def test_too_large_a_network_is_refused_at_once(digits, monkeypatch):
    monkeypatch.setattr(onnx_file, "_LIMIT", 1000)
    with pytest.raises(ModelError, match="an ONNX file holds at most 2 GB"):
        export_onnx(made(), digits)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_one_line_says_what_to_install(digits, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentFault, match=r"pip install onnx onnxscript onnxruntime"):
        export_onnx(made(), digits)


def test_an_exporter_that_fails_is_one_line(digits, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("many\nlines")

    monkeypatch.setattr(onnx_file, "_graph", fail)
    with pytest.raises(ModelError, match="cannot be written as ONNX: many lines"):
        export_onnx(made(), digits)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "P"])
def test_the_example_of_the_documents_answers_as_predict_does(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "photo.jpg" in block)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + 77)
    elif mode == "LA":
        image = Image.merge("LA", [Image.fromarray(pixels[..., part]) for part in (0, 3)])
    else:
        image = Image.fromarray(pixels if mode == "RGBA" else np.ascontiguousarray(pixels[..., :3])).convert(mode)
    image.save("photo.png")
    network = residual.build("resnet-8", classes=3)
    named = residual.Classifier.of(network, ["a", "b", "c"], image_size=16, mean=[0.5] * 3, std=[0.2] * 3)
    residual.export_model(named, "mine.onnx", to="onnx", prepared=True)
    exec(compile(example.replace("photo.jpg", "photo.png"), "example", "exec"), {})
    name, share = capsys.readouterr().out.split()
    ((best, expected),) = named.predict("photo.png", top_k=1)[0].best
    assert name == best
    assert float(share) == pytest.approx(expected, abs=1e-5)
