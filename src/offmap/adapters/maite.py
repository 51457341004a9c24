"""Guards and data sets in the protocols of MAITE, for DataEval and the tools of JATIC.

MAITE's protocols are structural: the classes here have their attributes and methods, and import
nothing of it.

::

    from offmap.adapters import maite

    guard.fit(maite.batches(train)).calibrate(maite.batches(held))    # data sets of MAITE
    model = maite.Model(guard)                                         # a maite Model
    dataset = maite.Dataset(offmap.data.load("photos/test"))           # a maite Dataset
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from offmap._utils.samples import tensor_of
from offmap.activations import Sample
from offmap.data import ImageSet
from offmap.errors import ArgumentError, LabelError, NotFittedError
from offmap.guard import Guard

__all__ = ["Dataset", "Model", "batches"]

Target = Float32[np.ndarray, " c"]


class Model:
    """A calibrated guard as a model of image classification with one class more, "unknown".

    A known sample has the network's probabilities and 0 for "unknown", an unknown one 1 for
    "unknown" and 0 elsewhere: the largest is the guard's answer. Where the network gives features
    alone there are two classes, "known" and "unknown".

    Args:
        guard: calibrated.
        name: what tells it from others.

    Attributes:
        metadata: its ``id``, and ``index2label``, the name of each class.

    Raises:
        NotFittedError: the guard is not calibrated.
    """

    def __init__(self, guard: Guard, *, name: str = "offmap guard") -> None:
        if not guard.calibrated:
            raise NotFittedError("this guard has no threshold yet: call fit, then calibrate")
        self.guard = guard
        names = [*guard.classes, "unknown"] if guard.classes else []
        self.metadata: dict[str, Any] = {"id": name, "index2label": dict(enumerate(names))}

    def __call__(self, batch: Sequence[Any]) -> list[Target]:
        """A vector ``(classes + 1,)`` for each image ``(c, h, w)``, in order.

        Raises:
            NotFittedError: the network's weights changed since the guard was fitted.
        """
        if not len(batch):
            return []
        inputs = torch.stack([tensor_of(np.asarray(image)) for image in batch])
        self.guard.refuse_changed()
        with self.guard.probe as probe, torch.no_grad():
            sample = probe.sample(inputs) if self.guard.reads_inputs else probe(inputs)
            verdict = self.guard.judge(sample)
            acts = sample.acts if isinstance(sample, Sample) else sample
            # Those of the network that predicts the labels; 1 for "known" where none does.
            if acts.has_predictions:
                logits = acts.classifier_logits
                probabilities = (acts.logits if logits is None else logits).softmax(1)
            else:
                probabilities = torch.ones(len(acts), 1, device="cpu")
        unknown = verdict.is_ood.cpu().float()[:, None]
        targets = torch.cat([probabilities.cpu().float() * (1 - unknown), unknown], dim=1)
        return list(targets.nan_to_num(0).numpy())


class Dataset:
    """A set of images as one of MAITE: image, target of one 1 among zeros, and its key as ``id``.

    Without labels, or where one is missing, all of the target are zeros.

    Args:
        images: in memory; ``hold()`` of a streamed set gives one.

    Attributes:
        metadata: its ``id``, and ``index2label``, the name of each class.

    Raises:
        ArgumentError: the images are not in memory.
    """

    def __init__(self, images: ImageSet) -> None:
        if not hasattr(images, "images"):
            raise ArgumentError(f"the images of {images.name} are not in memory: give its hold()")
        self.images = images
        self.metadata: dict[str, Any] = {
            "id": images.name,
            "index2label": dict(enumerate(images.classes)),
        }
        labels = 0 if images.labels is None else int(images.labels.max()) + 1
        self._width = max(len(images.classes), labels, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Target, dict[str, Any]]:
        index = range(len(self))[index]
        target = np.zeros(self._width, np.float32)
        if self.images.labels is not None and (label := int(self.images.labels[index])) >= 0:
            target[label] = 1
        (key,) = self.images.keys(index, index + 1)
        return self.images.images[index].numpy(), target, {"id": key}


def batches(dataset: Any, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """The images and labels of a MAITE data set of image classification, batch by batch.

    Args:
        dataset: with ``len``, and items of image, target and metadata.
        batch_size: images at a time.

    Raises:
        LabelError: a target is not a vector in which one class stands out.
    """
    for start in range(0, len(dataset), batch_size):
        items = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        images = torch.stack([tensor_of(np.asarray(item[0])) for item in items])
        targets = [np.asarray(item[1]) for item in items]
        for target in targets:
            if target.ndim != 1 or not target.size or (target == target.max()).sum() != 1:
                raise LabelError(
                    "a target must be a vector in which one class stands out; seen "
                    f"{target.tolist()}"
                )
        yield images, torch.tensor([int(target.argmax()) for target in targets], device="cpu")
