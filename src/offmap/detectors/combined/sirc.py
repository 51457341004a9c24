"""A score of confidence that a second score may overrule."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import one_of, whole
from offmap.activations import Activations
from offmap.detectors._composite import Composite
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest, log_softmax
from offmap.detectors.features.residual import Residual
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Moments

_FIRST = ("msp", "entropy")
_SECOND = ("l1", "residual")
_SPAN = 3.0  # deviations below the mean from which the second score overrules
_SURE = -30.0  # below it, log(1 - p) and log(-log p) are equal in float64


@register("sirc")
class SIRC(Composite):
    r"""Softmax information retaining combination: to accept what is ID *and* rightly predicted.

    .. math:: s = \log(S_1^{\max} - S_1) + \log\big(1 + \exp(-b\, (S_2 - a))\big), \qquad
              a = \mu - 3 \sigma, \quad b = 1 / \sigma

    with :math:`\mu` and :math:`\sigma` the mean and deviation of :math:`S_2` over the training
    data. :math:`S_1` is the maximum softmax probability (:math:`S_1^{\max} = 1`), or minus the
    entropy (:math:`S_1^{\max} = 0`); :math:`S_2`, large for ID, the L1 norm of the features, or
    minus the residual of :class:`Residual`. Where :math:`S_2` is as of ID samples, the second
    term is nearly 0 and the order is that of :math:`S_1`, which tells wrong predictions; far below,
    it adds up. Made for selective classification, and for guards in a cascade.

    Args:
        first: :math:`S_1`, "msp" or "entropy".
        second: :math:`S_2`, "l1" or "residual", which needs the head.
        dim: principal space of the residual, as in :class:`Residual`.

    Attributes:
        a_: where the second score begins to overrule, ``()``.
        b_: how steeply, ``()``.

    Raises:
        DegenerateError: in fitting, if the second score is the same for all training samples.

    References:
        Xia and Bouganis, ACCV 2022, arXiv:2207.07506: the logarithm of its score, which has the
        same order and does not round.
    """

    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(),)
    parts_first = True
    year = 2022
    suits = "any classifier; the L1 norm, networks whose features come from a ReLU"
    a_: Tensor
    b_: Tensor

    def __init__(self, first: str = "msp", second: str = "l1", *, dim: int | None = None) -> None:
        first, second = one_of("first", first, _FIRST), one_of("second", second, _SECOND)
        if dim is not None and second != "residual":
            raise ArgumentError(f"dim is that of the residual, and second is {second!r}")
        super().__init__([Residual(dim)] if second == "residual" else [])
        self.first, self.second = first, second
        self.dim = None if dim is None else whole("dim", dim)

    def _second(self, acts: Activations) -> Float64[Tensor, " n"]:
        if self.second == "residual":
            return -self.part_scores(acts)[0].double()
        return acts.features.double().abs().sum(1)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Moments:
        return Moments.of(self._second(acts)[:, None])

    def solve(self, stage: int, stats: Moments) -> None:
        if bool(stats.constant):
            raise DegenerateError(
                f"{self!r}: {self.second} is {float(stats.mean):.4g} for all "
                f"{int(stats.count)} training samples: give more, or choose another second score"
            )
        deviation = stats.covariance[0, 0].sqrt()
        self.set_buffers(a_=stats.mean[0] - _SPAN * deviation, b_=1 / deviation)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        logits = acts.logits.double()
        gap = log_rest(logits) if self.first == "msp" else log_entropy(logits)
        t = self.b_ * (self.a_ - self._second(acts))
        # The softplus, by operators that ONNX Runtime has in float64.
        return gap + t.relu() + (-t.abs()).exp().log1p()

    def summary(self) -> str:
        line = f"{self.second} counts below {float(self.a_):.4g}"
        return "; ".join([*(part.summary() for part in self.all_parts()), line])


def log_entropy(logits: Float64[Tensor, "n c"]) -> Float64[Tensor, " n"]:
    """Logarithm of the entropy, finite however confident the softmax is."""
    log_p, log_gap = log_softmax(logits), log_rest(logits)
    # log(-log p) of the largest is log(1 - p) where that is small: log p itself would underflow.
    clamped = log_gap.clamp(min=_SURE)
    largest = (-(-clamped.exp()).log1p()).log() + (log_gap - clamped)
    top = logits.argmax(1, keepdim=True)
    # All others are at most 1/2, so that -log p is above 0 and has a logarithm.
    log_terms = (-log_p.scatter(1, top, -1.0)).log()
    return torch.logsumexp(log_p + log_terms.scatter(1, top, largest[:, None]), dim=1)
