"""Refusals of activations, labels and heads that a detector cannot use."""

from __future__ import annotations

from torch import Tensor

from offmap.activations import Activations
from offmap.errors import LabelError, NeedsError, ShapeError


def columns(acts: Activations) -> tuple[int, int]:
    """Columns of the logits and of the features, 0 where there are none."""
    return acts.logits.shape[1], 0 if acts.features is None else acts.features.shape[1]


def check_needs(needs: frozenset[str], acts: Activations, who: object) -> None:
    """Refuse activations without the features, distances or members that a detector reads.

    A detector of one network is not given an ensemble either: the logits are logarithms of
    probabilities there, so that their energy, say, would always be 0.
    """
    if "members" in needs:
        if not acts.members:
            raise NeedsError(
                f"{who!r} is for an ensemble, see offmap.networks.Ensemble; these activations are "
                "those of one network"
            )
        for member in acts.members:
            check_needs(needs - {"members"}, member, who)
        return
    if acts.members:
        raise NeedsError(
            f"{who!r} reads one network's activations; for an ensemble wrap it: MemberMean(...)"
        )
    if "features" in needs and acts.features is None:
        raise NeedsError(f"{who!r} reads features, and these activations have none")
    if "distances" in needs and bool((acts.logits > 0).any()):
        raise NeedsError(
            f"{who!r} reads logits that are minus distances, and these are above 0: it is for "
            "networks trained with class anchors, see offmap.networks.AnchorHead"
        )


def check_columns(acts: Activations, fitted_on: Tensor, who: str) -> None:
    """Refuse activations of another width than those of the fit; 0 stands for any."""
    for name, seen, known in zip(
        ("logits", "features"), columns(acts), fitted_on.tolist(), strict=True
    ):
        if known and seen != known:
            raise ShapeError(
                f"{name} have {seen} columns, but this {who} was fitted on {known}: "
                "is it the same network?"
            )


def check_labels(labels: Tensor | None, acts: Activations, who: object) -> None:
    """Refuse labels that are not class indices of these logits, one a sample."""
    if labels is None:
        raise LabelError(f"{who!r} needs labels to fit, and the data has none")
    if labels.is_floating_point() or labels.shape != (len(acts),):
        raise LabelError(
            f"labels must be {len(acts)} integers, one a sample; "
            f"seen {labels.dtype} of shape {tuple(labels.shape)}"
        )
    classes = acts.logits.shape[1]
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise LabelError(
            f"{int(outside.sum())} labels lie outside 0 … {classes - 1}, the network's classes; "
            f"the first is {int(labels[outside][0])}"
        )
