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
    one = acts.members[0] if acts.members else acts
    logits = one.logits.shape[1] if one.has_logits else 0
    return logits, one.features.shape[1] if one.has_features else 0, len(acts.members)


def check_needs(needs: Needs, acts: Activations | Sample, who: object) -> None:
    """Refuse activations without the logits, features, distances or members that are read.

    A detector of one network is not given an ensemble either: the logits are logarithms of
    probabilities there, so that their energy, say, would always be 0.
    """
    if isinstance(acts, Sample):
        acts = acts.acts
    elif Needs.INPUTS in needs:
        raise NeedsError(
            f"{who!r} runs the network again on the inputs, and activations alone do not have "
            "them: use Guard or evaluate on the inputs themselves"
        )
    if Needs.MEMBERS in needs:
        _check_members(needs, acts, who)
        return
    if acts.members:
        raise NeedsError(
            f"{who!r} reads one network's activations; for an ensemble wrap it: MemberMean(...)"
        )
    if Needs.LOGITS in needs and not acts.has_logits:
        raise NeedsError(f"{who!r} reads logits, and these activations have none")
    if Needs.FEATURES in needs and not acts.has_features:
        why = f": {acts.absent}" if acts.absent else ""
        raise NeedsError(f"{who!r} reads features, and these activations have none{why}")
    if Needs.DISTANCES in needs and bool((acts.logits > 0).any()):
        raise NeedsError(
            f"{who!r} reads logits that are minus distances, and these are above 0: it is for "
            "networks trained with class anchors, see offmap.networks.AnchorHead"
        )


def _check_members(needs: Needs, acts: Activations, who: object) -> None:
    if not acts.members:
        raise NeedsError(
            f"{who!r} is for an ensemble, see offmap.networks.Ensemble; these activations are "
            "those of one network"
        )
    for member in acts.members:
        check_needs(needs & ~(Needs.MEMBERS | Needs.INPUTS), member, who)


def check_columns(acts: Activations | Sample, fitted_on: Tensor, who: str) -> None:
    """Refuse activations of another width than those of the fit; 0 stands for any, or for none."""
    acts = acts.acts if isinstance(acts, Sample) else acts
    logits, features, members = fitted_on.tolist()
    seen = columns(acts)
    if members and seen[2] != members:
        raise ShapeError(
            f"this {who} was fitted on {members} members, and the activations are those of "
            f"{seen[2]}: is it the same ensemble?"
        )
    for name, width, known in (("logits", seen[0], logits), ("features", seen[1], features)):
        if known and width and width != known:
            raise ShapeError(
                f"{name} have {width} columns, but this {who} was fitted on {known}: "
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
    classes = columns(acts)[0]
    labels = labels.long()  # the number of classes may be none of a narrower type
    outside = (labels < 0) | (labels >= classes if classes else labels < 0)
    if outside.any():
        below = f"outside 0 … {classes - 1}, the network's classes" if classes else "below 0"
        raise LabelError(
            f"{int(outside.sum())} labels lie {below}; the first is {int(labels[outside][0])}"
        )


def check_head(head: Head | Heads | None, acts: Activations, who: object) -> None:
    """Refuse a head of another shape than the activations'."""
    heads = head if isinstance(head, tuple) else (head,)
    networks = acts.members or (acts,)
    if len(heads) != len(networks) or (acts.members and isinstance(head, Head)):
        raise ShapeError(
            f"{who!r} takes one head for each of {len(acts.members)} members: give head= as a "
            f"tuple of so many; seen {len(heads) if isinstance(head, tuple) else 'a single one'}"
        )
    for each, one in zip(heads, networks, strict=True):
        shape = columns(one)[:2]
        if each is not None and 0 not in shape and tuple(each.weight.shape) != shape:
            raise ShapeError(
                f"{who!r}: the head is of shape {tuple(each.weight.shape)}, and the activations "
                f"have {shape[0]} logits and {shape[1]} features: give the head that made them"
            )


def check_positive(features: Float[Tensor, "n d"], who: object) -> None:
    """Refuse negative features, whose sums say nothing of how few hold them."""
    if torch.compiler.is_exporting():
        return
    if bool((features < 0).any()):
        raise NeedsError(
            f"{who!r} is for features that come from a ReLU, and these go down to "
            f"{float(features.min()):.3g}: leave it out for this network"
        )


def warn_signed(root: Detector, acts: Activations) -> None:
    """Tell of negative features where a method is made for those of a ReLU."""
    named = [type(node).__name__ for node in nodes(root) if node.for_relu]
    lowest = min(
        (float(one.features.min()) for one in acts.members or (acts,) if one.has_features),
        default=0.0,
    )
    if named and lowest < 0:
        warn_user(
            f"{', '.join(dict.fromkeys(named))} suits networks whose features come from a ReLU, "
            f"and these go down to {lowest:.3g}: it often falls below chance there; leave it out, "
            "or compare it on OOD data of your own",
            FeaturesWarning,
        )
