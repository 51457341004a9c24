"""Mahalanobis distances in several layers, on a common scale."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from offmap._utils.arguments import name_or_names, one_of
from offmap.activations import Activations, Tap
from offmap.detectors._common_scale import OnCommonScale
from offmap.detectors._needs import NOTHING, Needs
from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis


@register("multilayermahalanobis", aliases=("multimahalanobis", "mdsensemble"))
class MultiLayerMahalanobis(OnCommonScale):
    r"""Mahalanobis distances of the channels' means in several layers, standardised and averaged.

    .. math:: d_l(x) = \min_c\ (h_l - \mu_{lc})^\top \Sigma_l^{-1} (h_l - \mu_{lc}), \qquad
              s(x) = \frac1L \sum_{l=1}^L \frac{d_l(x) - \mathbb E d_l}{\mathrm{sd}(d_l)}

    with :math:`h_l` the mean of each channel of layer :math:`l` over its positions. Means and
    covariances are those of training data, :math:`\mathbb E` and :math:`\mathrm{sd}` those of
    *calibration* data. With ``how="fisher"`` the score is :math:`-\sum_l \log p_l` instead, with
    :math:`p_l` the share of calibration samples as far away, as in :class:`offmap.Combine`. The
    paper learns weights of the layers from OOD data, and pytorch-ood leaves them to the user.

    Args:
        layers: names of layers, or ":stages" for the last layer of each size of feature map.
        how: "mean" or "fisher".
        ridge: of each layer, as for :class:`Mahalanobis`.
        normalize: likewise.

    Attributes:
        scale_: mean and deviation of each layer's distance, ``(l, 2)``; for "fisher" the
            calibration distances, each row in ascending order, ``(l, n)``.

    Raises:
        DegenerateError: in fitting, if a layer does not vary within the classes.

    References:
        Lee et al., NeurIPS 2018, arXiv:1807.03888, section 2.2, without its input perturbation.
    """

    year = 2018
    suits = "convolutional networks"
    needs = Needs.LOGITS
    sees = NOTHING  # but the layers

    def __init__(
        self,
        *,
        layers: str | list[str] = ":stages",
        how: Literal["mean", "fisher"] = "mean",
        ridge: float = 1e-6,
        normalize: bool = False,
    ) -> None:
        one_of("how", how, ("mean", "fisher"))
        template = Mahalanobis(ridge=ridge, normalize=normalize)
        super().__init__(template=template, how=how)
        self.needs = type(self).needs  # the features of the parts are layers
        self.layers = name_or_names("layers", layers)
        self.ridge, self.normalize = template.ridge, template.normalize

    def taps(self) -> tuple[Tap, ...]:
        names = [self.layers] if isinstance(self.layers, str) else self.layers
        return tuple(Tap(name, "mean") for name in names)

    def _layer_means(self, acts: Activations) -> list[Tensor]:
        return [x for tap in self.taps() for x in acts.tapped(tap)]

    def copies(self, acts: Activations) -> int:
        return len(self._layer_means(acts))

    def see(self, i: int, acts: Activations) -> Activations:
        return acts.replace(features=self._layer_means(acts)[i])

    def summary(self) -> str:
        widths = ", ".join(str(len(part.get_buffer("centre_"))) for part in self.all_parts())
        return f"{self.how} of the distances in {len(self.parts)} layers of {widths} channels"
