"""A classifier as a folder that Hugging Face Transformers reads: `AutoModelForImageClassification.from_pretrained`.

`config.json` tells the network and the names of the classes, `model.safetensors` holds its tensors by the names there,
`preprocessor_config.json` says how images are prepared: BiT's processor brings the shorter side to a size and cuts the
centre, ViT's stretches the image. Source: transformers.models.resnet, .bit and .vit (its release 5.24).
"""

from __future__ import annotations

from typing import Any

from residual.data.preprocessing import Preprocessing
from residual.errors import ModelError
from residual.evaluation.classifier import Classifier
from residual.export.weights import pack
from residual.files import readable
from residual.models.interchange.processor import NAME
from residual.models.interchange.transformers import config_of

_RESAMPLING = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""


def pack_folder(classifier: Classifier) -> dict[str, bytes]:
    """The files of the folder by their names.

    Raises:
        ModelError: Transformers has no such network, or prepares no images as it takes them.
    """
    names = classifier.class_names
    config = {
        **config_of(classifier.spec),
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "dtype": "float32",
        "problem_type": "single_label_classification",
    }
    weights = pack(classifier, "transformers")
    processor = _processor(classifier.preprocessing)
    return {"config.json": readable(config), "model.safetensors": weights, NAME: readable(processor)}


def _processor(sight: Preprocessing) -> dict[str, Any]:
    height, width = sight.image_size
    faults = {
        "images have one channel": sight.channels != 3,
        "a mean image is taken from them": sight.normalisation != "mean-std",
        "they are padded": sight.resize == "pad",
        f"they are of {height} x {width} pixels": height != width and sight.resize == "crop",
    }
    for fault, there in faults.items():
        if there:
            what = f"no image processor of Transformers prepares images as this model takes them: {fault}"
            raise ModelError(what, "--to", "export it to onnx with --prepared, which keeps that")
    around_height, around_width = sight.geometry.around(sight.image_size)
    common = {
        "do_resize": True,
        "resample": _RESAMPLING[sight.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": sight.mean.flatten().tolist(),
        "image_std": sight.std.flatten().tolist(),
        "do_convert_rgb": True,
    }
    if sight.resize == "squash" and sight.crop == 1:
        size = {"height": height, "width": width}
        return {"image_processor_type": "ViTImageProcessor", "size": size, **common}
    way: dict[str, Any] = {"shortest_edge": around_height}
    if sight.resize == "squash":
        way = {"height": around_height, "width": around_width}
    cut = {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return {"image_processor_type": "BitImageProcessor", "size": way, **cut, **common}
