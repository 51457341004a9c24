"""The random decisions of PixMix."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from offmap.training.pixmix._augment import AUGMENTATIONS

_WEAKEST = 0.1  # level of an augmentation, at least


@dataclass(frozen=True)
class Draws:
    """The random decisions for each of ``n`` images, in at most ``k`` rounds.

    Of ``s = k + 1`` columns, the first is for the start and the others for the rounds. Columns
    beyond an image's number of rounds are not used.

    Args:
        picture: the picture of the mixing set, the same in all rounds.
        corner: top and left of the part of the picture that is used.
        rounds: how many, 0 to ``k``.
        augmented: whether the start is augmented; whether a round mixes with an augmented copy of
            the image rather than with the picture.
        op: which augmentation, an index into ``AUGMENTATIONS``.
        level: how strong it is.
        negative: whether it turns or moves the other way.
        multiply: whether a round multiplies rather than adds.
        a: weight of the image so far.
        b: weight of the picture or copy that is mixed in.
    """

    picture: Int64[Tensor, " n"]
    corner: Int64[Tensor, "n 2"]
    rounds: Int64[Tensor, " n"]
    augmented: Bool[Tensor, "n s"]
    op: Int64[Tensor, "n s"]
    level: Float64[Tensor, "n s"]
    negative: Bool[Tensor, "n s"]
    multiply: Bool[Tensor, "n k"]
    a: Float32[Tensor, "n k"]
    b: Float32[Tensor, "n k"]

    @classmethod
    def random(
        cls,
        n: int,
        k: int,
        *,
        beta: float,
        severity: float,
        pictures: int,
        spare: tuple[int, int],
        generator: torch.Generator,
    ) -> Draws:
        """Drawn as published.

        Args:
            n: number of images.
            k: rounds, at most.
            beta: of the weights, see :class:`~offmap.training.pixmix.PixMix`.
            severity: the highest level.
            pictures: in the mixing set.
            spare: rows and columns that a picture has more than an image.
            generator: of the draws, which lie on its device.
        """

        def uniform(*shape: int) -> Float64[Tensor, "..."]:
            # Never zero: see the weights.
            device = generator.device
            return 1 - torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

        def below(top: int, *shape: int) -> Int64[Tensor, "..."]:
            return torch.randint(top, shape, generator=generator, device=generator.device)

        # ``u ** (1 / beta)`` is distributed as Beta(beta, 1), and one minus it as Beta(1, beta). An
        # image's weight stays positive even for a tiny beta: a black pixel to the power 0 is 1.
        u = uniform(3, n, k)
        near_one = (u[1] ** (1 / beta)).clamp(min=1e-6)
        near_zero = 1 - u[2] ** (1 / beta)
        is_between = u[0] > 0.5
        return cls(
            picture=below(pictures, n),
            corner=torch.stack([below(s + 1, n) for s in spare], 1),
            rounds=below(k + 1, n),
            augmented=below(2, n, k + 1).bool(),
            op=below(len(AUGMENTATIONS), n, k + 1),
            level=_WEAKEST + (severity - _WEAKEST) * uniform(n, k + 1),
            negative=below(2, n, k + 1).bool(),
            multiply=below(2, n, k).bool(),
            a=torch.where(is_between, near_one, 2 - near_one).float(),
            b=torch.where(is_between, near_zero, -near_zero).float(),
        )

    def to(self, device: torch.device) -> Draws:
        """The same decisions on another device."""
        return Draws(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})
