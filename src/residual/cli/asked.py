"""What the commands that train were asked for: their flags and `--set`, as changes of a recipe by path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from residual.analysis.origins import FLAGS
from residual.errors import UsageError

HELD_OUT = {"tune": 0.1, "final": 0.0}
"""What `--protocol` says: the share of the training images that is held out."""
CUSTOMARY = {
    "lr": "--set schedule.peak=0.1, or schedule.rate where the recipe has no one-cycle schedule",
    "bs": "--batch-size",
    "wd": "--set optimiser.weight_decay=5e-4",
    "momentum": "--set optimiser.momentum=0.9",
    "opt": "--set optimiser.kind=adamw --set optimiser.nesterov=false",
    "model": "--network",
    "workers": "--set data.threads=4",
    "imgsz": "--set data.image_size=224",
    "pretrained": "--from torchvision:resnet18",
    "augment": "--set data.augment.mirror=true and the other settings of data.augment",
    "resume-from": "--resume RUN",
    "output": "--out",
    "fp16": "--set compute.precision=bfloat16, which is chosen anyway where it is faster (on an older GPU float16)",
    "gpu": "--device cuda; several GPUs train one run with `residual train --processes 4 --out RUN`",
    "val-split": "--set data.validation=0.1",
    "patience": "--set evaluation.patience=5",
    "dropout": "--set network.dropout=0.1",
    "label-smoothing": "--set loss.label_smoothing=0.1",
    "num-epochs": "--epochs",
    "data-dir": "--data",
    "sched": "--set schedule.kind=cosine",
    "warmup-epochs": "--set schedule.kind=cosine --set schedule.warmup.steps=400",
    "mixup": "--set data.augment.mixup=0.2",
    "cutmix": "--set data.augment.cutmix=1.0",
    "hflip": "--set data.augment.mirror=true",
    "aa": "--set data.augment.trivial=true",
    "color-jitter": "--set data.augment.colour_jitter=0.4",
    "scale": "--set 'data.augment.crop_scale=[0.08,1.0]', as of RandomResizedCrop",
    "degrees": "--set data.augment.rotate=10",
    "drop-path": "--set network.stochastic_depth=0.1",
    "freeze": "--set start.freeze=head-only, with --from",
    "class-weights": "--set loss.class_weights=balanced",
    "channels-last": "--set compute.layout=channels-last, which is chosen anyway where it is faster",
    "grad-checkpointing": "--set compute.recompute=true",
    "zero-init-last": "--set network.zero_last_scale=true",
    "log-wandb": "--tensorboard or, from Python, a listener of your own (docs/python.md)",
    "vflip": "--set data.augment.dihedral=true, the eight turns and mirrors of a square",
    "reprob": "--set data.augment.erase=0.25",
    "clip-grad": "--set optimiser.clip=1.0",
    "grad-accum-steps": "--set optimiser.accumulate=4",
    "model-ema": "--set optimiser.average=0.999",
    "crop-pct": "--set data.crop=0.875",
    "sync-bn": "--set processes.batch_norm=synchronised",
    "torchcompile": "--set compute.compile=default",
    "save-best": "--set evaluation.best=top1",
    "n-trials": "--population and --generations: so many trainings at first, then half as many in each generation",
    "timeout": "--budget 2h",
}
"""How other tools call it, and what it is here. Words are told, never taken for the option."""
_ALIKE = {
    "lr": ("learning-rate", "lr0", "max-lr", "base-lr", "rate"),
    "bs": ("batch", "batchsize"),
    "wd": ("weight-decay",),
    "opt": ("optim", "optimizer", "optimiser"),
    "model": ("arch", "architecture", "backbone"),
    "workers": ("num-workers", "j"),
    "imgsz": ("img-size", "image-size", "input-size", "size"),
    "pretrained": ("weights", "finetune", "fine-tune", "checkpoint"),
    "augment": ("aug", "augmentation"),
    "hflip": ("fliplr", "flip", "horizontal-flip", "mirror"),
    "aa": ("auto-augment", "autoaugment", "randaugment", "trivialaugment", "trivialaugmentwide", "trivial"),
    "color-jitter": ("colour-jitter", "jitter", "hsv-s", "hsv-v"),
    "drop-path": ("drop-path-rate", "stochastic-depth-prob", "stochastic-depth"),
    "degrees": ("rotate", "rotation", "max-rotate"),
    "class-weights": ("class-weight", "weighted-loss"),
    "grad-checkpointing": ("gradient-checkpointing", "recompute"),
    "log-wandb": ("wandb", "logger", "report-to", "mlflow"),
    "resume-from": ("resume-from-checkpoint", "continue"),
    "output": ("output-dir", "save-dir", "project", "name"),
    "fp16": ("amp", "half", "mixed-precision"),
    "gpu": ("gpus", "cuda", "devices", "ngpus", "num-gpus", "nproc-per-node"),
    "val-split": ("valid-pct", "validation-split"),
    "label-smoothing": ("smoothing",),
    "num-epochs": ("n-epochs", "max-epochs"),
    "data-dir": ("data-path", "dataset", "path", "train-dir"),
    "sched": ("scheduler", "lr-scheduler", "lrs", "cos-lr", "lr-schedule"),
    "warmup-epochs": ("warmup", "warmup-steps", "warmup-iters"),
    "reprob": ("random-erase", "erasing"),
    "vflip": ("flipud", "flip-vert", "vertical-flip", "dihedral", "rot90"),
    "clip-grad": ("gradient-clip-val", "clip", "grad-clip"),
    "grad-accum-steps": ("accumulate-grad-batches", "gradient-accumulation-steps", "accumulate", "nbs"),
    "model-ema": ("ema", "ema-decay", "model-ema-decay"),
    "dropout": ("drop", "drop-rate"),
    "sync-bn": ("sync-batchnorm",),
    "torchcompile": ("compile", "torch-compile"),
    "n-trials": ("trials", "num-trials"),
}
_RUN_FIRST = "the first word, a run or a model folder, as in residual {} last"
_NOT_NEEDED = "not needed: images are prepared as for the training, and the batch fits the memory"
_JUDGED = {
    "pretrained": _RUN_FIRST,
    "model": _RUN_FIRST,
    "resume-from": _RUN_FIRST,
    "gpu": "--device cuda",
    "imgsz": _NOT_NEEDED,
    "crop-pct": _NOT_NEEDED,
    "bs": _NOT_NEEDED,
    "workers": _NOT_NEEDED,
    "fp16": "not needed: answers are computed in float32",
}
_OF_IMAGES = _JUDGED | {
    "source": "every word after the run, as in residual {} last photos/",
    "data-dir": "every word after the run, as in residual {} last photos/",
}
JUDGING = {
    "evaluate": _JUDGED
    | {
        "imgsz": "--image-size 256",
        "crop-pct": "--crop 0.875",
        "source": "--data",
        "data-dir": "--data",
        "tta": "--protocol 10-crop",
        "augment": "--protocol 10-crop",
        "topk": "not needed: top-1, top-3 and top-5 are always told",
        "plots": "--figures FOLDER",
        "output": "--predictions FILE.npz, or --json",
    },
    "predict": _OF_IMAGES
    | {
        "topk": "--top-k",
        "plots": "--picture FILE.png",
        "output": "--format csv or json, on standard output",
        "features": "--embeddings FILE.npz",
        "to": "--format csv or json",
    },
    "explain": _OF_IMAGES | {"topk": "--top-k", "output": "--out FOLDER", "plots": "--out FOLDER"},
    "export": {
        "pretrained": _RUN_FIRST,
        "model": _RUN_FIRST,
        "resume-from": _RUN_FIRST,
        "format": "--to torchvision, timm, transformers, safetensors or onnx",
        "include": "--to torchvision, timm, transformers, safetensors or onnx",
        "output": "--out FILE",
        "imgsz": "not needed: a model knows the size of its images",
        "dynamic": "not needed: the graph takes any number of images",
        "fp16": "not there: weights are written in float32",
        "data-dir": "--images FOLDER",
    },
}
"""The same for commands that use a network; {} is the command."""
_ALIKE_JUDGED = {
    "source": ("input", "inputs", "image", "images", "img", "img-dir", "folder", "input-dir"),
    "topk": ("k", "top", "top-n", "topn"),
    "plots": ("plot", "show", "save", "visualize", "confusion-matrix", "figure"),
    "output": ("out", "results-file", "save-txt", "save-json", "csv", "output-file"),
    "features": ("embed", "embedding", "forward-features"),
    "tta": ("ten-crop", "10-crop"),
    "bs": ("batch-size", "b"),
}
_TITLES = {other: name for name, others in _ALIKE.items() for other in others}
_TITLES_JUDGED = {other: name for name, others in _ALIKE_JUDGED.items() for other in others}
_PATHS = {flag: path for path, flag in FLAGS.items()}


def customary(name: str, command: str = "") -> str | None:
    """What an option or a setting of other tools is called here, in words that begin with our option where we have it.

    Args:
        command: one that uses a network, if it is not one that trains.
    """
    bare = name.lstrip("-").partition("=")[0].replace("_", "-").lower()
    if command in JUDGING:
        own = _TITLES_JUDGED.get(bare, _TITLES.get(bare, bare))
        words = JUDGING[command].get(own)
        return None if words is None else words.format(command)
    return CUSTOMARY.get(_TITLES.get(bare, bare))


def asked(texts: Iterable[str] | None, **flags: Any) -> list[tuple[str, Any]]:
    """The changes in the order of the flags, then those of `--set`; a flag that is None or False was not given.

    Raises:
        UsageError: one is a setting of other tools, or of another kind.
    """
    from residual.training.recipe import Recipe
    from residual.training.values import parse_override

    if ":" in str(flags.get("network") or ""):
        what = f"{flags['network'][:80]!r} is no name of a network"
        remedy = "as in --network resnet-50; trained weights are named with --from, as in --from torchvision:resnet50"
        raise UsageError(what, "--network", remedy)
    changes = [
        (_PATHS[f"--{name.replace('_', '-')}"], HELD_OUT[value] if name == "protocol" else value)
        for name, value in flags.items()
        if value is not None and value is not False
    ]
    given = [parse_override(text) for text in texts or []]
    for path, _ in given:
        if path not in Recipe.model_fields and (ours := customary(path)) is not None:
            raise UsageError(f"no setting is called {path}", "--set", f"here it is {ours}")
    return changes + given


def ending(recipe: str | None, protocol: str | None, changes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The final protocol ends with the test images, also where a recipe file, as one of a search, leaves them alone.

    Raises:
        UsageError: the file is no recipe.
    """
    from residual.training.recipes import find_recipe

    if protocol != "final" or recipe is None or any(path == "evaluation.test" for path, _ in changes):
        return []
    from_file = recipe.endswith(".toml")
    return [("evaluation.test", True)] if from_file and not find_recipe(recipe).evaluation.test else []
