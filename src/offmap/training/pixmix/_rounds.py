"""The rounds of PixMix: images are mixed by addition or multiplication."""

from __future__ import annotations

from jaxtyping import Float32, Int64
from torch import Tensor

from offmap.training.pixmix._draws import Draws

Images = Float32[Tensor, "n c h w"]
Weights = Float32[Tensor, "n 1 1 1"]

_DARK = 1e-37  # in place of black, whose negative powers would be infinite


def mix_rounds(
    mixed: Images, pool: Float32[Tensor, "m c h w"], place: Int64[Tensor, "n k"], draws: Draws
) -> Images:
    """All rounds, in place; round ``r`` of image ``i`` mixes in ``pool[place[i, r]]``."""
    for r in range(place.shape[1]):
        active, multiply = draws.rounds > r, draws.multiply[:, r]
        for blend, selected in ((_add, ~multiply), (_multiply, multiply)):
            rows = (active & selected).nonzero()[:, 0]
            a, b = (weight[rows, r].view(-1, 1, 1, 1) for weight in (draws.a, draws.b))
            mixed[rows] = blend(mixed[rows], pool[place[rows, r]], a, b).clamp_(0, 1)
    return mixed


def _add(x: Images, y: Images, a: Weights, b: Weights) -> Images:
    return (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2


def _multiply(x: Images, y: Images, a: Weights, b: Weights) -> Images:
    # Two logarithms and one power cost less than two powers; log 0 = -inf gives 0, as it should.
    return (a * (2 * x).log2() + b * (2 * y).clamp(min=_DARK).log2() - 1).exp2()
