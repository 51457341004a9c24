"""Deviations of Gram matrices from their range in the predicted class."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.arguments import name_or_names
from offmap.activations import Activations, Tap
from offmap.detectors._chunks import by_rows
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import Extremes, Mean

# As in the published code: they keep divisions by an extreme, or by no deviation, finite.
_SMALLEST, _SMALLEST_MEAN = 1e-6, 1e-7
_ARRAYS = 10  # intermediates of a comparison, each of the size of the values


@register("gram")
class Gram(Detector):
    r"""By how much the Gram matrices of several layers leave the range of the predicted class.

    .. math:: s = \sum_l \frac{\delta_l}{\mathbb E[\delta_l]}, \qquad
              \delta_l = \sum_{p, i} \max\Big(\frac{m - g}{|m|}, \frac{g - M}{|M|}, 0\Big), \qquad
              g = \Big(\sum_k (F^p F^{p\top})_{ik}\Big)^{1/p}

    with :math:`F` the feature map of layer :math:`l`, channels by positions, powers :math:`p` from
    1 to 10, and :math:`m, M` the least and greatest :math:`g` of the training samples that are
    predicted as the same class. The mean deviation of each layer is that of *calibration* data.
    Where no training sample was predicted as a class, the extremes of all count.

    Args:
        layers: names of layers, or ":stages" for the last layer of each size of feature map.

    Attributes:
        low_: least values, ``(c, k)``.
        high_: greatest values, ``(c, k)``.
        expected_: mean deviation of each layer, ``(l,)``.

    References:
        Sastry and Oore, ICML 2020, arXiv:1912.12510.
    """

    year = 2020
    suits = "convolutional networks"
    needs = Needs.LOGITS
    stages = (Stage("train"), Stage("calibration"))
    low_: Tensor
    high_: Tensor
    expected_: Tensor

    def __init__(self, *, layers: str | list[str] = ":stages") -> None:
        super().__init__()
        self.layers = name_or_names("layers", layers)

    def taps(self) -> tuple[Tap, ...]:
        names = [self.layers] if isinstance(self.layers, str) else self.layers
        return tuple(Tap(name, "gram") for name in names)

    def _values(self, acts: Activations) -> list[Float[Tensor, "n _"]]:
        """The values of each layer, which differ in number."""
        return [x.flatten(1).double() for tap in self.taps() for x in acts.tapped(tap)]

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Extremes | Mean:
        if stage == 0:
            values = torch.cat(self._values(acts), dim=1)
            return Extremes.of(values, acts.logits.argmax(1), classes=acts.logits.shape[1])
        return Mean.of(self._deviations(acts))

    def solve(self, stage: int, stats: Extremes | Mean) -> None:
        if isinstance(stats, Mean):
            self.set_buffers(expected_=stats.mean + _SMALLEST_MEAN)
            return
        absent = stats.low > stats.high
        self.set_buffers(
            low_=torch.where(absent, stats.low.amin(0), stats.low),
            high_=torch.where(absent, stats.high.amax(0), stats.high),
        )

    def _deviations(self, acts: Activations) -> Float[Tensor, "n l"]:
        label = acts.logits.argmax(1)
        columns, start = [], 0
        for g in self._values(acts):
            part = slice(start, start := start + g.shape[1])
            low, high = self.low_[:, part], self.high_[:, part]
            beyond = partial(_beyond, low, high)
            columns.append(by_rows(beyond, _ARRAYS * g.shape[1], g, label))
        return torch.stack(columns, dim=1)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return (self._deviations(acts) / self.expected_).sum(1)

    def summary(self) -> str:
        return f"{self.low_.shape[1]} values of {len(self.expected_)} layers, by predicted class"


def _beyond(
    low: Float[Tensor, "c k"],
    high: Float[Tensor, "c k"],
    g: Float[Tensor, "n k"],
    label: Int64[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How far the values lie outside of the range of a class, relative to its limits."""
    least, greatest = low[label], high[label]
    below = (least - g).relu() / (least.abs() + _SMALLEST)
    above = (g - greatest).relu() / (greatest.abs() + _SMALLEST)
    return (below + above).sum(1)
