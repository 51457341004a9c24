"""The maximum softmax probability of a calibrated network."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes, log_rest
from offmap.errors import DegenerateError
from offmap.stats import Mean

# Grid of inverse temperatures: close where the best one is for most networks, wider below, for
# logits that are far too large. Then the number of points of the fine grid.
_USUAL, _BELOW, _FINE = (0.05, 20.0, 41), (1e-6, 0.05, 30), 33
# How far the right logits lie above the mean, on average, where the labels leave the temperature
# open: the other probabilities are about exp(-20), and at four times that still a float32.
_HEIGHT = 20.0
_PLACE: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}  # whatever torch's defaults are
_ROUNDING = 1e-12  # share of that height, below which a derivative is 0


@register("temperaturescaled")
class TemperatureScaled(Detector):
    r"""One minus the maximum softmax probability, at the temperature that fits held-out labels.

    .. math:: s(z) = 1 - \max_j \mathrm{softmax}(z / T)_j, \qquad
              T = \arg\min_T\ -\tfrac1n \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    over labelled *calibration* data. The negative log-likelihood is convex in :math:`1/T`: the zero
    of its derivative is found on a coarse grid and then on a fine one, whose sums add up over
    batches. :math:`T` is kept within 0.05 and 10\ :sup:`6`. Where every label is right, :math:`T`
    would be 0, and so would most scores, in float32. It is then the temperature at which the logits
    of the labels lie 20 above the mean logit, on average, or 0.05 if that is more, and
    :meth:`summary` says so.

    Attributes:
        temperature_: ``()``.
        told_: whether the labels determine it, ``()``.

    Raises:
        DegenerateError: in fitting, if the labels contradict the predictions at any temperature.

    References:
        Guo et al., ICML 2017, arXiv:1706.04599.
    """

    year = 2017
    stages = (Stage("calibration", labels=True), Stage("calibration", labels=True))
    temperature_: Tensor
    told_: Tensor

    def collect(self, stage: int, acts: Activations, labels: Any) -> Mean:
        check_classes(acts.logits)
        z = acts.logits.double()
        right = z.gather(1, labels[:, None])[:, 0]
        slopes = [((b * z).softmax(1) * z).sum(1) - right for b in self._grid(z)]
        return Mean.of(torch.stack(slopes, dim=1))

    def _grid(self, z: Tensor) -> Tensor:
        """Inverse temperatures: the whole grid, or a fine one in the bracket of the first pass."""
        bracket = self._buffers.get("bracket_")
        if bracket is not None:
            grid = torch.linspace(0, 1, _FINE, **_PLACE).to(z)
            return torch.lerp(bracket[0], bracket[1], grid)
        below, usual = (
            torch.logspace(math.log10(low), math.log10(high), steps, **_PLACE).to(z)
            for low, high, steps in (_BELOW, _USUAL)
        )
        return torch.cat([below[:-1], usual])

    def solve(self, stage: int, stats: Mean) -> None:
        slopes, grid = stats.mean, self._grid(stats.mean)
        if stage == 0 and slopes[0] >= 0:
            raise DegenerateError(
                f"{self!r}: the labels of the calibration data contradict the predictions, so no "
                "temperature fits: are they the network's classes?"
            )
        # The derivative rises: its last value below 0, and the next one.
        i = min(int((slopes < 0).sum()) - 1, len(grid) - 2)
        low, high = grid[i], grid[i + 1]
        if stage == 0:
            height = -slopes[0]  # of softmax(0), nearly: above the mean logit
            crossing = slopes[-1] > _ROUNDING * height
            least = (_HEIGHT / height).clamp(max=grid[-1])
            bracket = torch.where(crossing, torch.stack([low, high]), least)
            self.set_buffers(bracket_=bracket, told_=crossing)
            return
        share = (slopes[i] / (slopes[i] - slopes[i + 1])).clamp(0, 1)
        beta = torch.lerp(low, high, share) if self.told_ and slopes[i + 1] > 0 else high
        self.drop_buffers("bracket_")
        self.set_buffers(temperature_=1 / beta)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return log_rest(acts.logits.double() / self.temperature_).exp()

    def summary(self) -> str:
        temperature = float(self.temperature_)
        if temperature <= 1.0001 / _USUAL[1]:
            return f"temperature {temperature:.4g}, the least there is"
        note = "" if self.told_ else ", by the size of the logits: no label is wrong enough to tell"
        return f"temperature {temperature:.4g}{note}"
