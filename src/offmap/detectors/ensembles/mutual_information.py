"""Disagreement of an ensemble's members."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, log_mean
from offmap.detectors._detector import Detector
from offmap.detectors._members import log_probabilities
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register

# From here on a plain difference keeps eleven digits, and below the series does.
_SMALL = 0.01


@register("mutualinformation")
class MutualInformation(Detector):
    r"""Mutual information of the answer and the member that gives it, in nats.

    .. math:: s(q) = H(q) - \tfrac1M \sum_m H(q_m) = \tfrac1M \sum_m \mathrm{KL}(q_m \,\|\, q),
              \qquad q = \tfrac1M \sum_m q_m

    How far the members disagree. It is computed as the divergences, of which each term

    .. math:: q_{mj} \log \frac{q_{mj}}{q_j} - q_{mj} + q_j = q_{mj} (e^d - 1 - d), \qquad
              d = \log \frac{q_j}{q_{mj}}

    is positive or 0: nothing cancels, and members that agree have 0 and not less. For ensembles,
    such as :class:`offmap.networks.Ensemble`.

    References:
        Depeweg et al., ICML 2018, arXiv:1710.07283.
    """

    year = 2018
    suits = "ensembles of classifiers"
    needs = Needs.LOGITS | Needs.MEMBERS

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        log_q = log_probabilities(acts)
        mean = log_mean(log_q)
        q, d = log_q.exp(), mean - log_q
        # q (exp(d) - 1 - d), for small d by its series.
        series = 0.5 * q * d * d * (1 + d / 3 * (1 + d / 4 * (1 + d / 5)))
        terms = torch.where(d.abs() < _SMALL, series, mean.exp() - q - q * d)
        return terms.sum(2).mean(0)
