"""From points of the chaos game to pictures."""

from __future__ import annotations

from math import ceil, pi

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.draws import uniform
from offmap.training.fractals._systems import Systems

_FINE = 2  # pixels of the canvas a side, for one of the picture
_VISITS = 16  # points for each pixel of the canvas
_BURN_IN = 24  # steps until points are on the attractor, whatever their start
# Share of the points beyond each side of the picture: thin arms, which would shrink it.
_OUTSIDE = 0.02
_TINTS = 255  # steps of the palette: whole numbers add to the same sum in any order


def render(
    systems: Systems, h: int, w: int, generator: torch.Generator
) -> tuple[UInt8[Tensor, "f 3 h w"], Float32[Tensor, " f"]]:
    """Pictures, and the share of its pixels that each system's points visit."""
    height, width = _FINE * h, _FINE * w
    visits, tints = _play_chaos_game(systems, height, width, generator)
    occupied = F.avg_pool2d(visits, _FINE) > 0
    light = visits.log1p()
    peak = light.flatten(1).quantile(0.99, dim=1).clamp(min=1)
    light = (light / peak[:, None, None, None]).clamp(max=1)
    # The palette: a cosine for each of red, green and blue, with 0.8 to 2.4 turns.
    turns, phase = uniform(2, len(tints), 3, 1, 1, generator=generator)
    angles = (0.8 + 1.6 * turns) * (tints / visits.clamp(min=1)) + phase
    front = light * (0.5 + 0.5 * torch.cos(2 * pi * angles))
    # The background: the middle third, enlarged, and a glow; the colours exchanged.
    middle = (slice(u // 2 - max(u // 6, 1), u // 2 + max(u // 6, 1)) for u in (height, width))
    near = F.interpolate(front[:, :, *middle], size=(height, width), mode="bilinear")
    glow = F.adaptive_avg_pool2d(front, 5)
    glow = glow / glow.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    glow = F.interpolate(glow, size=(height, width), mode="bicubic").clamp(0, 1).sqrt()
    background = 0.7 * torch.maximum(near[:, [1, 2, 0]], 0.7 * glow[:, [2, 0, 1]])
    picture = F.avg_pool2d(front + (1 - light.sqrt()) * background, _FINE)
    pixels = (255 * picture).round().clamp(0, 255).to(torch.uint8)
    return pixels, occupied.float().mean((1, 2, 3))


def _play_chaos_game(
    systems: Systems, height: int, width: int, generator: torch.Generator
) -> tuple[Float32[Tensor, "f 1 h w"], Float32[Tensor, "f 1 h w"]]:
    """The chaos game: visits to each pixel, and the sum of the tints that they brought."""
    points = systems.start(generator)
    for _ in range(_BURN_IN):
        points = systems.step(points, generator)
    f, walkers = systems.tints.shape
    ends = torch.tensor([_OUTSIDE, 1 - _OUTSIDE], device="cpu")  # without the outermost points
    low, high = points[:2].quantile(ends, dim=2, keepdim=True)
    sides = torch.tensor([width, height], device="cpu")[:, None, None]
    canvas = torch.arange(f, device="cpu")[:, None] * (height * width)
    counts = torch.zeros(2, f * height * width, dtype=torch.int32, device="cpu")
    for _ in range(ceil(_VISITS * height * width / walkers)):
        points = systems.step(points, generator)
        places = ((points[:2] - low) / (high - low).clamp(min=1e-6) * sides).floor()
        inside = ((places >= 0) & (places < sides)).all(0)
        cells = (canvas + (places[1] * width + places[0]).long())[inside]
        tints = (points[2][inside] * _TINTS).round().int()
        counts[0].index_add_(0, cells, torch.ones_like(tints))
        counts[1].index_add_(0, cells, tints)
    visits, sums = counts.view(2, f, 1, height, width).float()
    return visits, sums / _TINTS
