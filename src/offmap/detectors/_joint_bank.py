"""A bounded sample of the training data's features, each with its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._directions import check_directions, directions
from offmap.errors import DegenerateError
from offmap.stats import Bank, Mean, Product

LARGEST_BANK = 20_000  # of a graph


@dataclass(frozen=True)
class JointBank:
    """Features and logits of the rows of a bank.

    Args:
        directions: the features, divided by their norms.
        logits: those of the network.
        samples: number of samples that the bank was drawn from.
        keys: of the rows, if they have any.
    """

    directions: Float64[Tensor, "m d"]
    logits: Float32[Tensor, "m c"]
    samples: int
    keys: tuple[str, ...] | None

    @classmethod
    def collected(cls, acts: Activations, *, size: int, seed: int) -> Product:
        """The statistic of one batch. The rows are drawn by features and logits alone."""
        rows = torch.cat([acts.features.float(), acts.logits.float()], dim=1)
        bank = Bank.of(rows, size=size, seed=seed, keys=acts.keys)
        return Product((bank, Mean.of(acts.logits)))

    @classmethod
    def of(cls, stats: Product, name: str) -> Self:
        """The bank that such statistics add up to.

        Raises:
            DegenerateError: the features are all 0.
            ShapeError: there is a single feature.
        """
        bank, mean = stats.parts
        assert isinstance(bank, Bank)
        assert isinstance(mean, Mean)
        features, logits = bank.rows.tensor_split([-len(mean.mean)], dim=1)
        check_directions(features.shape[1], name)
        if not features.any():
            raise DegenerateError(
                f"{name}: the features of all {len(features)} training samples are 0 and have no "
                "direction: does the network's last layer read these?"
            )
        return cls(directions(features), logits, int(mean.count), bank.keys)


def too_large(rows: int, name: str) -> str | None:
    """Why a graph cannot hold a bank of that size, or ``None``."""
    if rows <= LARGEST_BANK:
        return None
    return (
        f"{name} compares with {rows:,} rows: a graph holds the bank and compares each batch with "
        f"all of it at once, so export takes at most {LARGEST_BANK:,}: fit and calibrate again "
        f"with bank={LARGEST_BANK}"
    )
