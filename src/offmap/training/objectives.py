"""Objectives of training: functions of a network and a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from offmap.errors import ArgumentError, UnknownNameError
from offmap.training.batch import Batch, Objective, Outcome, member_logits
from offmap.training.disagreement import disagreement


def cross_entropy(network: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Outcome:
    """Mean cross entropy.

    Args:
        network: gives logits; the members of an ensemble each learn alone from their own images.
        batch: images and labels.
        label_smoothing: share of a target that is spread evenly over all classes.
    """
    logits = member_logits(network, batch.images)
    return Outcome(F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing), logits)


def logit_norm(network: nn.Module, batch: Batch, *, temperature: float = 0.04) -> Outcome:
    """Cross entropy of ``z / (t |z|)``: the network cannot lower it by longer logits alone.

    References:
        Wei et al., ICML 2022, arXiv:2205.09310.
    """
    logits = member_logits(network, batch.images)
    unit = logits / (logits.norm(dim=1, keepdim=True) + 1e-7)
    return Outcome(F.cross_entropy(unit / temperature, batch.labels), logits)


def outlier_exposure(network: nn.Module, batch: Batch, *, weight: float = 0.5) -> Outcome:
    """Mean cross entropy of ID, and ``weight`` times that of outliers to the uniform distribution.

    The two are separate means. Images and outliers pass the network together, as published, so that
    batch normalisation sees both. The entropy of the uniform target, a constant, is left out.

    References:
        Hendrycks et al., ICLR 2019, arXiv:1812.04606.
    """
    if batch.outliers is None:
        raise ArgumentError("outlier_exposure needs outliers: name a data set for them")
    joint = network(torch.cat([batch.images, batch.outliers])).float()
    logits, outlier_logits = joint.tensor_split([len(batch.images)])
    to_uniform = (outlier_logits.logsumexp(1) - outlier_logits.mean(1)).mean()
    return Outcome(F.cross_entropy(logits, batch.labels) + weight * to_uniform, logits)


def class_anchors(network: nn.Module, batch: Batch, *, weight: float = 0.1) -> Outcome:
    r"""Class anchor clustering, for a network whose logits are minus distances to anchors.

    .. math:: \log\Big(1 + \sum_{j \ne y} \exp(d_y - d_j)\Big) + \lambda d_y

    The first term, over all other classes, is the cross entropy of :math:`-d`.

    Args:
        network: such as :class:`offmap.networks.AnchorHead`.
        batch: images and labels.
        weight: lambda, of the distance to the anchor of the label.

    Raises:
        ArgumentError: logits above 0, which are no distances.

    References:
        Miller et al., WACV 2021, arXiv:2004.02434.
    """
    logits = member_logits(network, batch.images)
    if (logits.detach() > 0).any():
        raise ArgumentError("class_anchors needs a network of distances: wrap it in AnchorHead")
    distance = -logits.gather(1, batch.labels[:, None]).mean()
    return Outcome(F.cross_entropy(logits, batch.labels) + weight * distance, logits)


OBJECTIVES: dict[str, Callable[..., Outcome]] = {
    "class_anchors": class_anchors,
    "cross_entropy": cross_entropy,
    "disagreement": disagreement,
    "logit_norm": logit_norm,
    "outlier_exposure": outlier_exposure,
}


def objective(name: str, **options: Any) -> Objective:
    """An objective by name, with its options set.

    Raises:
        UnknownNameError: no such objective.
        ArgumentError: it has no such option, or a value is outside its range.
    """
    if name not in OBJECTIVES:
        raise UnknownNameError(f"no objective {name!r}: there are {', '.join(OBJECTIVES)}")
    function = OBJECTIVES[name]
    allowed = list(inspect.signature(function).parameters)[2:]
    if unknown := set(options) - set(allowed):
        raise ArgumentError(f"{name} has no option {sorted(unknown)[0]!r}: it has {allowed}")
    # Every option is a number; a weight may be 0, a temperature not, and smoothing is a share.
    ranges = {"temperature": "above 0", "label_smoothing": "from 0 up and below 1"}
    for option, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        in_range = value > 0 if number and option == "temperature" else number and value >= 0
        if not in_range or (option == "label_smoothing" and value >= 1):
            raise ArgumentError(
                f"{option} must be {ranges.get(option, 'from 0 up')}; seen {value!r}"
            )
    return partial(function, **options)
