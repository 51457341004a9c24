"""Refusals of activations, labels and heads that a detector cannot use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.warning import warn_user
from offmap.activations import Activations, Head, Heads, Sample
from offmap.detectors._needs import Needs
from offmap.detectors._plan import nodes
from offmap.errors import FeaturesWarning, LabelError, NeedsError, ShapeError

if TYPE_CHECKING:
    from offmap.detectors._detector import Detector


def columns(acts: Activations) -> tuple[int, int, int]:
    """Columns of logits and features, 0 where there are none, and members.

    Features are those of the first member, where there are several.
    """
    network_acts = acts.members[0] if acts.members else acts
    logits = network_acts.logits.shape[1] if network_acts.has_logits else 0
    return (
        logits,
        network_acts.features.shape[1] if network_acts.has_features else 0,
        len(acts.members),
    )


def check_needs(needs: Needs, acts: Activations | Sample, detector: object) -> None:
    """Refuse activations without the logits, features, distances or members that are read.

    Ensembles are refused too by detectors of one network: their logits are logarithms of
    probabilities, whose energy, for one, is always 0.
    """
    if isinstance(acts, Sample):
        acts = acts.acts
    elif Needs.INPUTS in needs:
        raise NeedsError(
            f"{detector!r} runs the network again on the inputs, and activations alone do not have "
            "them: use Guard or evaluate on the inputs themselves"
        )
    if Needs.MEMBERS in needs:
        if not acts.members:
            raise NeedsError(
                f"{detector!r} is for an ensemble, see offmap.networks.Ensemble; these activations "
                "are those of one network"
            )
        for member in acts.members:
            check_needs(needs & ~(Needs.MEMBERS | Needs.INPUTS), member, detector)
        return
    if acts.members:
        raise NeedsError(
            f"{detector!r} reads one network's activations; for an ensemble wrap it: "
            "MemberMean(...)"
        )
    if Needs.LOGITS in needs and not acts.has_logits:
        raise NeedsError(f"{detector!r} reads logits, and these activations have none")
    if Needs.FEATURES in needs and not acts.has_features:
        reason = f": {acts.absent}" if acts.absent else ""
        raise NeedsError(f"{detector!r} reads features, and these activations have none{reason}")
    if Needs.DISTANCES in needs and bool((acts.logits > 0).any()):
        raise NeedsError(
            f"{detector!r} reads logits that are minus distances, and these are above 0: it is for "
            "networks trained with class anchors, see offmap.networks.AnchorHead"
        )


def check_columns(acts: Activations | Sample, fitted_on: Tensor, detector: str) -> None:
    """Refuse activations of other widths than those of the fit; a width of 0 is not checked."""
    acts = acts.acts if isinstance(acts, Sample) else acts
    logits, features, members = fitted_on.tolist()
    widths = columns(acts)
    if members and widths[2] != members:
        raise ShapeError(
            f"this {detector} was fitted on {members} members, and the activations are those of "
            f"{widths[2]}: is it the same ensemble?"
        )
    for name, width, fitted_width in (
        ("logits", widths[0], logits),
        ("features", widths[1], features),
    ):
        if fitted_width and width and width != fitted_width:
            raise ShapeError(
                f"{name} have {width} columns, but this {detector} was fitted on {fitted_width}: "
                "is it the same network?"
            )


def check_labels(labels: Tensor | None, acts: Activations, detector: object) -> None:
    """Refuse labels that are not class indices of these logits, one a sample."""
    if labels is None:
        raise LabelError(f"{detector!r} needs labels to fit, and the data has none")
    if labels.is_floating_point() or labels.shape != (len(acts),):
        raise LabelError(
            f"labels must be {len(acts)} integers, one a sample; "
            f"seen {labels.dtype} of shape {tuple(labels.shape)}"
        )
    classes = columns(acts)[0]
    labels = labels.long()  # a narrower type may not hold the number of classes
    outside = (labels < 0) | (labels >= classes if classes else labels < 0)
    if outside.any():
        below = f"outside 0 … {classes - 1}, the network's classes" if classes else "below 0"
        raise LabelError(
            f"{int(outside.sum())} labels lie {below}; the first is {int(labels[outside][0])}"
        )


def check_head(head: Head | Heads | None, acts: Activations, detector: object) -> None:
    """Refuse a head of another shape than the activations'."""
    heads = head if isinstance(head, tuple) else (head,)
    networks = acts.members or (acts,)
    if len(heads) != len(networks) or (acts.members and isinstance(head, Head)):
        raise ShapeError(
            f"{detector!r} takes one head for each of {len(acts.members)} members: give head= as a "
            f"tuple of so many; seen {len(heads) if isinstance(head, tuple) else 'a single one'}"
        )
    for layer, network_acts in zip(heads, networks, strict=True):
        shape = columns(network_acts)[:2]
        if layer is not None and 0 not in shape and tuple(layer.weight.shape) != shape:
            raise ShapeError(
                f"{detector!r}: the head is of shape {tuple(layer.weight.shape)}, and the "
                f"activations have {shape[0]} logits and {shape[1]} features: give the head of "
                "these logits"
            )


def check_positive(features: Float[Tensor, "n d"], detector: object) -> None:
    """Refuse negative features: cancelling terms would hide how few features hold the sum."""
    if torch.compiler.is_exporting():
        return
    if bool((features < 0).any()):
        raise NeedsError(
            f"{detector!r} is for features that come from a ReLU, and these go down to "
            f"{float(features.min()):.3g}: leave it out for this network"
        )


def warn_signed(root: Detector, acts: Activations) -> None:
    """Warn of negative features where a method is made for those of a ReLU."""
    names = [type(node).__name__ for node in nodes(root) if node.for_relu]
    lowest = min(
        (
            float(network_acts.features.min())
            for network_acts in acts.members or (acts,)
            if network_acts.has_features
        ),
        default=0.0,
    )
    if names and lowest < 0:
        warn_user(
            f"{', '.join(dict.fromkeys(names))} suits networks whose features come from a ReLU, "
            f"and these go down to {lowest:.3g}: it often falls below chance there; leave it out, "
            "or compare it on OOD data of your own",
            FeaturesWarning,
        )
