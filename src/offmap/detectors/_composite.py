"""What a shaper is: it changes features or head, and a wrapped detector sees the change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.errors import ArgumentError
from offmap.stats import Statistic


class Shaper(Detector):
    """Maps features and head to others, recomputes the logits, and lets ``inner`` score those.

    A subclass gives ``own_stages``, :meth:`collect_own`, :meth:`solve_own` and :meth:`shape`.
    Its own stages come first; the wrapped detector then fits on shaped activations.

    Attributes:
        weight_: the head's weight, ``(c, d)``.
        bias_: the head's bias, ``(c,)``; zero for a head without one.
    """

    own_stages: int = 0
    weight_: Tensor
    bias_: Tensor

    def __init__(self, inner: Detector) -> None:
        super().__init__()
        if not isinstance(inner, Detector):
            raise ArgumentError(
                f"{type(self).__name__} wraps a detector, such as Energy(); seen {inner!r}"
            )
        if "members" in inner.needs:
            raise ArgumentError(
                f"{type(self).__name__} shapes one network's features, and {inner!r} is for an "
                f"ensemble: put the shaper inside, MemberMean({type(self).__name__}(...))"
            )
        self.inner = deepcopy(inner)  # fitted on shaped activations, and the caller's is not
        self.needs = frozenset({"logits", "features", "head"}) | inner.needs
        self.stages = self.own_stages + inner.stages

    @classmethod
    def default(cls) -> Self:
        """The shaper around the detector of its paper."""
        raise NotImplementedError

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        """Shaped features, and the head to apply to them."""
        raise NotImplementedError

    def collect_own(self, stage: int, acts: Activations) -> Statistic:
        """The statistic of one batch for the shaper's own stage."""
        raise NotImplementedError

    def solve_own(self, stage: int, stats: Any) -> None:
        """Turn the sum of the statistics of the shaper's own stage into buffers."""
        raise NotImplementedError

    def bind(self, head: Head) -> None:
        bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias
        self.learn(weight_=head.weight.float().clone(), bias_=bias.float().clone())
        if self.own_stages == 0:
            self._bind_inner(head.weight.new_zeros(1, head.weight.shape[1]))

    def _bind_inner(self, features: Float[Tensor, "n d"]) -> None:
        """Give the wrapped detector the shaped head, which does not depend on the features."""
        self.inner.bind(self.shape(features, self._head)[1])

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Statistic:
        if stage < self.own_stages:
            return self.collect_own(stage, acts)
        return self.inner.collect(stage - self.own_stages, self.shaped(acts), labels)

    def solve(self, stage: int, stats: Any) -> None:
        if stage >= self.own_stages:
            return self.inner.solve(stage - self.own_stages, stats)
        self.solve_own(stage, stats)
        if stage == self.own_stages - 1:
            self._bind_inner(self.weight_.new_zeros(1, self.weight_.shape[1]))

    def shaped(self, acts: Activations) -> Activations:
        """The activations that the wrapped detector sees."""
        assert acts.features is not None
        features, head = self.shape(acts.features.float(), self._head)
        return Activations(head(features), features, acts.layers)

    @property
    def _head(self) -> Head:
        return Head(self.weight_, self.bias_)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.inner(self.shaped(acts))  # type: ignore[no-any-return]

    @property
    def fitted(self) -> bool:
        """Whether both the shaper and the wrapped detector are fitted."""
        return super().fitted and self.inner.fitted

    def reset(self) -> None:
        """Forget what both have learned."""
        super().reset()
        self.inner.reset()
