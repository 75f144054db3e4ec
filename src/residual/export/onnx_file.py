"""A classifier as an ONNX graph, which counts only if ONNX Runtime answers as the network does.

Inputs are NCHW with any number of images. Plain, the graph takes float32 images as the network sees them and gives
logits (N, classes); `prepared`, it takes uint8 images of the model's size and gives probabilities. The graph holds all
of its weights (protobuf ends at 2 GB), the names of the classes and the provenance. `onnx`, `onnxscript` and
`onnxruntime` are extras.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from residual.errors import EnvironmentFault, ModelError
from residual.evaluation.classifier import Classifier
from residual.homes import without_homes
from residual.version import VERSION

OPSET: Final = 18
TOLERANCE: Final = 1e-4
INSTALL: Final = "pip install onnx onnxscript onnxruntime"
_LIMIT = (1 << 31) - (1 << 22)  # what protobuf takes, less the graph itself
_BATCH = 64


class Agreement(NamedTuple):
    """What the comparison found: images, of how many the best class is the same, and the largest difference."""

    images: int
    same: int
    largest: float


class _Network(nn.Module):
    """What the graph computes: the network, or with the preparation before it and the softmax behind it."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier, prepared: bool) -> None:
        super().__init__()
        self.network, self.prepared = copy.deepcopy(classifier.network), prepared  # the caller's stays where it is
        self.register_buffer("mean", classifier.preprocessing.mean)
        self.register_buffer("std", classifier.preprocessing.std)

    def forward(self, images: Tensor) -> Tensor:
        if not self.prepared:
            logits_NK: Tensor = self.network(images)
            return logits_NK
        seen_NCHW = (images.float() / 255 - self.mean) / self.std
        return torch.softmax(self.network(seen_NCHW), 1)


def export_onnx(classifier: Classifier, images: Tensor, prepared: bool = False) -> tuple[bytes, Agreement]:
    """The bytes of an ONNX file, and how well ONNX Runtime agrees with the network on these images.

    Args:
        images: uint8 NCHW in the model's geometry, at least one.
        prepared: take uint8 images and give probabilities.

    Raises:
        ModelError: the graph cannot be made, is too large, or answers otherwise than the network.
        EnvironmentFault: the extra packages are not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch needs it, and would say so in many lines
    except ImportError as error:
        raise EnvironmentFault(f"no ONNX file can be written: {error}", "--to onnx", INSTALL) from None
    size = sum(tensor.numel() * tensor.element_size() for tensor in classifier.network.state_dict().values())
    if size > _LIMIT:
        raise ModelError(f"{size:,} bytes of weights", classifier.spec.name, "an ONNX file holds at most 2 GB")
    module = _Network(classifier, prepared).cpu().eval()
    prepare = (lambda part: part) if prepared else classifier.preprocessing.normalise
    try:
        model = _graph(module, prepare(images[:1]).repeat(2, 1, 1, 1))
        _describe(onnx, model, classifier, prepared)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
    except Exception as error:  # the exporter's own, of any kind
        what = " ".join(str(error).split())[:160]
        raise ModelError(f"the network cannot be written as ONNX: {what}", classifier.spec.name, "report it") from error
    return data, compare(onnxruntime, data, module, images, prepare)


def _graph(module: nn.Module, example: Tensor) -> Any:
    """The model of protobuf; the exporter's talk is kept from the terminal."""
    batch = torch.export.Dim("batch", min=1)
    quiet = logging.getLogger("torch.onnx")
    before = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["probabilities" if getattr(module, "prepared", False) else "logits"],
                dynamic_shapes={"images": {0: batch}},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(before)
    assert program is not None
    return program.model_proto


def _describe(onnx: Any, model: Any, classifier: Classifier, prepared: bool) -> None:
    model.producer_name, model.producer_version = "residual", VERSION
    facts = {
        "class_names": json.dumps(list(classifier.class_names), ensure_ascii=False),
        "network": classifier.spec.model_dump_json(),
        "preprocessing": json.dumps(classifier.preprocessing.facts()),
        "prepared": json.dumps(prepared),
        "provenance": json.dumps(without_homes(classifier.provenance)),
    }
    if classifier.preprocessing.normalisation == "mean-std":
        facts["mean"], facts["std"] = (
            json.dumps(tensor.flatten().tolist())
            for tensor in (classifier.preprocessing.mean, classifier.preprocessing.std)
        )
    onnx.helper.set_model_props(model, facts)


@torch.inference_mode()
def compare(
    onnxruntime: Any,
    data: bytes,
    module: Callable[[Tensor], Tensor],
    images: Tensor,
    prepare: Callable[[Tensor], Tensor],
) -> Agreement:
    """Run the file as it will be written, and the network, on the same images.

    Two classes that lie closer together than the difference that is allowed are as good as each other.

    Args:
        prepare: what is done to images before either sees them.

    Raises:
        ModelError: another best class for an image, or a difference above 1e-4 of the largest answer (or of 1).
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    same, largest, scale = 0, 0.0, 1.0
    for part in map(prepare, images.split(_BATCH)):
        theirs = torch.from_numpy(session.run(None, {"images": part.numpy()})[0])
        ours = module(part)
        lost = ours.amax(1) - ours.gather(1, theirs.argmax(1, keepdim=True)).squeeze(1)
        same += int((lost <= TOLERANCE * ours.abs().amax(1).clamp_min(1.0)).sum())
        largest = max(largest, float((theirs - ours).abs().max()))
        scale = max(scale, float(ours.abs().max()))
    found = Agreement(len(images), same, largest)
    if found.same < found.images or not largest <= TOLERANCE * scale:
        found_words = f"{same} of {len(images)} alike, largest difference {largest:.3g}"
        what = f"the graph answers otherwise in ONNX Runtime: {found_words}"
        raise ModelError(what, "--to onnx", "nothing was written; report it")
    return found
