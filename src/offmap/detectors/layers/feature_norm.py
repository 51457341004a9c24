"""Norm of the feature maps of one block, chosen without OOD data."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import name_or_names, whole
from offmap.activations import Activations, Sample, Tap
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError, NeedsError
from offmap.stats import Mean

_ORDERS = 64  # of the tiles, seeded; the bits of an input choose one


@register("featurenorm")
class FeatureNorm(Detector):
    r"""Minus the norm of the feature maps in the block that tells images from their jigsaws best.

    .. math:: f_B(x) = \frac1K \sum_{k=1}^K \| \max(F_k, 0) \|_2, \qquad
              B = \arg\max_b\ \mathbb E \frac{f_b(x)}{f_b(\tilde x)}, \qquad s(x) = -f_B(x)

    with :math:`F_k` the map of channel :math:`k` of a block, and :math:`\tilde x` a training image
    whose tiles, 3 a side, lie in another order. In fitting the network runs once more; a score
    reads the layers alone. Rows and columns that the tiles do not divide stay in their place (the
    published code blackens them); inputs that are no images are cut along their last dimension.

    Args:
        layers: names of the layers to choose from, or ":stages" for the last layer of each size of
            feature map; the paper chooses from all blocks.
        tiles: along each side.
        seed: of the orders.

    Attributes:
        ratios_: of each layer, ``(l,)``.
        chosen_: the layer with the greatest one, ``(1,)``.

    Raises:
        DegenerateError: in fitting, if the maps of no layer are above 0.
        NeedsError: likewise, if an input is smaller than the tiles.

    References:
        Yu et al., CVPR 2023, arXiv:2212.02295; jigsaws and ratio as in its published code.
    """

    year = 2023
    suits = "convolutional networks"
    needs = Needs.LOGITS
    stages = (Stage(inputs=True),)
    ratios_: Tensor
    chosen_: Tensor

    def __init__(
        self, *, layers: str | list[str] = ":stages", tiles: int = 3, seed: int = 0
    ) -> None:
        super().__init__()
        self.layers = name_or_names("layers", layers)
        self.tiles = whole("tiles", tiles, low=2)
        self.seed = whole("seed", seed, low=0)

    def taps(self) -> tuple[Tap, ...]:
        names = [self.layers] if isinstance(self.layers, str) else self.layers
        return tuple(Tap(name, "norm") for name in names)

    def _norms(self, acts: Activations) -> Float64[Tensor, "n l"]:
        return torch.cat([x.double() for tap in self.taps() for x in acts.tapped(tap)], dim=1)

    def collect(self, stage: int, acts: Sample, labels: Int64[Tensor, " n"] | None) -> Mean:
        norms = self._norms(acts.run(jigsaws(acts.inputs, self.tiles, self.seed)))
        # For a jigsaw of norm 0 the ratio is as large as it can be without a division by 0.
        return Mean.of(self._norms(acts.acts) / norms.clamp(min=torch.finfo(torch.float32).tiny))

    def solve(self, stage: int, stats: Mean) -> None:
        if not (stats.mean > 0).any():
            raise DegenerateError(
                f"{self!r}: the maps of all {len(stats.mean)} layers are 0 or below on the "
                "training data: choose layers behind a ReLU"
            )
        self.set_buffers(ratios_=stats.mean, chosen_=stats.mean.argmax()[None])

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return -self._norms(acts).index_select(1, self.chosen_)[:, 0]

    def summary(self) -> str:
        ratios = ", ".join(f"{ratio:.3g}" for ratio in self.ratios_.tolist())
        return f"norm of layer {int(self.chosen_) + 1} of {len(self.ratios_)}; ratios {ratios}"


def jigsaws(inputs: Float[Tensor, "n ..."], tiles: int, seed: int) -> Float[Tensor, "n ..."]:
    """Each input with its tiles in another order, chosen by its bits and the seed.

    So the order depends neither on the batch nor on the index in the data.

    Raises:
        NeedsError: an input is smaller than the tiles.
    """
    rows, height = (tiles, inputs.shape[-2]) if inputs.ndim > 3 else (1, 1)
    h, w = height // rows, inputs.shape[-1] // tiles
    if min(h, w) < 1:
        raise NeedsError(
            f"inputs of shape {tuple(inputs.shape[1:])} cannot be cut into {tiles} tiles a side: "
            "choose fewer"
        )
    images = inputs.reshape(len(inputs), -1, height, inputs.shape[-1]).clone()
    inside = images[:, :, : rows * h, : tiles * w]
    n, c = inside.shape[:2]
    parts = inside.reshape(n, c, rows, h, tiles, w).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    # The order of an input's tiles depends on nothing but its values.
    bits = inputs.float().flatten(1).contiguous().view(torch.int32).long().sum(1)
    order = _orders(rows * tiles, seed).to(inputs.device)[bits % _ORDERS]
    parts = parts[torch.arange(n, device=inputs.device)[:, None], order]
    parts = parts.reshape(n, rows, tiles, c, h, w).permute(0, 3, 1, 4, 2, 5)
    inside.copy_(parts.reshape(inside.shape))
    return images.reshape(inputs.shape)


def _orders(tiles: int, seed: int) -> Int64[Tensor, "64 t"]:
    """Random orders of the tiles, none of them the identity."""
    draws = torch.rand(
        _ORDERS,
        tiles,
        generator=torch.Generator().manual_seed(seed),
        device="cpu",
        dtype=torch.float32,
    )
    order = draws.argsort(1)
    identity = (order == torch.arange(tiles, device="cpu")).all(1, keepdim=True)
    return torch.where(identity, order.roll(1, 1), order)
