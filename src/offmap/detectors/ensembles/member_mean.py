"""Any single-network score, averaged over the members of an ensemble."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, Head, Heads, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors.logits.msp import MSP
from offmap.errors import ArgumentError


@register("membermean")
class MemberMean(Composite):
    r"""Mean over the members of an ensemble of a single-network score.

    .. math:: s = \tfrac1M \sum_m s_m

    Every member has a copy of ``inner`` of its own, bound to the member's head and fitted on the
    member's activations. For ensembles, such as :class:`offmap.networks.Ensemble`.

    Args:
        inner: the score; it is copied for each member, and is not fitted itself.

    Raises:
        ArgumentError: ``inner`` is no detector of one network.
    """

    suits = "ensembles of classifiers"
    needs = Needs.MEMBERS

    def __init__(self, inner: Detector) -> None:
        if not isinstance(inner, Detector):
            raise ArgumentError(f"MemberMean wraps a detector, such as ViM(); seen {inner!r}")
        if Needs.MEMBERS in inner.needs:
            raise ArgumentError(
                f"MemberMean wraps a detector of one network, such as ViM(); {inner!r} is for an "
                "ensemble already"
            )
        super().__init__(template=inner)

    @property
    def inner(self) -> Detector:
        """The score that is copied for each member."""
        assert self.template is not None
        return self.template

    @classmethod
    def default(cls) -> Self:
        """The mean of the members' MSP."""
        return cls(MSP())

    def copies(self, acts: Activations) -> int:
        return len(acts.members)

    def see(self, i: int, acts: Activations) -> Activations:
        return acts.members[i]

    def head_of(self, i: int, head: Head | Heads | None) -> Head | Heads | None:
        return head[i] if isinstance(head, tuple) else head

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return torch.stack([scores.double() for scores in self.part_scores(acts)]).mean(0)

    def summary(self) -> str:
        if not len(self.parts):
            return f"{self.inner.summary()}; mean over the members"
        return f"mean over {len(self.parts)} members; the first: {self.part(0).summary()}"
