"""Distance to the k-th nearest neighbour."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap.activations import Activations
from offmap.detectors._base import Detector
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Bank

# Below this distance float32 similarities no longer tell neighbours apart to four digits.
_CLOSE = 0.03


class KNN(Detector):
    r"""Distance from the normalised features to their k-th neighbour in the training bank.

    .. math:: s(h) = \Big\| \tfrac{h}{\|h\|} - g_{(k)} \Big\|

    with :math:`g_{(k)}` the k-th nearest of the normalised training features. Features of norm 0
    stay 0. The search is exact.

    Args:
        k: which neighbour.
        bank: training samples to keep at most: those with the smallest seeded hash, whatever
            their order.
        seed: chooses among them.
        precision: of the similarities by which neighbours are ordered, "float32" or "float64".
        chunk_mb: bound on the memory of the similarities, in mebibytes; what fits the processor's
            cache is fastest.

    Attributes:
        bank_: normalised training features, ``(m, d)``.

    References:
        Sun et al., ICML 2022, arXiv:2204.06507.
    """

    needs = frozenset({"features"})
    stages = 1
    bank_: Tensor

    def __init__(
        self,
        k: int = 50,
        *,
        bank: int = 50_000,
        seed: int = 0,
        precision: Literal["float32", "float64"] = "float32",
        chunk_mb: int = 16,
    ) -> None:
        super().__init__()
        if not 1 <= k <= bank:
            raise ArgumentError(f"k must lie between 1 and bank; seen k={k} and bank={bank}")
        if precision not in ("float32", "float64") or chunk_mb < 1:
            raise ArgumentError(
                "precision must be 'float32' or 'float64' and chunk_mb at least 1; "
                f"seen {precision!r} and {chunk_mb}"
            )
        self.k = k
        self.bank = bank
        self.seed = seed
        self.precision = precision
        self.chunk_mb = chunk_mb

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Bank:
        assert acts.features is not None
        return Bank.of(acts.features, size=self.bank, seed=self.seed)

    def solve(self, stage: int, stats: Bank) -> None:
        if len(stats.rows) < self.k:
            raise DegenerateError(
                f"{self!r}: neighbour {self.k} was asked for, and there are {len(stats.rows)} "
                "training samples: lower k, or fit on more"
            )
        self.learn(bank_=self._normalised(stats.rows))

    def _normalised(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        x = F.normalize(features.double())  # 0 stays 0
        return x if self.precision == "float64" else x.float()

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        assert acts.features is not None
        x = self._normalised(acts.features)
        rows = max(1, (self.chunk_mb << 20) // (len(self.bank_) * x.element_size()))
        # A graph has no loop over chunks, whose number would depend on the batch.
        parts = [x] if torch.compiler.is_exporting() else torch.split(x, rows)
        return torch.cat([self._distances(part) for part in parts])

    def _distances(self, x: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        similarities = x @ self.bank_.T
        neighbours = self.bank_[_kth_largest(similarities, self.k)]
        # From the difference, because the expanded square of a small distance has no digits.
        found = (x.double() - neighbours.double()).square().sum(1).sqrt()
        if self.precision == "float64" or torch.compiler.is_exporting():
            return found
        for row in (found < _CLOSE).nonzero()[:, 0]:
            found[row] = self._exact(x[row], similarities[row])
        return found

    def _exact(self, x: Float[Tensor, " d"], similarities: Float[Tensor, " m"]) -> Tensor:
        """The k-th smallest distance itself, among four times as many candidates as are needed."""
        candidates = similarities.topk(min(4 * self.k, len(similarities))).indices
        gaps = x.double() - self.bank_[candidates].double()
        return gaps.square().sum(1).sqrt().kthvalue(self.k).values

    def summary(self) -> str:
        return f"bank of {len(self.bank_)} training samples; distance to neighbour {self.k}"


def _kth_largest(similarities: Float[Tensor, "n m"], k: int) -> Int64[Tensor, " n"]:
    """Column of the k-th largest value of each row.

    The k largest values lie in the k groups with the largest maxima, so sorting those groups
    alone gives the same answer and reads the whole row only once.
    """
    n, m = similarities.shape
    width = int((m / k) ** 0.5)
    if width < 2:
        return similarities.topk(k).indices[:, -1]
    groups = m // width
    whole = similarities[:, : groups * width].view(n, width, groups)
    best = whole.amax(1).topk(min(k, groups), sorted=False).indices
    offsets = torch.arange(width, device=best.device) * groups
    inside = (best[:, None] + offsets[:, None]).flatten(1)
    rest = torch.arange(groups * width, m, device=best.device).expand(n, -1)
    columns = torch.cat([inside, rest], dim=1)
    kth = similarities.gather(1, columns).topk(k).indices[:, -1:]
    return columns.gather(1, kth)[:, 0]
