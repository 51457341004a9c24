"""Energy, guided by the nearest neighbours in a bank that is weighted by energy."""

from __future__ import annotations

import math

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.arguments import number, whole
from offmap.activations import Activations
from offmap.detectors._chunks import by_rows
from offmap.detectors._confidences import check_confidence, confidence
from offmap.detectors._detector import Detector
from offmap.detectors._directions import directions
from offmap.detectors._joint_bank import JointBank, too_large
from offmap.detectors._keys import packed_keys
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError
from offmap.stats import Product

# Rows that the share of a small data set is raised to: ten for each of a hundred classes.
_LEAST = 1000


@register("nnguide")
class NNGuide(Detector):
    r"""Minus the energy, times the mean product with the nearest rows of an energy-weighted bank.

    .. math:: s(h, z) = -E(z)\, \frac1k \sum_{i \in \mathrm{top}\ k}
              \Big\langle \frac{h}{\|h\|}, g_i \Big\rangle, \qquad
              g_i = E(z_i) \frac{h_i}{\|h_i\|}, \qquad E(z) = \log \sum_j \exp z_j

    Nearest are the rows with the largest such product. Features of norm 0 stay 0. pytorch-ood
    takes cosines instead of products, which the energies of the bank do not change.

    Args:
        k: how many neighbours.
        share: of the training samples that the bank holds, filled up to 1000 where that is fewer:
            those with the smallest seeded hash, whatever their order.
        bank: rows to keep at most.
        seed: chooses among the samples.

    Attributes:
        bank_: the rows :math:`g_i`, ``(m, d)``.
        keys_: keys of the rows, as bytes; none where the samples had none.

    Raises:
        DegenerateError: in fitting, if there are fewer than ``k`` samples, the features are all 0,
            or :math:`E` is not positive on average: a product of two negative ones rises.

    References:
        Park, Jung and Teoh, ICCV 2023, arXiv:2309.14888; k of its published code, and the share of
        OpenOOD 1.5.
    """

    year = 2023
    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(),)
    bank_: Tensor
    keys_: Tensor

    def __init__(
        self, k: int = 10, *, share: float = 0.01, bank: int = 20_000, seed: int = 0
    ) -> None:
        super().__init__()
        self.bank = whole("bank", bank)
        self.k = whole("k", k, high=self.bank)
        self.share = number("share", share, above=0, most=1)
        self.seed = whole("seed", seed, low=0)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Product:
        return JointBank.collected(acts, size=self.bank, seed=self.seed)

    def solve(self, stage: int, stats: Product) -> None:
        bank = JointBank.of(stats, repr(self))
        rows = max(math.ceil(self.share * bank.samples), _LEAST)
        energies = confidence(bank.logits[:rows].double())
        if len(energies) < self.k:
            raise DegenerateError(
                f"{self!r}: {self.k} neighbours were asked for, and there are {len(energies)} "
                "training samples in the bank: lower k, or fit on more"
            )
        check_confidence(float(energies.mean()), repr(self), "KNN")
        guides = energies[:, None] * bank.directions[:rows]
        keys = None if bank.keys is None else bank.keys[:rows]
        self.set_buffers(bank_=guides.float(), keys_=packed_keys(keys))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        guidance = by_rows(self._guidance, len(self.bank_), directions(acts.features).float())
        return -confidence(acts.logits.double()) * guidance

    def _guidance(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return F.linear(x, self.bank_).topk(self.k).values.double().mean(1)

    def footprint(self, classes: int, features: int) -> int:
        return 4 * self.bank * (classes + features)

    def not_exportable(self) -> str | None:
        return too_large(len(self.bank_), repr(self)) if self.fitted else None

    def summary(self) -> str:
        return f"bank of {len(self.bank_)} training samples; mean of the {self.k} nearest"
