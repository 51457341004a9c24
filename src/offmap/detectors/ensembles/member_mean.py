"""Any single-network score, averaged over the members of an ensemble."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from offmap.activations import Activations, Head, Heads
from offmap.detectors._checks import check_needs
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.logits.msp import MSP
from offmap.errors import ArgumentError, ShapeError
from offmap.stats import Statistic

_COPY = re.compile(r"copies\.(\d+)\.")


@dataclass(frozen=True)
class MemberStatistics:
    """The statistics of the members, which add member by member.

    Args:
        each: one a member, in their order.
    """

    each: tuple[Statistic, ...]

    def __add__(self, other: Self) -> Self:
        """The statistics of both parts together."""
        return type(self)(tuple(a + b for a, b in zip(self.each, other.each, strict=True)))


@register("membermean")
class MemberMean(Detector):
    r"""Mean over the members of an ensemble of a single-network score.

    .. math:: s = \tfrac1M \sum_m s_m

    Every member has a copy of ``inner`` of its own, bound to the member's head and fitted on the
    member's activations. For ensembles, such as :class:`offmap.networks.Ensemble`.

    Args:
        inner: the score; it is copied for each member, and is not fitted itself.

    Attributes:
        copies: the fitted detectors of the members; none where there is nothing to learn.

    Raises:
        ArgumentError: ``inner`` is no detector of one network.
    """

    def __init__(self, inner: Detector) -> None:
        super().__init__()
        if not isinstance(inner, Detector):
            raise ArgumentError(f"MemberMean wraps a detector, such as ViM(); seen {inner!r}")
        if "members" in inner.needs:
            raise ArgumentError(
                f"MemberMean wraps a detector of one network, such as ViM(); {inner!r} is for an "
                "ensemble already"
            )
        self.inner = deepcopy(inner)
        self.copies = nn.ModuleList()
        self.needs = inner.needs | {"members"}
        self.stages = inner.stages

    @classmethod
    def default(cls) -> Self:
        """The mean of the members' MSP."""
        return cls(MSP())

    @property
    def _learns(self) -> bool:
        return self.stages > 0 or "head" in self.needs

    def prepare(self, first: Activations, head: Head | Heads | None) -> None:
        """Make a copy for each member of the first activations, and get each ready."""
        self.reset()
        check_needs(self.needs, first, self)
        if self._learns:
            self._copy(len(first.members))
            heads = self._heads(head, len(first.members))
            for each, member, own in zip(self._each(), first.members, heads, strict=True):
                each.prepare(member, own)

    def _heads(self, head: Head | Heads | None, members: int) -> Heads:
        heads = head if isinstance(head, tuple) else (head,) * members
        if len(heads) != members or isinstance(head, Head):
            raise ShapeError(
                f"{self!r} takes one head for each of {members} members: give head= as a tuple of "
                f"so many; seen {len(heads) if isinstance(head, tuple) else 'a single one'}"
            )
        return heads

    def _copy(self, members: int) -> None:
        self.copies = nn.ModuleList(deepcopy(self.inner) for _ in range(members))

    def _each(self) -> Iterator[Detector]:
        for each in self.copies:
            assert isinstance(each, Detector)
            yield each

    def _pairs(self, acts: Activations) -> list[tuple[Detector, Activations]]:
        """Each member's activations beside what scores them."""
        each = list(self._each()) if self._learns else [self.inner] * len(acts.members)
        if len(each) != len(acts.members):
            raise ShapeError(
                f"this MemberMean was fitted on {len(each)} members, and the activations are those "
                f"of {len(acts.members)}: is it the same ensemble?"
            )
        return list(zip(each, acts.members, strict=True))

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> MemberStatistics:
        return MemberStatistics(
            tuple(each.collect(stage, member, labels) for each, member in self._pairs(acts))
        )

    def solve(self, stage: int, stats: MemberStatistics) -> None:
        for each, own in zip(self._each(), stats.each, strict=True):
            each.solve(stage, own)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        scores = [each(member).double() for each, member in self._pairs(acts)]
        return torch.stack(scores).mean(0)

    def check(self, acts: Activations) -> None:
        super().check(acts)
        for each, member in self._pairs(acts):
            each.check(member)

    @property
    def fitted(self) -> bool:
        """Whether the copies of all members are there and fitted."""
        if not self._learns:
            return self.inner.fitted
        return len(self.copies) > 0 and all(each.fitted for each in self._each())

    def reset(self) -> None:
        """Forget the members, and what was learned of each."""
        super().reset()
        self.inner.reset()
        self.copies = nn.ModuleList()

    def make_room(self, names: Iterable[str]) -> None:
        seen = {int(found[1]) for name in names if (found := _COPY.match(name))}
        if seen == set(range(len(seen))):  # else there are tensors that have no place
            self._copy(len(seen))

    def summary(self) -> str:
        if not self._learns:
            return f"{self.inner.summary()}; mean over the members"
        first = next(self._each()).summary()
        return f"mean over {len(self.copies)} members; the first: {first}"
