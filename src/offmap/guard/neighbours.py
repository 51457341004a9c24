"""The training samples that an image lies nearest to, as images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.detectors import KNN
from offmap.errors import ArgumentError, DataError
from offmap.guard._inputs import as_batch, data_like_fit

if TYPE_CHECKING:
    from offmap.guard.guard import Guard


@dataclass(frozen=True)
class Neighbour:
    """A training sample of the bank of a detector.

    Args:
        key: what tells it from others, such as its path below the folder of its set.
        distance: of its features, as the detector measures it.
        image: ``(c, h, w)``.
    """

    key: str
    distance: float
    image: Tensor


def nearest(guard: Guard, inputs: Any, data: Any, *, count: int = 5) -> list[tuple[Neighbour, ...]]:
    """The training samples nearest to each image, nearest first.

    Args:
        guard: fitted, with KNN among its detectors.
        inputs: a batch of images, or one, as for the guard.
        data: the set that the guard was fitted on, or its name or path; only the images that are
            shown are read.
        count: of each image; fewer in a smaller bank.

    Raises:
        ArgumentError: no detector keeps training samples, or it was fitted on data without keys.
        DataError: the data lacks some of them.
    """
    whole("count", count, 1)
    knn = bank_of(guard)
    guard.refuse_changed()
    with guard.probe as probe, torch.no_grad():
        distances, keys = knn.nearest(probe(as_batch(guard, inputs)), count)
    if keys is None:
        raise ArgumentError(
            f"{knn!r} was fitted on batches without keys, so its samples cannot be found: fit the "
            "guard on a folder, or on a set that is loaded by name"
        )
    shown, data = {key for row in keys for key in row}, data_like_fit(guard, data)
    if not hasattr(data, "keyed_batches"):
        raise DataError(
            f"a {type(data).__name__} does not say what its samples are called: give the folder or "
            "set that the guard was fitted on"
        )
    rows = [i for i, key in enumerate(data.keys(0, len(data))) if key in shown]
    # A joined set has no subsets, so all of it is read.
    part = data.subset(rows) if rows and hasattr(data, "subset") else data
    images = {
        key: image
        for batch, _, names in (part.keyed_batches(64) if rows else ())
        for key, image in zip(names, batch, strict=True)
        if key in shown
    }
    if missing := sorted(shown - images.keys()):
        raise DataError(
            f"the data has no sample {missing[0]!r}: give the set that the guard was fitted on"
        )
    return [
        tuple(Neighbour(key, distance, images[key]) for key, distance in zip(*row, strict=True))
        for row in zip(keys, distances.tolist(), strict=True)
    ]


def bank_of(guard: Guard) -> KNN:
    """The detector that keeps training samples.

    Raises:
        ArgumentError: there is none.
    """
    if not (banks := [each for each in guard.each() if isinstance(each, KNN)]):
        raise ArgumentError("no detector of this guard keeps training samples: make it with KNN")
    return banks[0]
