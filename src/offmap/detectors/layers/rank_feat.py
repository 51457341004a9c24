"""Energy after the leading rank-one part of a feature map is taken away."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import name_or_names, positive
from offmap.activations import Sample, Tap
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_sum_exp


@register("rankfeat")
class RankFeat(Detector):
    r"""Energy of the logits without the leading singular part of the last feature maps.

    .. math:: F' = F - \sigma_1 u_1 v_1^\top, \qquad s = -T \log \sum_j \exp(\bar z_j / T)

    with :math:`F` the map of a layer, channels by positions, and :math:`\bar z` the mean of the
    logits that follow from :math:`F'` in each of the layers, one at a time. The network runs again
    for each layer.

    Args:
        layers: names of layers, or one, or ":stages[-1]" for the last of those with the smallest
            map; by default this and ":stages[-2]".
        temperature: divides the logits; positive.

    References:
        Song, Sebe and Wang, NeurIPS 2022, arXiv:2209.08590: the last two stages, fused.
    """

    year = 2022
    suits = "convolutional networks"
    needs = Needs.LOGITS | Needs.INPUTS

    def __init__(self, *, layers: str | list[str] | None = None, temperature: float = 1.0) -> None:
        super().__init__()
        self.layers = None if layers is None else name_or_names("layers", layers)
        self.temperature = positive("temperature", temperature)

    def _names(self) -> list[str]:
        if self.layers is None:
            return [":stages[-1]", ":stages[-2]"]
        return [self.layers] if isinstance(self.layers, str) else self.layers

    def taps(self) -> tuple[Tap, ...]:
        # Not read, but tapped, so that the rule is resolved and saved with a guard.
        rules = dict.fromkeys(n.partition("[")[0] for n in self._names() if n.startswith(":"))
        return tuple(Tap(rule) for rule in rules)

    def forward(self, sample: Sample) -> Float[Tensor, " n"]:
        edited = [
            sample.run(sample.inputs, edit={name: without_leading_part}).logits.double()
            for name in self._names()
        ]
        logits = torch.stack(edited).mean(0)
        return -self.temperature * log_sum_exp(logits / self.temperature)


def without_leading_part(output: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
    r"""Each map less its leading singular part: :math:`F - F v_1 v_1^\top`.

    :math:`v_1` is the leading eigenvector of :math:`F^\top F`, or of the smaller
    :math:`F F^\top`, in float64: exact, and quicker than all singular values.
    """
    maps = output.flatten(2).double()
    wide = maps.shape[1] < maps.shape[2]
    rows = maps.transpose(1, 2) if wide else maps
    leading = torch.linalg.eigh(rows.transpose(1, 2) @ rows).eigenvectors[:, :, -1:]
    residual = rows - (rows @ leading) @ leading.transpose(1, 2)
    maps = residual.transpose(1, 2) if wide else residual
    result: Tensor = maps.reshape(output.shape).to(output.dtype)
    return result
