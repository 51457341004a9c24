"""Rectified activations."""

from __future__ import annotations

from typing import Any, Self

from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import number
from offmap._utils.warning import warn_user
from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import DegenerateError, FeaturesWarning
from offmap.stats import Histogram, Mean, Product, Quantile, Statistic

# Share of the training samples beyond which fitting warns. A network is surest of these: clipping
# changes several times as many predictions of new data. On CIFAR-10, clipped at 0.8, 0.9, 0.95 and
# 0.99, a ResNet-20 and a ResNet-56 had at most 0.5 %, and a DenseNet-BC-100 at 0.95 had 0.8 %. At
# 0.9 it had 6 %, and AUROC on SVHN and textures fell from 94 and 88 (energy) to 65 and 71; at 0.8
# 70 %, and 18 and 40. So the limit lies between 0.8 and 6 %. Below it nothing is promised: at 0.9
# the ResNet-56 lost 8 points on SVHN without one prediction changed.
_MUCH = 0.02


@register("react")
class ReAct(Shaper):
    r"""Clips the features at a quantile of the training features.

    .. math:: h' = \min(h, t), \qquad z' = W h' + b

    with :math:`t` the quantile of the features of all units pooled: one number. It is exact,
    from two passes over the training features. The second one also counts how many training
    samples are predicted as another class once they are clipped, which tells whether the
    clipped network is still the same one: where these are many, fitting warns. That they are few
    does not say that clipping helps.

    Args:
        inner: the detector that scores the clipped activations.
        quantile: in (0, 1].

    Attributes:
        threshold_: where features are clipped, ``()``.
        changed_: share of the training samples whose predicted class the clipping changes, ``()``,
            float64; counted with the threshold as the first pass tells it, to four parts in a
            thousand.

    Raises:
        DegenerateError: in fitting, if the quantile is the smallest feature, as where most are 0.

    References:
        Sun, Guo and Li, NeurIPS 2021, arXiv:2111.12797.
    """

    stages = (Stage(reads=Needs.FEATURES), Stage(reads=Needs.FEATURES))
    year = 2021
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True
    threshold_: Tensor
    changed_: Tensor

    def __init__(self, inner: Detector, *, quantile: float = 0.9) -> None:
        super().__init__(inner)
        self.quantile = number("quantile", quantile, above=0, most=1)

    @classmethod
    def default(cls) -> Self:
        """ReAct around the energy, as in the paper."""
        return cls(Energy())

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Statistic:
        if stage == 0:
            return Histogram.coarse(acts.features)
        located = self._located()
        fine = Histogram.fine(acts.features, located.bins)
        return Product((fine, Mean.of(self._changed(acts.features.float(), located.roughly()))))

    def _located(self) -> Quantile:
        return Quantile.unpacked(self.get_buffer("located_"))

    def _changed(
        self, features: Float[Tensor, "n d"], threshold: Float64[Tensor, ""]
    ) -> Float64[Tensor, "n 1"]:
        """1 for each sample that is predicted as another class once it is clipped there."""
        head = Head(self.weight_, self.bias_)
        clipped = head(features.minimum(threshold.float())).argmax(1)
        return (clipped != head(features).argmax(1)).double()[:, None]

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            self.set_buffers(located_=Quantile.locate(stats, self.quantile).packed())
            return
        fine, changed = stats.parts
        quantile = self._located()
        value = quantile.value(fine)
        if quantile.is_least(fine):
            raise DegenerateError(
                f"{self!r}: that quantile is the smallest of all features, {float(value):.4g}, "
                "so clipping there leaves nothing: choose a higher one"
            )
        share = float(changed.mean[0])
        if share > _MUCH:
            warn_user(
                f"{self!r}: clipping there changes the predicted class of {share:.1%} of the "
                "training samples, so scores of the clipped logits are those of a worse network: "
                "choose a higher quantile, such as 0.99",
                FeaturesWarning,
            )
        self.drop_buffers("located_")
        self.set_buffers(threshold_=value.float(), changed_=changed.mean[0])

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        return features.minimum(self.threshold_), head

    def summary(self) -> str:
        return (
            f"clips at {float(self.threshold_):.4g}, which changes the predicted class of "
            f"{float(self.changed_):.2%} of the training samples; then {self.inner.summary()}"
        )
