"""Predictions from Python: one image or several, those left out, temperatures, weights that are not trained."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.analysis.explain import explain
from residual.data.preprocessing import Preprocessing
from residual.errors import DataError, ModelError, UsageError
from residual.evaluation import predicting
from residual.evaluation.classifier import Classifier
from residual.evaluation.predicting import predict_images
from residual.files import TEMPORARY
from residual.models import NetworkSettings, build, resolve
from residual.runs.folder import RunFolder
from residual.sealed import write_folder

SETTINGS = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "data.limit": 100, "batch_size": 30}
PIXELS = np.random.default_rng(3).integers(0, 256, (5, 16, 16), dtype=np.uint8)


@pytest.fixture
def classifier():
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 3, channels=1), seed=1)
    sight = Preprocessing((16, 16), 1, "mean-std", torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    return Classifier(network.eval(), sight, ("a", "b", "c"), {"step": 7, "data": {"name": "x"}})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four steps, with checkpoints at 0, 2 and 4."""
    more = {"steps": 4, "checkpoint.every_steps": 2, "checkpoint.keep": 3, "compute.threads": 1}
    return residual.train("digits", set=SETTINGS | more, out=tmp_path_factory.mktemp("predicting") / "run")


@pytest.fixture
def copy(run, tmp_path):
    return RunFolder(shutil.copytree(run.path, tmp_path / "run"))


@pytest.fixture
def told():
    """The warnings, one by one."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("residual")
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


def unfinished(copy, step):
    """The run as it was at that step."""
    shutil.rmtree(copy.model_path)
    (copy.path / "result.json").unlink()
    for other in copy.steps():
        if other > step:
            shutil.rmtree(copy.checkpoint_path(other))
    assert not list(copy.path.glob(f"{TEMPORARY}*"))
    return copy


def test_one_image_is_answered_as_among_others(classifier, tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    several = classifier.predict([tmp_path / "a.png", PIXELS[0], PIXELS[1]], top_k=2)
    assert [len(one.best) for one in several] == [2, 2, 2]
    assert several[0].best == several[1].best != several[2].best
    for given in (str(tmp_path / "a.png"), tmp_path / "a.png", tmp_path, Image.open(tmp_path / "a.png"), PIXELS[0]):
        (one,) = classifier.predict(given, top_k=2)
        assert [name for name, _ in one.best] == [name for name, _ in several[0].best]
        assert one.best[0][1] == pytest.approx(several[0].best[0][1])


def test_the_front_door_takes_one_path(classifier, tmp_path):
    write_folder(tmp_path / "model", classifier.pack(), "model", {})
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    (one,) = residual.predict(tmp_path / "model", str(tmp_path / "a.png"))
    assert one == classifier.predict(str(tmp_path / "a.png"))[0]


def test_one_bad_file_loses_no_other_answer(classifier, tmp_path, told):
    (tmp_path / "bad.png").write_text("no image")
    given = [PIXELS[0], tmp_path / "bad.png", PIXELS[1]]
    with pytest.raises(DataError, match=r"bad\.png"):
        classifier.predict(given)
    found = classifier.predict(given, on_error="skip")
    assert [one.file for one in found] == ["images[0]", "images[2]"]
    assert len(told) == 1
    assert "bad.png" in told[0]
    with pytest.raises(UsageError, match="choose one of raise, skip"):
        classifier.predict(given, on_error="ignore")
    with pytest.raises(DataError, match="no such file"):
        classifier.predict(tmp_path / "typo.png", on_error="skip")


def test_a_temperature_divides_the_logits(classifier):
    plain, hot = (classifier.predict(PIXELS[0], temperature=t)[0].best for t in (1, 3.0))
    assert plain == classifier.predict(PIXELS[0])[0].best
    powers = torch.tensor([share for _, share in plain]).double() ** (1 / 3)
    torch.testing.assert_close(torch.tensor([share for _, share in hot]), (powers / powers.sum()).float())
    for wrong in (0, -1.0, float("nan"), float("inf"), "calib", True):
        with pytest.raises(UsageError, match=r"the temperature is .*\(--temperature\)"):
            classifier.predict(PIXELS[0], temperature=wrong)
    with pytest.raises(UsageError, match="only a run can be calibrated"):
        classifier.predict(PIXELS[0], temperature="calibrated")


def test_a_calibrated_prediction_has_the_temperature_that_evaluate_fits(copy):
    from residual.evaluation.together import evaluate_together

    fitted = evaluate_together([copy.path], calibrate=True).members[0].calibrated
    assert fitted is not None
    found = residual.predict(copy.path, PIXELS[0], temperature="calibrated")
    assert found == residual.predict(copy.path, PIXELS[0], temperature=fitted.temperature.value)
    assert found != residual.predict(copy.path, PIXELS[0])
    with pytest.raises(UsageError, match="only a run knows its validation images"):
        residual.predict(copy.model_path, PIXELS[0], temperature="calibrated")


@pytest.mark.parametrize(
    ("step", "words"),
    [(0, "step 0 of 4 is used, the random start: nothing was learned"), (2, "step 2 of 4 is used, the run is not fin")],
)
def test_weights_whose_training_has_not_ended_are_used_with_a_word(copy, step, words, told):
    for use in (
        lambda: residual.load(copy.path),
        lambda: residual.predict(copy.path, PIXELS[0]),
        lambda: residual.evaluate(copy.path),
        lambda: residual.explain(copy.path, PIXELS[0]),
        lambda: residual.export_model(copy.path, copy.path.parent / f"{len(told)}.safetensors", to="safetensors"),
    ):
        told.clear()
        if copy.model_path.exists():
            residual.load(copy.path)
            assert told == []  # of a finished run
            unfinished(copy, step)
        use()
        (line,) = told
        assert words in line
        assert f"residual train --resume {copy.path}" in line


def test_a_checkpoint_that_was_named_is_told_of_only_at_the_start(run, told):
    residual.load(run.checkpoint_path(2))
    assert told == []
    residual.load(run.checkpoint_path(0))
    assert len(told) == 1
    assert "step 0, the random start" in told[0]


def test_the_last_run_is_called_by_its_name(run, monkeypatch):
    monkeypatch.setenv("RESIDUAL_RUNS", str(run.path.parent))
    assert residual.evaluate("last").place == residual.evaluate().place == str(run.path)


def test_many_files_are_answered_in_their_order_and_told_as_they_come(classifier, tmp_path):
    """More than a batch, decoded side by side, some of them torn; beside them images of the caller's."""
    for number in range(150):
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(tmp_path / f"{number:03}.png")
    for number in (0, 70, 149):
        (tmp_path / f"{number:03}.png").write_bytes(b"\x89PNG torn")
    told: list[tuple[int, int]] = []
    bad: list[str] = []
    given = [tmp_path, np.zeros((16, 16), np.uint8)]
    found = predict_images(
        classifier,
        given,
        unreadable=lambda error: bad.append(str(error.where)),
        progress=lambda done, whole: told.append((done, whole)),
    )
    names = [f"{number:03}.png" for number in range(150) if number not in (0, 70, 149)]
    assert [Path(one.file).name for one in found] == [*names, "images[1]"]
    assert [Path(one).name for one in bad] == ["000.png", "070.png", "149.png"]
    assert told == [(64, 151), (128, 151), (151, 151)]
    alone = [predict_images(classifier, tmp_path / name)[0].best for name in names[:3]]
    for one, other in zip(found[:3], alone, strict=True):
        assert dict(one.best) == pytest.approx(dict(other), rel=1e-5)
    with pytest.raises(DataError, match=r"000\.png"):
        predict_images(classifier, tmp_path)


def scaled(classifier, factor):
    """The classifier with a last layer that much larger."""
    with torch.no_grad():
        for weight in classifier.network.classifier.parameters():
            weight.mul_(factor)
    return classifier


def test_the_order_is_that_of_the_logits_where_probabilities_are_0(classifier):
    with torch.no_grad():
        classifier.network.classifier.bias.copy_(torch.tensor([0.0, 9.0, 18.0]))
    wanted = [name for name, _ in predict_images(classifier, PIXELS[0])[0].best]
    assert wanted == ["c", "b", "a"]  # not in the order of the classes
    for found in (
        predict_images(classifier, PIXELS[0], temperature=1e-7)[0].best,
        predict_images(classifier, PIXELS[0], temperature=1e-30)[0].best,
        explain(scaled(classifier, 1e7), [torch.tensor(PIXELS[0]).unsqueeze(0)])[0].answers,
    ):
        assert [share for _, share in found] == [1, 0, 0]
        assert [name for name, _ in found] == wanted


def test_answers_that_are_not_finite_are_refused(classifier):
    scaled(classifier, 1e38)
    assert all(bool(weight.isfinite().all()) for weight in classifier.network.parameters())
    with torch.no_grad():
        classifier.network.head.register_forward_hook(lambda _module, _given, found: found * 1e30)
    with pytest.raises(ModelError, match="the network's answers are not finite"):
        predict_images(classifier, PIXELS[0])
    with pytest.raises(ModelError, match="the network's answers are not finite"):
        explain(classifier, [torch.tensor(PIXELS[0]).unsqueeze(0)])


def test_where_the_data_are_gone_a_temperature_is_had_from_an_evaluation(copy, monkeypatch):
    def gone(*_args, **_named):
        raise DataError("no such folder", "/photos", "name the folder of photographs with --data")

    monkeypatch.setattr(predicting, "answers", gone)
    with pytest.raises(DataError, match=r"no such folder .*`residual evaluate \S+ --data DIR --calibrate`.*its number"):
        residual.predict(copy.path, PIXELS[0], temperature="calibrated")
