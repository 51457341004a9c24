"""Sum of the relations to a bank of training samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.arguments import positive, share, whole
from offmap.activations import Activations
from offmap.detectors._chunks import by_rows
from offmap.detectors._detector import Detector
from offmap.detectors._directions import directions
from offmap.detectors._joint_bank import JointBank, too_large
from offmap.detectors._keys import packed_keys
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import Product


@register("relation")
class Relation(Detector):
    r"""Minus the sum of the relations to the training samples of a bank.

    .. math:: s(h, z) = -\sum_{i:\ r_i > \tau} r_i^t, \qquad
              r_i = \max\big(\cos(h, h_i), 0\big)\ p^\top p_i

    with :math:`p` the softmax of the logits: a relation is strong where features are alike and
    predictions are too. A sample without any above the cut scores 0, so that samples far off may
    tie. Features of norm 0 relate to nothing.

    Args:
        power: :math:`t`, the exponent of a relation; positive.
        cut: :math:`\tau`, what a relation must exceed to count, in [0, 1).
        bank: training samples to keep at most, where the paper keeps all: those with the smallest
            seeded hash, whatever their order.
        seed: chooses among them.

    Attributes:
        bank_: normalised training features, ``(m, d)``.
        probabilities_: their softmax probabilities, ``(m, c)``.
        keys_: keys of the rows, as bytes; none where the samples had none.

    Raises:
        DegenerateError: in fitting, if the features are all 0.

    References:
        Kim, Yun and Song, NeurIPS 2023, arXiv:2301.12321; an exponent of 1 for OOD detection, and
        the cut, as in its published code, which applies the exponent to the whole relation.
    """

    year = 2023
    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(),)
    bank_: Tensor
    probabilities_: Tensor
    keys_: Tensor

    def __init__(
        self, power: float = 1.0, *, cut: float = 0.03, bank: int = 10_000, seed: int = 0
    ) -> None:
        super().__init__()
        self.power = positive("power", power)
        self.cut = share("cut", cut)
        self.bank = whole("bank", bank)
        self.seed = whole("seed", seed, low=0)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Product:
        return JointBank.collected(acts, size=self.bank, seed=self.seed)

    def solve(self, stage: int, stats: Product) -> None:
        bank = JointBank.of(stats, repr(self))
        p = bank.logits.double().softmax(1)
        self.set_buffers(
            bank_=bank.directions.float(), probabilities_=p.float(), keys_=packed_keys(bank.keys)
        )

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = directions(acts.features).float()
        p = acts.logits.double().softmax(1).float()
        return -by_rows(self._sums, 3 * len(self.bank_), x, p)

    def _sums(self, x: Float[Tensor, "n d"], p: Float[Tensor, "n c"]) -> Float64[Tensor, " n"]:
        relations = F.linear(x, self.bank_).relu() * F.linear(p, self.probabilities_)
        strong = torch.where(relations > self.cut, relations, 0.0)
        raised = strong if self.power == 1 else strong.pow(self.power)
        return raised.sum(1, dtype=torch.float64)

    def footprint(self, classes: int, features: int) -> int:
        return 4 * self.bank * (classes + features)

    def not_exportable(self) -> str | None:
        return too_large(len(self.bank_), repr(self)) if self.fitted else None

    def summary(self) -> str:
        return f"bank of {len(self.bank_)} training samples; relations above {self.cut:g}"
