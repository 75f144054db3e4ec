"""Embeddings: what is written is what the network embeds, in both formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from residual.data.preprocessing import Preprocessing
from residual.errors import StorageError, UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.embeddings import Collector, save
from residual.models import NetworkSettings, build, resolve

FILES = ["a b.png", "é☃.png", "sub/c.png"]


@pytest.fixture
def collected() -> tuple[Collector, torch.Tensor]:
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(2, 4, 6)), 3, channels=1), seed=1).eval()
    constants = Preprocessing((8, 8), 1, "mean-std", torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), 0.2))
    classifier = Classifier(network, constants, ("x", "y", "z"), {"step": 7})
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = network.embed(constants.normalise(images))
    collector = Collector()
    collector.listen(classifier)
    shares = classifier.probabilities(images[:2])
    classifier.probabilities(images[2:])
    again = network.classifier(expected[:2]).softmax(1)
    torch.testing.assert_close(shares, again)
    return collector, expected.detach()


def test_the_rows_are_what_the_network_embeds(collected):
    collector, expected = collected
    torch.testing.assert_close(collector.features(), expected, rtol=1e-5, atol=1e-6)
    assert collector.facts["provenance"] == {"step": 7}


def test_safetensors(collected, tmp_path: Path):
    collector, _ = collected
    save(tmp_path / "new" / "e.safetensors", collector.features(), FILES, collector.facts)
    with safetensors.safe_open(tmp_path / "new" / "e.safetensors", "pt") as file:
        header = file.metadata()
        assert torch.equal(file.get_tensor("features"), collector.features())
    assert json.loads(header["files"]) == FILES
    facts = json.loads(header["facts"])
    assert facts == json.loads(json.dumps(collector.facts))
    assert (facts["format"], facts["network"]["name"], facts["class_names"]) == (1, "resnet-8", ["x", "y", "z"])


def test_npz(collected, tmp_path: Path):
    collector, _ = collected
    save(tmp_path / "e.npz", collector.features(), FILES, collector.facts)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        assert file["features"].dtype == np.float32
        assert np.array_equal(file["features"], collector.features().numpy())
        assert file["files"].tolist() == FILES
        assert json.loads(str(file["facts"])) == json.loads(json.dumps(collector.facts))


def test_refused(collected, tmp_path: Path):
    collector, _ = collected
    with pytest.raises(UsageError, match=r"end in \.safetensors or \.npz"):
        save(tmp_path / "e.csv", collector.features(), FILES, {})
    with pytest.raises(ValueError, match="3 rows for 1 files"):
        save(tmp_path / "e.npz", collector.features(), FILES[:1], {})
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save(tmp_path / "file" / "e.npz", collector.features(), FILES, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
