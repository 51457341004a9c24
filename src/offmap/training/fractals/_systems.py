"""Iterated function systems, and the points that wander through them."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float32
from torch import Tensor

from offmap._utils.draws import uniform

_MAPS = 8  # of a system, at most
_TRIES = 256  # sets of singular values from which one is chosen
_RARE = 0.02  # weight of a map that shrinks to nothing; without it the map would not be seen


@dataclass(frozen=True)
class Systems:
    """``f`` systems of affine maps, and ``p`` walkers in each.

    A walker's map is fixed; the walkers are shuffled before each step. So every point meets a
    random map, as in the chaos game, and a step is a few products of whole tensors.

    Args:
        maps: coefficients ``a, ..., f`` of ``(x, y) -> (a x + b y + c, d x + e y + f)``.
        tints: place in the palette, 0 to 1, that the walker's map pulls towards.
    """

    maps: Float32[Tensor, "6 f p"]
    tints: Float32[Tensor, "f p"]

    @classmethod
    def random(cls, f: int, walkers: int, generator: torch.Generator) -> Systems:
        """Systems of 2 to 8 maps, each map with walkers in proportion to its determinant."""
        count = torch.randint(2, _MAPS + 1, (f, 1), generator=generator, device=generator.device)
        used = torch.arange(_MAPS, device="cpu") < count
        system = torch.arange(f, device="cpu")[:, None]
        # Singular values: of many sets, the one whose sum of ``s1 + 2 s2`` over the maps in use is
        # nearest to (5.5 + maps) / 2.
        draws = uniform(2, f, _TRIES, _MAPS, generator=generator)
        large = draws[0].sqrt()
        small = large * draws[1]
        sums = ((large + 2 * small) * used[:, None]).sum(2)
        best = (sums - (5.5 + count) / 2).abs().argmin(1)
        s = torch.stack([large, small], -1)[system[:, 0], best]
        # Rotation, shrinking, rotation, mirroring and shift.
        angles = uniform(2, f, _MAPS, generator=generator) * 2 * pi
        cos, sin = angles.cos(), angles.sin()
        first, last = torch.stack([cos, -sin, sin, cos], -1).view(2, f, _MAPS, 2, 2)
        sides = (f, _MAPS, 1, 2)
        mirror = torch.randint(2, sides, generator=generator, device=generator.device) * 2 - 1
        linear = first @ (s[..., None] * last) * mirror
        shift = uniform(f, _MAPS, 2, 1, generator=generator) * 2 - 1
        maps = torch.cat([linear, shift], -1).flatten(2)
        # Each map has walkers in proportion to the share of an area that the map leaves.
        weights = (s.prod(-1) + _RARE) * used
        ends = (weights / weights.sum(1, keepdim=True)).cumsum(1)[:, :-1].contiguous()
        places = ((torch.arange(walkers, device="cpu") + 0.5) / walkers).expand(f, -1).contiguous()
        index = torch.searchsorted(ends, places)
        tints = uniform(f, _MAPS, generator=generator)
        return cls(maps[system, index].permute(2, 0, 1).contiguous(), tints[system, index])

    def start(self, generator: torch.Generator) -> Float32[Tensor, "3 f p"]:
        """Points ``x, y, tint`` anywhere in the unit square."""
        return uniform(3, *self.tints.shape, generator=generator)

    def step(
        self, points: Float32[Tensor, "3 f p"], generator: torch.Generator
    ) -> Float32[Tensor, "3 f p"]:
        """Every point through a random map of its system."""
        order = torch.randperm(points.shape[2], generator=generator, device=generator.device)
        x, y, tint = points[:, :, order]
        a, b, c, d, e, f = self.maps
        return torch.stack([a * x + b * y + c, d * x + e * y + f, (tint + self.tints) / 2])
