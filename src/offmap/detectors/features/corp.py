"""Reconstruction error of a principal component analysis of random Fourier features."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import positive, whole
from offmap.activations import Activations
from offmap.detectors._directions import directions
from offmap.detectors._registry import register
from offmap.detectors.features.cop import CoP
from offmap.stats import Mean, Product

_WIDEST = 4096


@register("corp")
class CoRP(CoP):
    r"""As :class:`CoP`, after random Fourier features of a Gaussian kernel.

    .. math:: s(h) = \big\| (I - U U^\top) (\varphi - \bar\varphi) \big\|, \qquad
              \varphi = \sqrt{\tfrac2M} \cos\Big(\Omega \frac{h}{\|h\|} + b\Big), \qquad
              \Omega_{ij} \sim N(0, 2\gamma), \qquad b_i \sim U(0, 2\pi)

    so that :math:`\varphi(x)^\top \varphi(y)` is about :math:`\exp(-\gamma \|x - y\|^2)`. With
    :math:`d` features and :math:`q` columns of :math:`U`, a score takes :math:`M d + 2 M q`
    multiplications in float64, and :math:`M` sines.

    Args:
        dim: number of directions, or the share of variance that they must hold, in (0, 1).
        gamma: of the kernel; positive.
        width: :math:`M`, the number of random features; by default four times that of features,
            and 4096 at most, which are the two of the published code. Its ``dim`` and ``gamma`` are
            those of a ResNet-18 on CIFAR-10, the defaults; 0.5 and 3 for a ResNet-50 on ImageNet.
        seed: draws them.

    Attributes:
        frequencies_: :math:`\Omega`, ``(M, d)``.
        phases_: :math:`b`, ``(M,)``.

    References:
        Fang et al., NeurIPS 2024, arXiv:2402.02949, algorithm 1.
    """

    year = 2024
    frequencies_: Tensor
    phases_: Tensor

    def __init__(
        self,
        dim: int | float = 0.8,
        *,
        gamma: float = 2.0,
        width: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dim)
        self.gamma = positive("gamma", gamma)
        self.width = None if width is None else whole("width", width, low=2)
        self.seed = whole("seed", seed, low=0)

    def _map(self, features: int) -> tuple[Float64[Tensor, "m d"], Float64[Tensor, " m"]]:
        """The random map, the same on every device."""
        return _random_map(features, self._width(features), self.gamma, self.seed)

    def _width(self, features: int) -> int:
        return min(4 * features, _WIDEST) if self.width is None else self.width

    def read(self, features: Float[Tensor, "n d"]) -> Float64[Tensor, "n m"]:
        if "frequencies_" in self._buffers:
            frequencies, phases = self.frequencies_, self.phases_
        else:  # in fitting
            frequencies, phases = (x.to(features.device) for x in self._map(features.shape[1]))
        angles = directions(features) @ frequencies.T + phases
        # A cosine, which older versions of ONNX Runtime lack in float64.
        return math.sqrt(2 / len(phases)) * (angles + math.pi / 2).sin()

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Any:
        # Of the mean only the length is read: the number of features.
        return Product((super().collect(stage, acts, labels), Mean.of(acts.features)))

    def solve(self, stage: int, stats: Any) -> None:
        moments, mean = stats.parts
        super().solve(stage, moments)
        # Copies: the random map is cached for other fits.
        frequencies, phases = (x.to(mean.mean.device).clone() for x in self._map(len(mean.mean)))
        self.set_buffers(frequencies_=frequencies, phases_=phases)

    def summary(self) -> str:
        return f"{super().summary()}, of random Fourier features"

    def footprint(self, classes: int, features: int) -> int:
        width = self._width(features)
        return 16 * width * max(width, features)


@lru_cache(maxsize=4)
def _random_map(features: int, width: int, gamma: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(
        width, features, generator=generator, device=generator.device, dtype=torch.float64
    )
    uniform = torch.rand(width, generator=generator, device=generator.device, dtype=torch.float64)
    return math.sqrt(2 * gamma) * normal, 2 * math.pi * uniform
