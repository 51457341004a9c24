"""Class anchors estimated from the features of a trained network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.errors import LabelError
from offmap.forward import forward
from offmap.networks import AnchorHead

Placed = tuple[Float[Tensor, "n c"], Int64[Tensor, " n"], Int64[Tensor, " n"] | None]


def places(network: AnchorHead, data: Any, **options: Any) -> Iterator[Placed]:
    """Coordinates of images in the space of the anchors, predictions and labels, by batch.

    Args:
        network: trained with class anchors.
        data: a set of ``offmap.data``, or any iterable of batches.
        **options: of :func:`offmap.forward.forward`, such as ``normalization``.
    """
    for acts, labels in forward(network, data, **options):
        features = acts.features.to(network.anchors.device)
        yield network.linear(features).detach(), acts.predictions, labels


def with_estimated_anchors(network: AnchorHead, data: Any, **options: Any) -> AnchorHead:
    r"""A copy of the network whose anchors are the means of its classes.

    .. math:: a_j = \mathrm{mean} \{ W z_i + b : y_i = j,\ \arg\min_k d_k(z_i) = j \}

    Misclassified samples do not count. A class without correctly classified samples keeps its
    anchor, with a warning.

    Args:
        network: trained with class anchors.
        data: its training data, un-augmented, with labels.
        **options: of :func:`offmap.forward.forward`, such as ``normalization``.

    Raises:
        LabelError: the data has no labels.
    """
    sums = torch.zeros(network.anchors.shape, dtype=torch.float64, device="cpu")
    counts = torch.zeros(len(sums), dtype=torch.int64, device="cpu")
    for coordinates, predictions, labels in places(network, data, **options):
        if labels is None:
            raise LabelError("anchors are estimated from labelled data, and this has no labels")
        correct = (predictions == labels).cpu()
        classes = predictions.cpu()[correct]
        sums.index_add_(0, classes, coordinates.double().cpu()[correct])
        counts += torch.bincount(classes, minlength=len(sums))
    if empty := (counts == 0).nonzero().ravel().tolist():
        warnings.warn(
            f"no sample of classes {empty} is classified correctly: their anchors stay",
            stacklevel=2,
        )
    result = copy.deepcopy(network)
    means = sums / counts.clamp(min=1)[:, None]
    result.anchors.copy_(torch.where(counts[:, None] > 0, means, network.anchors.cpu()))
    return result
