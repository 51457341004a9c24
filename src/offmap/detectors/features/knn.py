"""Distance to the k-th nearest neighbour."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.arguments import one_of, whole
from offmap._utils.warning import warn_user
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._keys import packed_keys, unpacked_keys
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError, OffmapWarning
from offmap.stats import Bank, Counts, Product

# Below this distance float32 products do not separate neighbours to four digits.
_CLOSE = 0.03
_TIE = 1e-5  # of products, within which rounding may change the order
_LARGEST_BANK = 20_000  # of a graph
_PART = 4096  # rows of the bank in float64 at a time


@register("knn", aliases=("dknn",))
class KNN(Detector):
    r"""Distance from the normalised features to their k-th neighbour in the training bank.

    .. math:: s(h) = \Big\| \tfrac{h}{\|h\|} - g_{(k)} \Big\|

    with :math:`g_{(k)}` the k-th nearest of the normalised training features. Features of norm 0
    stay 0. The search is exact: neighbours are ordered by products in ``precision``, and by
    float64 ones where float32 cannot separate them.

    Args:
        k: which neighbour. If a class has fewer samples in the bank, the distance is that to other
            classes: fitting with labels warns of it.
        bank: training samples to keep at most: those with the smallest seeded hash, whatever
            their order.
        seed: chooses among them.
        precision: of the similarities by which neighbours are ordered, "float32" or "float64".
        chunk_mb: bound on the memory of the similarities, in mebibytes; what fits the processor's
            cache is fastest.

    Attributes:
        bank_: normalised training features, ``(m, d)``.
        lift_: half of what the square of a row's norm lacks to 1, ``(m,)``, float64: 1/2 for rows
            of norm 0, else rounding. With it products are ordered as distances are.
        keys_: keys of the rows, as bytes; none where the samples had none.

    References:
        Sun et al., ICML 2022, arXiv:2204.06507.
    """

    year = 2022
    needs = Needs.FEATURES
    stages = (Stage(),)
    bank_: Tensor
    lift_: Tensor
    keys_: Tensor

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
        self.bank = whole("bank", bank)
        self.k = whole("k", k, high=self.bank)
        self.seed = whole("seed", seed, low=0)
        self.precision = one_of("precision", precision, ("float32", "float64"))
        self.chunk_mb = whole("chunk_mb", chunk_mb)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Product:
        bank = Bank.of(acts.features, size=self.bank, seed=self.seed, keys=acts.keys)
        return Product((bank, Counts.of(labels, acts.device)))

    def solve(self, stage: int, stats: Product) -> None:
        bank, counts = stats.parts
        assert isinstance(bank, Bank)
        assert isinstance(counts, Counts)
        rows = bank.rows
        if len(rows) < self.k:
            raise DegenerateError(
                f"{self!r}: neighbour {self.k} was asked for, and there are {len(rows)} "
                "training samples: lower k, or fit on more"
            )
        self._warn_of_small_classes(counts.counts, len(rows))
        check_directions(rows.shape[1], repr(self))
        if not rows.any():
            raise DegenerateError(
                f"{self!r}: the features of all {len(rows)} training samples are 0, and all others "
                "are at one distance from that: does the network's last layer read these?"
            )
        x = self._normalised(rows)
        self.set_buffers(bank_=x, lift_=0.5 * (1 - x.double().square().sum(1)))
        self.set_buffers(keys_=packed_keys(bank.keys))

    def _warn_of_small_classes(self, counts: Int64[Tensor, " c"], rows: int) -> None:
        if not (counts > 0).any():  # no labels were given
            return
        least = float(counts[counts > 0].min()) * rows / float(counts.sum())
        if least < self.k:
            warn_user(
                f"{self!r}: the smallest class has about {least:.0f} samples in the bank, so the "
                f"distance to neighbour {self.k} is one to other classes, and what lies between "
                "the classes scores lower than they do: lower k, or enlarge the bank",
                OffmapWarning,
            )

    def _normalised(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        x = directions(features)
        return x if self.precision == "float64" else x.float()

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = self._normalised(acts.features)
        rows = max(1, (self.chunk_mb << 20) // (len(self.bank_) * x.element_size()))
        # A graph has no loop over chunks, whose number would depend on the batch.
        parts = [x] if torch.compiler.is_exporting() else torch.split(x, rows)
        return torch.cat([self._distances(part) for part in parts])

    def _distances(self, x: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        # Nearness, half of 1 + |x|^2 - |x - g|^2, falls as the distance rises. The lift matters
        # beside rounding for rows of norm 0 alone, and leaving it out saves a tenth of the time.
        lifted = torch.compiler.is_exporting() or bool((self.lift_ > 0.25).any())
        lift = self.lift_.to(x.dtype) if lifted else None
        distances = self._kth(x, F.linear(x, self.bank_, lift))
        if self.precision == "float64" or torch.compiler.is_exporting():
            return distances
        if len(close := (distances < _CLOSE).nonzero()[:, 0]):
            rows = x[close].double()
            chunks = torch.split(self.bank_, _PART), torch.split(self.lift_, _PART)
            parts = zip(*chunks, strict=True)
            nearness = [F.linear(rows, bank.double(), lift) for bank, lift in parts]
            distances[close] = self._kth(rows, torch.cat(nearness, 1))
        return distances

    def _kth(self, x: Float[Tensor, "n d"], nearness: Float[Tensor, "n m"]) -> Tensor:
        neighbours = self.bank_[_kth_largest(nearness, self.k)]
        # From the difference, because the expanded square of a small distance has no digits.
        return (x.double() - neighbours.double()).square().sum(1).sqrt()

    def nearest(
        self, acts: Activations, count: int
    ) -> tuple[Float64[Tensor, "n k"], list[tuple[str, ...]] | None]:
        """Distances to the nearest rows of the bank, and their keys if the rows had some.

        Of rows at one distance, as of equal ones, the first in the bank come first.

        Args:
            acts: as for scoring.
            count: of the nearest; fewer in a smaller bank.
        """
        x = self._normalised(acts.features)
        count = min(count, len(self.bank_))
        nearness = F.linear(x, self.bank_, self.lift_.to(x.dtype))
        edges = nearness.topk(count).values[:, -1:] - _TIE
        masks = zip(x, nearness >= edges, strict=True)
        pairs = [self._nearest_rows(row, mask, count) for row, mask in masks]
        distances = torch.stack([d for d, _ in pairs]) if pairs else nearness[:, :count].double()
        keys = unpacked_keys(self.keys_)
        if keys is None:
            return distances, None
        return distances, [tuple(keys[i] for i in rows.tolist()) for _, rows in pairs]

    def _nearest_rows(
        self, x: Float[Tensor, " d"], mask: Bool[Tensor, " m"], count: int
    ) -> tuple[Float64[Tensor, " k"], Int64[Tensor, " k"]]:
        """The nearest of some rows, in order."""
        rows = mask.nonzero()[:, 0]
        distances = (x.double() - self.bank_[rows].double()).square().sum(1).sqrt()
        distances, order = distances.sort(stable=True)
        return distances[:count], rows[order[:count]]

    def footprint(self, classes: int, features: int) -> int:
        return self.bank * features * (8 if self.precision == "float64" else 4)

    def not_exportable(self) -> str | None:
        if not self.fitted or len(self.bank_) <= _LARGEST_BANK:
            return None
        return (
            f"{self!r} searches {len(self.bank_):,} rows: a graph holds the bank and compares each "
            f"batch with all of it at once, so export takes at most {_LARGEST_BANK:,}: fit and "
            f"calibrate again with bank={_LARGEST_BANK}"
        )

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
    grouped = similarities[:, : groups * width].view(n, width, groups)
    top_groups = grouped.amax(1).topk(min(k, groups), sorted=False).indices
    offsets = torch.arange(width, device=top_groups.device) * groups
    inside = (top_groups[:, None] + offsets[:, None]).flatten(1)
    remainder = torch.arange(groups * width, m, device=top_groups.device).expand(n, -1)
    columns = torch.cat([inside, remainder], dim=1)
    kth = similarities.gather(1, columns).topk(k).indices[:, -1:]
    return columns.gather(1, kth)[:, 0]
