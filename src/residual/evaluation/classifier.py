"""A classifier that can be used alone: network, constants of preprocessing, class names, provenance.

The files of a model folder (and of every checkpoint) are `model.json`, `model.safetensors` and
`preprocessing.safetensors`; nothing else is needed to evaluate or predict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from residual.data.geometry import Interpolation, Resize
from residual.data.preprocessing import Preprocessing
from residual.data.transform import Transform
from residual.device import at_home, choose_device
from residual.errors import ModelError, UsageError
from residual.evaluation.evaluate import batch_size, resting
from residual.evaluation.logits import check_temperature, finite, shares
from residual.evaluation.soundness import NAMES, mind_float32, named_classes, twin_of
from residual.files import Damaged, canonical
from residual.models import NetworkSpec, ResidualNetwork, build, load_weights, pack_weights
from residual.models.asked import sides
from residual.models.interchange.adapting import refit
from residual.sealed import mind_sealed, read_folder, write_folder

if TYPE_CHECKING:
    from residual.data.given import Given
    from residual.evaluation.predicting import OnError, Prediction

DESCRIPTION, WEIGHTS, CONSTANTS = "model.json", "model.safetensors", "preprocessing.safetensors"
_AVERAGES = "leave it out, or take a network that averages its maps"
_ELSEWHERE = {"name": "folder", "origin": "the images of another program", "checksums": {}}


def stored_preprocessing(contents: Mapping[str, bytes], where: object) -> Preprocessing:
    """The constants among a model folder's files, without its network.

    Raises:
        ModelError: they cannot be used.
    """
    try:
        facts, constants = json.loads(contents[DESCRIPTION]), safetensors.torch.load(contents[CONSTANTS])
        return Preprocessing.restore(facts["preprocessing"], constants)
    except (LookupError, ValueError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise ModelError(f"the constants cannot be used: {error!r:.200}", where, "restore the checkpoint") from None


@dataclass
class Classifier:
    """A network with what it takes to use it. `provenance` says which run, step and data made it.

    Raises:
        ModelError: class names, the network's last layer and its description do not fit each other.
    """

    network: ResidualNetwork
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        classes, answers = self.spec.classes, self.network.classifier.out_features
        if answers != classes:
            what = f"the last layer gives {answers} classes, and the network was built for {classes}"
            raise ModelError(what, self.spec.name, f"build it with residual.build(..., classes={answers})")
        if len(self.class_names) != classes:
            raise ModelError(f"{len(self.class_names)} class names for {classes} classes", self.spec.name, NAMES)
        if (twin := twin_of(self.class_names)) is not None:
            raise ModelError(f"two classes are called {twin:.80}", self.spec.name, "give each a name of its own")
        if self.preprocessing.channels != self.spec.channels:
            what = f"preprocessing gives {self.preprocessing.channels} channels, not {self.spec.channels}"
            raise ModelError(what, self.spec.name, "give a mean and a deviation for each channel of the network")
        least, (height, width) = self.spec.least_side, self.preprocessing.image_size
        if min(height, width) < least:
            what = f"pooling leaves nothing of images of {height} x {width} pixels"
            raise ModelError(what, self.spec.name, f"take images of at least {least} pixels a side")

    def __repr__(self) -> str:
        height, width = self.preprocessing.image_size
        return f"<Classifier {self.spec.name}: {len(self.class_names)} classes, {height} x {width} pixels>"

    @staticmethod
    @at_home()
    def of(
        network: ResidualNetwork,
        class_names: Sequence[str],
        *,
        image_size: int | tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        crop: float = 1.0,
        resize: Resize = "crop",
        interpolation: Interpolation = "bilinear",
    ) -> Classifier:
        """A network that another program has trained, such as a loop of one's own, with what it takes to use it.

        Args:
            class_names: in the order of the network's answers.
            image_size: the side of the images it takes, or (H, W).
            mean, std: what is taken from pixels / 255 and what they are divided by then, a number for each channel.
            crop: the share of the resized side that the centre keeps, as 224 / 256.
            resize, interpolation: how images come to that size, as `data.resize` and `data.interpolation` say.

        Raises:
            UsageError: it is no network of this program, or images cannot be prepared so.
            ModelError: names, constants and network do not fit each other, or the network is not of float32.
        """
        if not isinstance(network, ResidualNetwork):
            what = f"{type(network).__name__} is no network of this program"
            raise UsageError(what, "network", "build one with residual.build, and load your weights into it")
        mind_float32(network)
        names = named_classes(class_names)
        for name, values in (("mean", mean), ("std", std)):
            if not hasattr(values, "__len__") or isinstance(values, str):
                remedy = "give a list with a number for each channel, of pixels from 0 to 1"
                raise UsageError(f"{name} is {values!r:.60}", name, remedy)
        facts = {
            "image_size": list(sides(image_size)),
            "channels": len(mean),
            "normalisation": "mean-std",
            "crop": float(crop),
            "mode": resize,
            "interpolation": interpolation,
        }
        constants = {
            name: torch.tensor([float(one) for one in values]).view(-1, 1, 1)
            for name, values in (("mean", mean), ("std", std))
        }
        try:
            sight = Preprocessing.restore(facts, constants)
        except ValueError as error:
            raise UsageError(f"images cannot be prepared so: {error}", network.spec.name, "give other ones") from None
        return Classifier(network, sight, names, _made_elsewhere())

    @at_home()
    def with_classes(self, class_names: Iterable[str], seed: int = 0) -> Classifier:
        """The same network and preprocessing with a new last layer for other classes, to be trained in one's own loop
        (`residual.train(..., start_from=...)` does all of it).

        Args:
            seed: of the new layer's weights; all others are copied, and are those of this classifier.
        """
        names = named_classes(class_names)
        network = refit(self.network, self.spec.model_copy(update={"classes": len(names)}), seed, None)
        return Classifier(network, self.preprocessing, names, _made_elsewhere())

    def at_size(self, image_size: int | tuple[int, int], crop: float | None = None) -> Classifier:
        """The same network looking at files in another size, often best somewhat above that of its training (Touvron
        et al. 2019, Fixing the train-test resolution discrepancy).

        Args:
            crop: the share of the resized side that the centre keeps; as before unless given.

        Raises:
            UsageError: its head reads maps of one size, or there is no such size or share.
        """
        sight, size = self.preprocessing, sides(image_size)
        if self.spec.head != "average" and size != sight.image_size:
            raise UsageError(f"the hidden layers of {self.spec.name} read maps of one size", "image_size", _AVERAGES)
        if crop is not None and not 0.1 <= crop <= 1:
            raise UsageError(f"crop is {crop}", "crop", "give a share between 0.1 and 1, as 0.875")
        geometry = sight.geometry if crop is None else sight.geometry._replace(share=float(crop))
        return replace(self, preprocessing=sight.of(geometry, size))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a model folder, which is taken wherever a run is: `residual.load`, `predict`, `evaluate`, `--from`.

        Returns:
            The folder.

        Raises:
            UsageError: something stands there already.  ModelError: a weight is not finite.
            StorageError: the disk refused; nothing stands there.
        """
        path = Path(folder).expanduser()
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            raise UsageError("something stands there already", path, "name another folder")
        mind_sealed(path)
        mind_float32(self.network)
        for name, tensor in self.network.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise ModelError(f"{name} is not finite", self.spec.name, "take weights from before it was")
        step = self.provenance.get("step", 0)
        write_folder(path, self.pack(), "model", {"step": step})
        return path

    @property
    def spec(self) -> NetworkSpec:
        return self.network.spec

    @property
    def transform(self) -> Transform:
        """Brings one image to the float32 CHW that the network takes, for a data set or a loader of one's own."""
        return Transform(self.preprocessing)

    @property
    def data(self) -> dict[str, Any]:
        """What is known of the images it was trained on."""
        found: dict[str, Any] = self.provenance.get("data") or dict(_ELSEWHERE)
        return found

    def pack(self) -> dict[str, bytes]:
        """The files of a model folder, name to bytes."""
        description = {
            "network": self.spec.model_dump(mode="json"),
            "channels": self.preprocessing.channels,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.facts(),
            "provenance": self.provenance,
        }
        return {
            DESCRIPTION: canonical(description),
            WEIGHTS: pack_weights(self.network),
            CONSTANTS: safetensors.torch.save(self.preprocessing.tensors()),
        }

    @staticmethod
    @at_home()
    def unpack(contents: dict[str, bytes], where: object) -> Classifier:
        """The classifier of a model folder's files.

        Raises:
            ModelError: the description and the weights do not fit each other, or a weight is not finite.
        """
        try:
            description: dict[str, Any] = json.loads(contents[DESCRIPTION])
            spec = NetworkSpec.model_validate(description["network"])
            weights, constants = contents[WEIGHTS], safetensors.torch.load(contents[CONSTANTS])
            preprocessing = Preprocessing.restore(description["preprocessing"], constants)
            names, provenance = description["class_names"], dict(description["provenance"])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("class_names is not a list of names")
            if preprocessing.channels != spec.channels:
                raise ValueError(f"preprocessing gives {preprocessing.channels} channels, not {spec.channels}")
        except (KeyError, ValueError, TypeError, RecursionError, safetensors.SafetensorError) as error:
            raise ModelError(f"the model's description cannot be used: {error!r:.200}", where, "restore it") from None
        if len(names) != spec.classes:
            raise ModelError(f"{len(names)} class names for {spec.classes} classes", where, "restore model.json")
        if (twin := twin_of(names)) is not None:
            remedy = "load its weights into residual.build(...), and give each class a name of its own by Classifier.of"
            raise ModelError(f"two classes are called {twin:.80}, as they no longer may be", where, remedy)
        network = build(spec)
        load_weights(network, weights, where)
        network.eval()
        return Classifier(network, preprocessing, tuple(names), provenance)

    @staticmethod
    def load(folder: Path) -> Classifier:
        """The classifier in a model folder or a checkpoint, verified to the last byte.

        Raises:
            ModelError: absent, damaged, or of another kind.
        """
        try:
            contents = read_folder(folder, "model", "checkpoint")[1]
        except Damaged as error:
            raise ModelError(error.what, error.where, error.remedy) from None
        return Classifier.unpack(contents, folder)

    def predict(
        self,
        images: Given | Iterable[Given],
        *,
        top_k: int = 3,
        device: str | torch.device = "auto",
        temperature: float | None = None,
        on_error: OnError = "raise",
    ) -> list[Prediction]:
        """The most probable classes of images, as `residual.predict` gives them, without loading anything again.

        Args:
            images: files, folders, Pillow images, uint8 arrays (HW, HWC or NHWC) or uint8 tensors (HW, CHW or NCHW);
                one of them, or several of any kind, each in its own size.
            top_k: how many classes to name.
            temperature: what the logits are divided by.
            on_error: "skip" leaves an image out that cannot be read, with a warning.

        Raises:
            DataError: an image cannot be read.  UsageError: what is given is no image.
        """
        from residual.evaluation.predicting import predict_images

        return predict_images(self, images, top_k=top_k, device=device, temperature=temperature, on_error=on_error)

    def stream(
        self,
        images: Given | Iterable[Given],
        *,
        batch: int = 1,
        top_k: int = 3,
        device: str | torch.device = "auto",
        temperature: float | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Prediction]:
        """The same one after the other, while images come: of a camera, a queue, very many files.

        Args:
            images: as for `predict`; an iterator is read as far as answers are asked for.
            batch: images that are answered together: 1 answers each at once, 64 is faster where all are there.
            top_k, device, temperature, on_error: as for `predict`.

        Raises: as `predict` does.
        """
        from residual.evaluation.predicting import stream

        options: dict[str, Any] = {"top_k": top_k, "device": device, "temperature": temperature, "on_error": on_error}
        return stream(self, images, batch=batch, **options)

    @at_home()
    def prepare(self, images: Given | Iterable[Given]) -> Tensor:
        """uint8 NCHW in the model's geometry, of whatever `predict` takes: what `logits` and `embed` read.

        Raises:
            DataError: an image cannot be read.  UsageError: what is given is no image, or there is none.
        """
        from residual.data.given import gather

        found = [image.read(self.preprocessing) for image in gather(images)]
        if not found:
            raise UsageError("there are no images", "images", "give at least one")
        return torch.stack(found)

    def logits(self, images: Sequence[Tensor] | Tensor, device: torch.device | str | None = None) -> Tensor:
        """float32 NK, on the CPU, of uint8 images CHW in the model's geometry.

        Args:
            device: where to compute; the network stays there. Without it, where the network is.

        Raises:
            UsageError: these are no such images.  ModelError: an answer is not finite.
            EnvironmentFault: there is no such device.
        """
        return finite(self._over(images, device, self.network), self.spec.name)

    def probabilities(
        self,
        images: Sequence[Tensor] | Tensor,
        device: torch.device | str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """float32 NK class probabilities, on the CPU, of uint8 images CHW in the model's geometry.

        Args:
            device: as for `logits`.
            temperature: what the logits are divided by, above 0.
        """
        check_temperature(temperature, "temperature", "a number above 0")
        return shares(self.logits(images, device), temperature)

    def embed(self, images: Sequence[Tensor] | Tensor, device: torch.device | str | None = None) -> Tensor:
        """float32 NC, on the CPU: what the last layer reads of uint8 images CHW in the model's geometry."""
        return self._over(images, device, self.network.embed)

    @torch.no_grad()  # and no inference mode: a teacher's answers may stand in the loss of a student
    def _over(
        self,
        images: Sequence[Tensor] | Tensor,
        device: torch.device | str | None,
        answer: Callable[[Tensor], Tensor],
    ) -> Tensor:
        batch = self._checked(images)
        if device is not None:
            self.network.to(choose_device(device))
        here = self.network.classifier.weight.device
        sight, parts = self.preprocessing.on(here), batch.split(batch_size(*self.preprocessing.image_size))
        with resting(self.network):
            return torch.cat([answer(sight.normalise(part.to(here))).float().cpu() for part in parts])

    def _checked(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """uint8 NCHW of the model's size.

        Raises:
            UsageError: these are other tensors, or none.
        """
        sight, remedy = self.preprocessing, "Classifier.prepare makes them of files, arrays and pictures"
        shape = (sight.channels, *sight.image_size)
        each = images if isinstance(images, Tensor) and images.ndim == 4 else [*images]
        for one in each if isinstance(each, list) else [each[0]] if len(each) else []:
            if not isinstance(one, Tensor) or one.dtype != torch.uint8 or tuple(one.shape) != shape:
                told = f"{one.dtype} of {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
                what = f"the images must be tensors, torch.uint8 of {shape}, and one is {told}"
                raise UsageError(what, self.spec.name, remedy)
        if not len(each):
            raise UsageError("there are no images", self.spec.name, remedy)
        return each if isinstance(each, Tensor) else torch.stack(each)


def _made_elsewhere() -> dict[str, Any]:
    """The provenance of what no run of this program has trained."""
    return {"run": "", "step": 0, "data": dict(_ELSEWHERE), "program": True}
